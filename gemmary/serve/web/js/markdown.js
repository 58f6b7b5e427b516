// Markdown -> nodes. What a model writes is hostile: its HTML is text, and all markup passes DOMPurify.

import { Marked } from "/static/vendor/marked.js";
import "/static/vendor/purify.js";
import { formulas, typeset } from "./maths.js";
import { dress } from "./code.js";

const escaped = (text) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");

const LINK = /^(?:https?:\/\/|mailto:)/i;

const renderer = {
  html({ text, block }) {
    if (/^<br\s*\/?>$/i.test(text.trim())) return "<br>";
    return block ? `<p class="raw">${escaped(text.trimEnd())}</p>` : escaped(text);
  },
  // Never fetched: a picture's address can carry away what was said.
  image: ({ href, text }) =>
    LINK.test(href) ? `<a href="${escaped(href)}">${escaped(text || "picture")}</a>` : escaped(text || "picture"),
  link({ href, tokens }) {
    const inside = this.parser.parseInline(tokens);
    return LINK.test(href) ? `<a href="${escaped(href)}">${inside}</a>` : inside;
  },
  checkbox: ({ checked }) => (`<span class="task">${checked ? "☑" : "☐"}\uFE0E</span>`),
  code: ({ text, lang }) =>
    `<pre><code class="language-${escaped((lang || "").match(/^[\w+#.-]*/)[0])}">${escaped(text)}</code></pre>`,
};

const marked = new Marked({ gfm: true, breaks: false, renderer, extensions: formulas });

const SAFE = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
    "li", "ol", "p", "pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "class", "start", "align", "tabindex"],
  ALLOWED_URI_REGEXP: LINK,
  ADD_URI_SAFE_ATTR: ["align", "start", "tabindex"], // the others are held to the addresses that links may have
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** Markup -> nodes, only what is allowed. */
export const safe = (markup) => window.DOMPurify.sanitize(markup, SAFE);

/** The blocks of a text: {raw, ...}; all raws joined are the text. */
export function blocks(text) {
  return marked.lexer(text);
}

/** Nodes of one block. `open`: more of it may come. */
export function nodesOf(block, links, open = false) {
  const list = [block];
  list.links = links;
  const fragment = safe(marked.parser(list));
  for (const link of fragment.querySelectorAll("a")) {
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
  }
  for (const task of fragment.querySelectorAll("li .task")) task.closest("li").classList.add("todo");
  for (const table of fragment.querySelectorAll("table")) wrap(table);
  for (const code of fragment.querySelectorAll("pre > code")) dress(code, open);
  typeset(fragment);
  return [...fragment.childNodes];
}

function wrap(table) {
  const frame = document.createElement("div");
  frame.className = "table";
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "Table");
  table.replaceWith(frame);
  frame.append(table);
}
