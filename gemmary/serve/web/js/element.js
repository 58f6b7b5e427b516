// DOM nodes from values. Text is only ever text: nothing here parses markup.

export const $ = (id) => document.getElementById(id);

/** el("button.icon", {title: "Copy", onclick}, "text", node): null and false children are left out. */
export function el(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && !key.includes("-")) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button that is an icon; its label is what it says to everybody who cannot see it, and its tooltip. */
export function iconButton(icon, label, onclick) {
  return el("button.icon", { type: "button", title: label, "aria-label": label, onclick }, iconOf(icon));
}

const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  sidebar: "M4 5h16v14H4zM9.500 5v14",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
  upload: "M12 15V4M7.500 8.500 12 4l4.500 4.500M4 15v4.500h16V15",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.500 9.500h.01",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  down: "M12 5v14M6 13l6 6 6-6",
  cross: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 12.500l4.500 4.500L19 7",
  again: "M19.500 12a7.500 7.500 0 1 1-2.200-5.300L20 9.400M20 4.500v5h-5",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.500 6.500l4 4",
  branch: "M7 15V4M7 20a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM17 9a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM17 9c0 5-3.500 6-7.500 7.500",
  bin: "M4.500 7h15M9.500 7V4.500h5V7M6.500 7l1 13h9l1-13M10.500 11v5.500M13.500 11v5.500",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  left: "M14.500 6l-6 6 6 6",
  right: "M9.500 6l6 6-6 6",
  on: "M5 6v12l8-6zM15 6v12l6-6",
  chat: "M4 5h16v11H11l-4.500 3.500V16H4z",
};
const SVG = "http://www.w3.org/2000/svg";

export function iconOf(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Draw the icons that the page's markup names. */
export function drawIcons(root) {
  for (const node of root.querySelectorAll("[data-icon]")) node.prepend(iconOf(node.dataset.icon));
}

export function setIcon(button, icon, label) {
  button.querySelector("svg")?.remove();
  button.prepend(iconOf(icon));
  button.title = label;
  button.setAttribute("aria-label", label);
}

/** An id that nobody else has; randomUUID is not there without https. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const whole = (number) => Math.round(number).toLocaleString("en");
