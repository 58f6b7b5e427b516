// Conversations on the server. What was not taken is sent again until it is; nothing is dropped unseen.

import { call, json, ApiError } from "./api.js";
import { newId } from "./element.js";

const channel = "BroadcastChannel" in self ? new BroadcastChannel("gemmary") : null;
const place = (id, rest = "") => `/api/conversations/${encodeURIComponent(id)}${rest}`;
const putting = (id, { id: message, parent, role, content, meta }, more = {}) =>
  [place(id, `/messages/${message}`), { method: "PUT", json: { parent, role, content, meta }, ...more }];

/** Whether it was refused because somebody deleted what it belongs to; what else went wrong is thrown. */
function notThere(error) {
  if (error.status === 404 || error.status === 409) return true;
  throw error;
}

export class Store {
  /** `kept`: whether the server keeps conversations; if not, they last as long as the page. */
  constructor(kept) {
    this.kept = kept;
    this.now = -1;
    this.unsaved = new Map(); // message id -> () => Promise
    this.changed = async () => {}; // called when something changed, here or elsewhere
    this.trouble = () => {}; // called with an ApiError, or null when all is kept again
    this.lost = () => {}; // called with a message that has no place any more: somebody deleted it
    this.flushing = null;
    if (!kept) return;
    channel?.addEventListener("message", () => this.poll());
    document.addEventListener("visibilitychange", () => this.poll());
    setInterval(() => this.poll(), 2000);
    addEventListener("beforeunload", (event) => { if (this.unsaved.size) event.preventDefault(); });
  }

  /** Look whether something changed. `now` is moved here alone: else what it stands for might never be shown. */
  async poll() {
    if (!this.kept || document.hidden || this.now < 0) return;
    try {
      const { now } = await json("/api/changes");
      if (now === this.now) return;
      this.now = now;
      await this.changed();
    } catch {
      this.now = 0; // looks again; who needs the server will say that it is away
    }
  }

  async list(limit) {
    if (!this.kept) return [];
    const { now, conversations } = await json(`/api/conversations?limit=${limit}`);
    if (this.now < 0) this.now = now;
    return conversations;
  }

  search = async (query) => (await json(`/api/search?q=${encodeURIComponent(query)}`)).conversations;

  get = (id) => json(place(id));

  async tell(path, options) {
    const done = await json(path, options);
    channel?.postMessage("changed");
    return done;
  }

  create(system, settings) {
    if (!this.kept) return { id: newId(), title: "New chat", system, settings, leaf: null, messages: [] };
    return this.tell("/api/conversations", { method: "POST", json: { system, settings } });
  }

  async revise(id, changes) {
    return this.kept ? this.tell(place(id), { method: "PATCH", json: changes }) : null;
  }

  async remove(id) {
    return this.kept ? this.tell(place(id), { method: "DELETE" }) : null;
  }

  async removeMessage(id, message) {
    this.unsaved.delete(message);
    await this.flushing; // it may be on its way
    return this.kept ? this.tell(place(id, `/messages/${message}`), { method: "DELETE" }) : null;
  }

  branch = (id, message) => this.tell(place(id, "/branch"), { method: "POST", json: { message } });

  bring = (file) => this.tell("/api/import", { method: "POST", body: file, type: "application/json" });

  /** Keep a message; when this is over it is on the server's disk. */
  async put(id, message) {
    return this.kept ? this.tell(...putting(id, message)) : null;
  }

  /** The page goes away: what can be sent still is, and nobody waits for it. */
  part(id, message) {
    if (this.kept) call(...putting(id, message, { keepalive: true })).catch(() => {});
  }

  /** Messages of a conversation that are not on the server yet. */
  pending(id) {
    return [...this.unsaved.values()].filter((entry) => entry.id === id).map((entry) => entry.message);
  }

  /** Keep a message sooner or later; the latest state of it counts. */
  async keep(id, message) {
    if (!this.kept) return;
    this.unsaved.set(message.id, { id, message });
    await this.flush();
  }

  flush() {
    return this.flushing ??= this.flushed().finally(() => { this.flushing = null; });
  }

  async flushed() {
    try {
      while (this.unsaved.size) {
        const [key, entry] = this.unsaved.entries().next().value;
        const lost = await this.put(entry.id, entry.message).then(() => false, notThere);
        if (lost || this.unsaved.get(key) === entry) this.unsaved.delete(key);
        if (lost) this.lost(entry.message);
      }
      this.trouble(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setTimeout(() => this.flush(), 2000);
      this.trouble(error);
    }
  }
}
