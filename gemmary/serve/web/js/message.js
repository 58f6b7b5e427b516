// How a message looks.

import { el, iconButton, whole } from "./element.js";
import { copying } from "./copy.js";
import { LiveText } from "./livetext.js";
import { shown, urlOf } from "./pictures.js";
import { picturesOf, textOf } from "./tree.js";

const NOTES = {
  length: "The answer reached its longest length.",
  cancelled: "Stopped.",
  cut: "The answer was cut off.",
  writing: "The answer was cut off.", // who wrote it is gone; see `elsewhere`
  context_full: "The context is full: begin a new chat, or go on from an earlier message.",
};
const GOES_ON = new Set(["length", "cancelled", "cut", "writing"]);

export class MessageView {
  /** `acts`: what the buttons do, by message id. */
  constructor(message, acts) {
    Object.assign(this, { message, acts, live: null, near: false, grows: false, actionsFor: "" });
    this.user = message.role === "user";
    this.body = el(this.user ? "div.said" : "div.prose");
    this.foot = el("div.acts");
    this.node = el("li", {}, el("article.message", {
      "aria-label": this.user ? "You" : "Gemma", className: `message ${message.role}`,
    }, this.body, this.foot));
    this.node.dataset.id = message.id;
    this.node.view = this;
    this.body.textContent = this.drawn = textOf(message); // Markdown comes when it is near the view
  }

  /** Draw it in full. */
  come() {
    if (this.near) return;
    this.near = true;
    this.draw();
  }

  draw() {
    const text = (this.drawn = textOf(this.message));
    if (this.user) {
      this.body.replaceChildren(...this.pictures(), ...(text ? [el("div.bubble", {}, text)] : []));
    } else {
      this.body.replaceChildren();
      this.live = new LiveText(this.body);
      this.live.finish(text);
    }
  }

  pictures() {
    const { id, pan } = this.acts.conversation();
    const found = picturesOf(this.message);
    if (!found.length) return [];
    return [el("div.pictures", {}, ...found.flatMap((picture) =>
      shown(picture, urlOf(id, picture.id), pan)))];
  }

  /** Take a message's new content, when it is not written here. */
  refresh(message) {
    this.message = message;
    if (this.node.classList.contains("writing") || textOf(message) === this.drawn) return;
    if (this.live) this.live.finish((this.drawn = textOf(message))); // blocks that are the same stay
    else if (this.near) this.draw();
    else this.body.textContent = this.drawn = textOf(message);
  }

  writing(on) {
    this.node.classList.toggle("writing", on);
    this.node.setAttribute("aria-busy", String(on));
    if (on) this.come();
  }

  /** Grow by what the model writes. */
  grow(drawn) {
    this.reading(null);
    this.live.push(textOf(this.message), drawn);
  }

  finish() {
    this.reading(null);
    this.drawn = textOf(this.message);
    this.live.finish(this.drawn);
    this.writing(false);
  }

  /** How much of the prompt is read: {processed, total}, or null. */
  reading(progress) {
    if (!progress) {
      this.bar?.remove();
      this.bar = null;
      return;
    }
    const known = progress.total > 0;
    const text = known ? `Reading ${whole(progress.processed)} of ${whole(progress.total)} tokens` : progress.text;
    if (!this.bar) {
      this.bar = el("div.reading", { role: "status" }, el("span"), el("progress", { "aria-label": "Reading" }));
      this.body.before(this.bar);
    }
    this.bar.firstChild.textContent = text;
    const meter = this.bar.lastChild;
    if (known) {
      meter.max = progress.total;
      meter.value = progress.processed;
    } else meter.removeAttribute("value");
  }

  /** Buttons, and which sibling of how many this is. `last`: the end of the branch. `busy`: something is written. */
  act(siblings, last, busy) {
    const { id, meta } = this.message;
    const state = JSON.stringify([siblings, last, busy, meta]);
    if (state === this.actionsFor) return;
    this.actionsFor = state;
    const focused = this.foot.contains(document.activeElement) ? document.activeElement.title : null;
    this.node.classList.toggle("last", last);
    this.foot.replaceChildren(...this.notes(last && !busy), this.buttons(siblings, busy, id, meta));
    if (focused) [...this.foot.querySelectorAll("button")].find((one) => one.title === focused)?.focus();
  }

  /** Whether another tab writes it. */
  elsewhere(on) {
    if (on === this.grows) return;
    this.grows = on;
    this.reading(on ? { text: "Being written in another tab" } : null);
    this.node.setAttribute("aria-busy", String(on));
  }

  notes(offered) {
    if (this.user || this.grows || !NOTES[this.message.meta.finish]) return [];
    const goes = offered && GOES_ON.has(this.message.meta.finish);
    return [el("p.note", {}, NOTES[this.message.meta.finish],
      goes && el("button.small", { type: "button", onclick: () => this.acts.goOn(this.message.id) }, "Continue"))];
  }

  buttons(siblings, busy, id, meta) {
    const { acts } = this;
    const row = el("div.buttons", {});
    if (siblings.length > 1) {
      row.classList.add("several");
      row.append(this.switcher(siblings, busy));
    }
    row.append(copying(iconButton("copy", "Copy"), () => textOf(this.message)));
    const more = this.user
      ? [iconButton("edit", "Edit", () => this.edit())]
      : [iconButton("again", "Answer again", () => acts.again(id))];
    more.push(iconButton("branch", "Branch into a new chat", () => acts.branch(id)));
    more.push(iconButton("bin", "Delete from here", () => acts.remove(id)));
    for (const button of more) button.disabled = busy;
    row.append(...more);
    if (!this.user) row.append(el("span.stats", {}, stats(meta)));
    return row;
  }

  switcher(siblings, busy) {
    const at = siblings.indexOf(this.message.id);
    const turn = (icon, label, to) => {
      const button = iconButton(icon, label, () => this.acts.choose(siblings[to]));
      button.disabled = busy || to < 0 || to >= siblings.length;
      return button;
    };
    return el("span.siblings", { role: "group", "aria-label": "Versions" },
      turn("left", "Previous version", at - 1), el("span", {}, `${at + 1}/${siblings.length}`),
      turn("right", "Next version", at + 1));
  }

  /** Let a question be written anew. */
  edit() {
    if (this.editor) return this.editor.querySelector("textarea").focus();
    const area = el("textarea", { value: textOf(this.message), rows: 3, "aria-label": "Edit message" });
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.node.classList.remove("editing");
      this.foot.querySelector('[title="Edit"]')?.focus();
    };
    const send = () => {
      const text = area.value.trim();
      if (!text && !picturesOf(this.message).length) return;
      close();
      this.acts.edit(this.message.id, text);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    this.editor = el("div.editor", {}, area, el("div", {},
      el("button.plain", { type: "button", onclick: close }, "Cancel"),
      el("button.solid", { type: "button", onclick: send }, "Send")));
    this.node.classList.add("editing");
    this.body.after(this.editor);
    area.focus();
  }
}

/** What is known of how an answer was made; an imported file may hold anything. */
function stats(meta) {
  const [tokens, speed, first] = [meta.tokens, meta.speed, meta.first].map((value) => (value > 0 ? Number(value) : 0));
  const parts = [];
  if (tokens) parts.push(`${whole(tokens)} tokens`);
  if (speed) parts.push(`${speed >= 10 ? whole(speed) : speed.toFixed(1)} tok/s`);
  if (first) parts.push(`first after ${first < 9950 ? (first / 1000).toFixed(1) : whole(first / 1000)} s`);
  return parts.join(" · ");
}
