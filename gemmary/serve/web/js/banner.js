// One line at the top for what people must know, with what they can do about it.

import { $, el, iconButton } from "./element.js";

let shown = null;

/** Show `text`. actions: [[label, what it does], ...]. Gives a handle for `hide` and `say`. */
export function banner(text, { actions = [], kind = "" } = {}) {
  const node = $("banner");
  const words = el("span", {}, text);
  const handle = { say: (more) => { words.textContent = more; } };
  shown = handle;
  node.className = `banner ${kind}`;
  node.replaceChildren(words,
    ...actions.map(([label, act]) => el("button.small", { type: "button", onclick: () => { hide(handle); act(); } }, label)),
    iconButton("cross", "Dismiss", () => hide(handle)));
  node.hidden = false;
  return handle;
}

/** Hide a banner, if it is still the one that is shown. */
export function hide(handle) {
  if (handle !== shown) return;
  shown = null;
  $("banner").hidden = true;
  $("banner").replaceChildren();
}

export const isShown = (handle) => handle !== null && handle === shown;
