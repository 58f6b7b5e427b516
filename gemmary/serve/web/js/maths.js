// LaTeX. A dollar sign is a formula's only where it cannot be a price. KaTeX is loaded when a formula comes.

const LONGEST = 4000;
let loading = null;

function loaded() {
  loading ??= load().catch((error) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function load() {
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = "/static/vendor/katex.css";
  document.head.append(sheet);
  await import("/static/vendor/katex.js"); // sets window.katex
  return window.katex;
}

/** Give formulas in `root` (elements .math with their source as text) their shape; on errors they stay text. */
export function typeset(root) {
  for (const node of root.querySelectorAll(".math")) shape(node);
}

async function shape(node) {
  const source = node.textContent;
  const display = node.classList.contains("display");
  if (window.katex) return render(window.katex, node, source, display);
  try { render(await loaded(), node, source, display); } catch { /* its source is readable too */ }
}

function render(katex, node, source, display) {
  const shaped = document.createElement("span");
  try {
    katex.render(source, shaped, {
      displayMode: display, throwOnError: true, trust: false, strict: "ignore", maxExpand: 200, maxSize: 20,
    });
  } catch {
    node.textContent = display ? `$$${source}$$` : `$${source}$`;
    node.className = "math wrong";
    return;
  }
  node.replaceChildren(shaped);
  node.classList.add("shaped");
}

const PRICE = /^\d[\d.,]*(?:\s+[A-Za-z]{2,}|\s*$)/;

/** Where an inline formula at the start of `text` ends and what it says; null if none begins there. */
function inlineAt(text) {
  if (text.startsWith("\\(")) return between(text, "\\(", "\\)", false);
  if (text.startsWith("\\[")) return between(text, "\\[", "\\]", true);
  if (text.startsWith("$$")) return between(text, "$$", "$$", true);
  const found = /^\$(?![\s$])((?:\\[^\n]|[^$\\\n])+?)\$(?![\dA-Za-z$])/.exec(text.slice(0, LONGEST));
  if (!found || /\s$/.test(found[1]) || PRICE.test(found[1])) return null;
  return { raw: found[0], text: found[1], display: false };
}

function between(text, open, close, display) {
  const end = text.slice(0, LONGEST).indexOf(close, open.length);
  const inside = text.slice(open.length, end);
  if (end < 0 || !inside.trim() || inside.includes("\n\n")) return null;
  return { raw: text.slice(0, end + close.length), text: inside.trim(), display };
}

const escaped = (text) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");

const html = (token) =>
  `<span class="math${token.display ? " display" : ""}">${escaped(token.text)}</span>`;

/** Extensions for marked. */
export const formulas = [
  {
    name: "formula",
    level: "inline",
    start(text) {
      const at = text.search(/\\[([]|\$/);
      return at < 0 ? undefined : at;
    },
    tokenizer(text, tokens) {
      const before = tokens.at(-1)?.raw.at(-1);
      if (text[0] === "$" && before && /[A-Za-z\d]/.test(before)) return undefined; // US$5
      const found = inlineAt(text);
      return found ? { type: "formula", ...found } : undefined;
    },
    renderer: html,
  },
  {
    name: "formulas",
    level: "block",
    start(text) {
      const at = text.search(/(?:^|\n) {0,3}(?:\$\$|\\\[)/);
      return at < 0 ? undefined : at;
    },
    tokenizer(text) {
      const found = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/.exec(text);
      if (!found || found[0].length > LONGEST || /\n\s*\n/.test(found[0].trim())) return undefined;
      const inside = (found[1] ?? found[2]).trim();
      return inside ? { type: "formulas", raw: found[0], text: inside, display: true } : undefined;
    },
    renderer: (token) => `<div class="formula" tabindex="0">${html(token)}</div>`,
  },
];
