// Code blocks: their language, a copy button, colours.

import { el, iconButton } from "./element.js";
import { copying } from "./copy.js";
import { safe } from "./markdown.js";

const LONGEST = 60_000; // letters that are coloured
let loading = null;

async function highlighter() {
  loading ??= import("/static/vendor/highlight.js").then((module) => module.default);
  return loading;
}

/** Put a code element into its frame. Colours come when it is closed, or at once if it is short. */
export function dress(code, open) {
  const language = /language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
  const pre = code.parentNode;
  const frame = el("figure.code", {},
    el("figcaption", {}, el("span", {}, language || "text"),
      copying(iconButton("copy", "Copy code"), () => code.textContent)));
  pre.replaceWith(frame);
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  frame.append(pre);
  if (language && code.textContent.length < (open ? 4000 : LONGEST)) colour(code, language);
}

let ready = null;

function colour(code, language) {
  if (ready) return paint(ready, code, language); // at once: an open block is drawn anew again and again
  highlighter().then((hljs) => {
    ready = hljs;
    paint(hljs, code, language);
  }).catch(() => { loading = null; });
}

function paint(hljs, code, language) {
  if (!hljs.getLanguage(language)) return;
  const { value } = hljs.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(safe(value));
}
