// Conversations on the server. What was not taken is sent again until it is; nothing is dropped unseen.

import { json, ApiError } from "./api.js";
import { newId } from "./element.js";

const channel = "BroadcastChannel" in self ? new BroadcastChannel("gemmary") : null;
const place = (id, rest = "") => `/api/conversations/${encodeURIComponent(id)}${rest}`;

export class Store {
  /** `kept`: whether the server keeps conversations; if not, they last as long as the page. */
  constructor(kept) {
    this.kept = kept;
    this.now = -1;
    this.unsaved = new Map(); // message id -> () => Promise
    this.changed = () => {}; // called when somebody else changed something
    this.trouble = () => {}; // called with an ApiError, or null when all is kept again
    this.busy = false;
    if (!kept) return;
    channel?.addEventListener("message", () => this.poll());
    document.addEventListener("visibilitychange", () => this.poll());
    setInterval(() => this.poll(), 2000);
    addEventListener("beforeunload", (event) => { if (this.unsaved.size) event.preventDefault(); });
  }

  async poll() {
    if (document.hidden || this.now < 0) return;
    try {
      const { now } = await json("/api/changes");
      if (now === this.now) return;
      this.now = now;
      this.changed();
    } catch { /* who needs the server will say so */ }
  }

  async list(limit) {
    if (!this.kept) return [];
    const { now, conversations } = await json(`/api/conversations?limit=${limit}`);
    this.now = now;
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
    return this.kept ? this.tell(place(id, `/messages/${message}`), { method: "DELETE" }) : null;
  }

  branch = (id, message) => this.tell(place(id, "/branch"), { method: "POST", json: { message } });

  bring = (file) => this.tell("/api/import", { method: "POST", body: file, type: "application/json" });

  /** Keep a message; when this is over it is on the server's disk. */
  async put(id, { id: message, parent, role, content, meta }) {
    if (!this.kept) return null;
    return this.tell(place(id, `/messages/${message}`), { method: "PUT", json: { parent, role, content, meta } });
  }

  /** Keep a message sooner or later; the latest state of it counts. */
  async keep(id, message) {
    if (!this.kept) return;
    this.unsaved.set(message.id, { id, message });
    await this.flush();
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.unsaved.size) {
        const [key, entry] = this.unsaved.entries().next().value;
        await this.put(entry.id, entry.message);
        if (this.unsaved.get(key) === entry) this.unsaved.delete(key);
      }
      this.trouble(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 404 || error.status === 409) this.unsaved.clear(); // deleted in another tab
      else setTimeout(() => this.flush(), 2000);
      this.trouble(error);
    } finally {
      this.busy = false;
    }
  }
}
