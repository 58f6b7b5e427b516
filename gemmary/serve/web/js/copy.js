// Copying, also where the clipboard is kept from pages that came without https.

import { setIcon } from "./element.js";

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOldWay(text);
  }
}

function copyOldWay(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  const before = document.activeElement;
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus?.();
  return done;
}

/** Let a button copy what `text()` gives, and say so. */
export function copying(button, text) {
  const label = button.title;
  let timer = 0;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    setIcon(button, done ? "check" : "cross", done ? "Copied" : "Copying is not allowed here");
    clearTimeout(timer);
    timer = setTimeout(() => setIcon(button, "copy", label), 1500);
  });
  return button;
}
