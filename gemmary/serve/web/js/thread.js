// The messages of the branch that is shown. Far from the view they are plain text; near it they are drawn.

import { $ } from "./element.js";
import { Follow } from "./follow.js";
import { MessageView } from "./message.js";

const AT_ONCE = 12; // messages at the end that are drawn before the first paint

export class Thread {
  constructor(acts) {
    this.acts = acts;
    this.root = $("thread");
    this.views = new Map();
    this.follow = new Follow($("scroll"), $("down"));
    this.observer = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        this.observer.unobserve(target);
        target.view.come();
      }
    }, { root: $("scroll"), rootMargin: "1500px 0px" });
  }

  /** Show another conversation. */
  clear() {
    this.observer.disconnect();
    this.views.clear();
    this.root.replaceChildren();
    this.follow.on = true;
  }

  /** Show these messages of a tree; what is shown already keeps its nodes. `elsewhere`: the last one grows. */
  show(path, tree, writing, elsewhere) {
    const busy = writing || elsewhere;
    const wanted = new Set(path.map((message) => message.id));
    for (const [id, view] of this.views) {
      if (wanted.has(id)) continue;
      view.node.remove();
      this.views.delete(id);
    }
    path.forEach((message, index) => this.place(message, index, path.length));
    path.forEach((message, index) => {
      const view = this.views.get(message.id);
      const last = index === path.length - 1;
      view.elsewhere(elsewhere && last);
      view.act([...tree.siblings(message.id)], last, busy);
    });
  }

  place(message, index, count) {
    let view = this.views.get(message.id);
    if (view) view.refresh(message);
    else {
      view = new MessageView(message, this.acts);
      this.views.set(message.id, view);
      if (index >= count - AT_ONCE) view.come();
      else this.observer.observe(view.node);
    }
    if (this.root.children[index] !== view.node) this.root.insertBefore(view.node, this.root.children[index] ?? null);
  }

  view(id) {
    return this.views.get(id);
  }

  /** Bring a message into view. */
  reveal(id) {
    const view = this.views.get(id);
    if (!view) return;
    this.follow.on = false;
    view.come();
    view.node.scrollIntoView({ block: "center" });
    view.node.classList.add("revealed");
    setTimeout(() => view.node.classList.remove("revealed"), 1600);
  }
}
