// The list of conversations.

import { $, el, iconButton } from "./element.js";
import { call } from "./api.js";
import { ask } from "./dialogs.js";
import { menu } from "./menu.js";

const DAY = 86_400_000;
const MORE = 100;

export class Sidebar {
  /** `told.gone(id)`, `told.renamed(id, title)`, `told.refuse(error)`. */
  constructor(store, told) {
    Object.assign(this, { store, told, limit: MORE, current: null, listed: [], drawn: "", loads: 0 });
    $("veil").addEventListener("click", () => this.fold());
    for (const button of document.querySelectorAll(".open-sidebar, .close-sidebar")) {
      button.addEventListener("click", () => this.toggle());
    }
    this.folds(matchMedia("(max-width: 800px)").matches);
  }

  get folded() {
    return document.body.classList.contains("folded");
  }

  folds(folded) {
    document.body.classList.toggle("folded", folded);
    $("sidebar").inert = folded;
    document.querySelector(".open-sidebar").setAttribute("aria-expanded", String(!folded));
  }

  toggle() {
    this.folds(!this.folded);
    document.querySelector(this.folded ? ".open-sidebar" : ".close-sidebar").focus();
  }

  /** On a small screen it lies over the chat: away with it once something is chosen. */
  fold() {
    if (matchMedia("(max-width: 800px)").matches) this.folds(true);
  }

  async load() {
    const load = ++this.loads;
    const listed = await this.store.list(this.limit);
    if (load !== this.loads) return; // a later one is under way
    this.listed = listed;
    this.draw();
  }

  show(id) {
    this.current = id;
    this.draw();
  }

  /** What is drawn already stays: it may be under the pointer, or have its menu open. */
  draw() {
    const drawn = JSON.stringify([this.current, this.limit,
      this.listed.map(({ id, title, updated }) => [id, title, age(updated * 1000)])]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const focused = document.activeElement?.closest?.("#chats [data-id]")?.dataset.id;
    const rows = [];
    let heading = null;
    for (const one of this.listed) {
      const group = age(one.updated * 1000);
      if (group !== heading) rows.push(el("li.age", {}, (heading = group)));
      rows.push(this.row(one));
    }
    if (this.listed.length >= this.limit) {
      rows.push(el("li", {}, el("button.row.older", { type: "button", onclick: () => { this.limit += MORE; this.load(); } }, "Show older")));
    }
    $("chats").replaceChildren(...rows);
    if (focused) $("chats").querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }

  row(one) {
    const link = el("a", { href: `#${one.id}`, title: one.title, onclick: () => this.fold() }, one.title);
    if (one.id === this.current) link.setAttribute("aria-current", "page");
    const more = iconButton("more", `More about ${one.title}`, () => menu(more, [
      ["Rename", () => this.rename(one)],
      ["Export as Markdown", () => this.export(one.id, "markdown")],
      ["Export as JSON", () => this.export(one.id, "json")],
      ["Delete", () => this.remove(one), true],
    ]));
    more.setAttribute("aria-haspopup", "menu");
    const row = el(one.id === this.current ? "li.chat.current" : "li.chat", {}, link, more);
    row.dataset.id = one.id;
    return row;
  }

  async tried(act) {
    try { await act(); } catch (error) { this.told.refuse(error); }
  }

  rename(one) {
    return this.tried(async () => {
      const title = await ask({ title: "Rename chat", field: "Title", value: one.title, yes: "Rename" });
      if (!title || title === one.title) return;
      await this.store.revise(one.id, { title: title.slice(0, 200) });
      this.told.renamed(one.id, title);
      await this.load();
    });
  }

  remove(one) {
    return this.tried(async () => {
      const sure = await ask({ title: "Delete this chat?", text: one.title, yes: "Delete", danger: true });
      if (!sure) return;
      await this.store.remove(one.id);
      this.told.gone(one.id);
      await this.load();
    });
  }

  export(id, form) {
    return this.tried(async () => {
      const response = await call(`/api/conversations/${id}/export?form=${form}`);
      const name = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition"))?.[1] ?? "chat";
      const url = URL.createObjectURL(await response.blob());
      const link = el("a", { href: url, download: decodeURIComponent(name) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    });
  }
}

function age(time) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - DAY) return "Yesterday";
  if (time >= today - 7 * DAY) return "This week";
  return new Date(time).toLocaleDateString("en", { month: "long", year: "numeric" });
}
