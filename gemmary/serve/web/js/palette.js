// Search in all conversations, from the keyboard.

import { $, el } from "./element.js";

export class Palette {
  /** `open(id, message)` goes there. */
  constructor(store, open) {
    Object.assign(this, { store, open, at: 0, asked: 0 });
    $("query").addEventListener("input", () => this.look());
    $("palette").addEventListener("keydown", (event) => this.key(event));
  }

  show() {
    if (!this.store.kept) return;
    $("query").value = "";
    $("palette").showModal();
    this.look();
  }

  async look() {
    const asked = ++this.asked;
    const query = $("query").value.trim();
    await new Promise((resolve) => setTimeout(resolve, query ? 80 : 0));
    if (asked !== this.asked) return;
    let found = [];
    try {
      found = query ? await this.store.search(query) : await this.store.list(20);
    } catch (error) {
      if (asked === this.asked) this.say(error.message);
      return;
    }
    if (asked === this.asked) this.draw(found, query);
  }

  say(text) {
    $("hits").replaceChildren();
    $("none").textContent = text;
    $("none").hidden = !text;
  }

  draw(found, query) {
    this.say(found.length ? "" : query ? "Nothing found." : "No conversations yet.");
    this.at = 0;
    $("hits").replaceChildren(...found.map((one, index) => {
      const hit = el("li.hit", { role: "option", id: `hit-${index}`, onclick: () => this.go(one) },
        el("span.title", {}, one.title),
        one.found && el("span.around", {}, one.found.before, el("mark", {}, one.found.match), one.found.after));
      hit.go = () => this.go(one);
      return hit;
    }));
    this.mark();
  }

  mark() {
    [...$("hits").children].forEach((hit, index) => {
      hit.setAttribute("aria-selected", String(index === this.at));
      if (index === this.at) hit.scrollIntoView({ block: "nearest" });
    });
    if ($("hits").children.length) $("query").setAttribute("aria-activedescendant", `hit-${this.at}`);
    else $("query").removeAttribute("aria-activedescendant");
  }

  key(event) {
    const count = $("hits").children.length;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && count) {
      this.at = (this.at + step + count) % count;
      this.mark();
      event.preventDefault();
    } else if (event.key === "Escape") {
      event.preventDefault(); // a search field would only be emptied
      $("palette").close();
    } else if (event.key === "Enter" && count && !event.isComposing) {
      event.preventDefault();
      $("hits").children[this.at].go();
    }
  }

  go(one) {
    $("palette").close();
    this.open(one.id, one.found?.message ?? null);
  }
}
