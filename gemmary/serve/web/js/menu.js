// A small menu beside the button that opens it.

import { $, el } from "./element.js";

let open = null;

/** items: [[label, act, danger?], ...] */
export function menu(button, items) {
  if (open) return open();
  const buttons = items.map(([label, act, danger]) =>
    el(danger ? "button.danger" : "button", { type: "button", role: "menuitem", tabIndex: -1,
      onclick: () => { close(); act(); } }, label));
  const node = el("div.menu", { role: "menu", "aria-label": button.title }, ...buttons);
  const close = (back = true) => {
    open = null;
    node.remove();
    button.setAttribute("aria-expanded", "false");
    removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", close);
    if (back) button.focus();
  };
  const outside = (event) => { if (!node.contains(event.target) && event.target !== button) close(false); };
  node.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) buttons[(at + step + buttons.length) % buttons.length].focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  $("menus").append(node);
  place(node, button);
  button.setAttribute("aria-expanded", "true");
  addEventListener("pointerdown", outside, true);
  addEventListener("resize", close);
  buttons[0].focus();
  open = close;
}

function place(node, button) {
  const near = button.getBoundingClientRect();
  const { width, height } = node.getBoundingClientRect();
  const below = near.bottom + 4;
  node.style.left = `${Math.max(8, Math.min(near.left, innerWidth - width - 8))}px`;
  node.style.top = `${below + height > innerHeight - 8 ? Math.max(8, near.top - height - 4) : below}px`;
}
