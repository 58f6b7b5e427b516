// A conversation's messages: another wording or another answer is a sibling of the first.

export class Tree {
  constructor(messages = []) {
    this.messages = new Map();
    this.below = new Map();
    for (const message of messages) this.add(message);
  }

  get(id) {
    return this.messages.get(id);
  }

  /** Add a message, or take what has changed in it. */
  add(message) {
    const known = this.messages.get(message.id);
    if (known) return Object.assign(known, message);
    this.messages.set(message.id, message);
    this.children(message.parent).push(message.id);
    return message;
  }

  children(id) {
    const key = id ?? "";
    if (!this.below.has(key)) this.below.set(key, []);
    return this.below.get(key);
  }

  siblings(id) {
    return this.children(this.get(id).parent);
  }

  /** Messages from the first to `leaf`. */
  path(leaf) {
    const path = [];
    for (let at = this.get(leaf); at; at = this.get(at.parent)) path.push(at);
    return path.reverse();
  }

  /** The latest message of the branch that begins with `id`. */
  deepest(id) {
    let at = id;
    for (let next = this.children(at); next.length; next = this.children(at)) at = next.at(-1);
    return at;
  }

  /** Remove a message and what follows it. */
  remove(id) {
    const gone = [id];
    for (let i = 0; i < gone.length; i++) gone.push(...this.children(gone[i]));
    const siblings = this.siblings(id);
    siblings.splice(siblings.indexOf(id), 1);
    for (const one of gone) {
      this.messages.delete(one);
      this.below.delete(one);
    }
    return gone;
  }
}

export const textOf = (message) =>
  message.content.filter((part) => part.type === "text").map((part) => part.text).join("\n");

export const picturesOf = (message) => message.content.filter((part) => part.type === "picture");
