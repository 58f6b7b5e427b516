// The conversation that is open: what people do with it, and the answer that is being written.

import { $, newId, whole } from "./element.js";
import { answer } from "./answer.js";
import { ApiError } from "./api.js";
import { banner, hide, isShown } from "./banner.js";
import { ask } from "./dialogs.js";
import { lastSettings } from "./settings.js";
import { uploaded } from "./pictures.js";
import { Thread } from "./thread.js";
import { Tree, picturesOf, textOf } from "./tree.js";

const KEEP_EVERY = 2000; // ms between two times that an unfinished answer is kept
const SILENT = 4 * KEEP_EVERY; // ms after which nobody writes an answer that another tab began
const TRIES = 20; // when the queue is full
const ELSEWHERE = "Another tab is writing an answer here: send when it is complete.";
const WENT_ON = "This chat was changed in another tab: see how it stands now, then send again.";
const DELETED = "What was answered here has been deleted in another tab.";

export class Chat {
  /** `told`: model() -> {id, context_length, vision}; opened(id); listed(); busy(bool); refuse(error); */
  constructor(store, told) {
    Object.assign(this, { store, told, writing: null, error: null, waiting: null });
    Object.assign(this, { loads: 0, acts: 0, acting: 0, missed: false, opening: false, silent: null, silence: 0 });
    store.lost = (message) => this.lost(message);
    addEventListener("pagehide", () => this.part());
    this.thread = new Thread({
      conversation: () => ({ id: this.id, pan: Boolean(this.settings.pan_and_scan) }),
      again: (id) => this.write(this.tree.get(id).parent),
      goOn: (id) => this.goOn(id),
      edit: (id, text) => this.edit(id, text),
      branch: (id) => this.tried(() => this.branch(id)),
      remove: (id) => this.tried(() => this.remove(id)),
      choose: (id) => this.tried(() => this.choose(id)),
    });
    this.fresh();
  }

  /** A new conversation; the server hears of it with its first message. */
  fresh() {
    this.take({ id: null, title: "New chat", leaf: null, messages: [], ...lastSettings() });
  }

  take({ id, title, system, settings, leaf, messages, changed = 0 }) {
    this.stop();
    this.stay();
    hide(this.error);
    Object.assign(this, { id, title, system, settings, leaf, version: changed, tree: new Tree(messages) });
    this.listen();
    this.thread.clear();
    this.show();
    this.thread.follow.end();
    this.told.opened();
  }

  async open(id) {
    const load = ++this.loads;
    this.opening = true;
    const { now } = this.store;
    let whole;
    try {
      whole = await this.store.get(id);
    } finally {
      if (load === this.loads) this.opening = false;
    }
    if (load !== this.loads) return;
    this.take(whole);
    if (this.store.now !== now) await this.renew(); // it may be older than what was heard meanwhile
  }

  /** Stay where we are: what is being opened is not wanted any more. */
  stay() {
    this.loads += 1;
    this.opening = false;
  }

  /** Take what is on the server: another tab may have changed it. What is done here comes first. */
  async renew() {
    const { id, acts } = this;
    if (!id) return;
    if (this.acting) {
      this.missed = true;
      return;
    }
    let now;
    try {
      now = await this.store.get(id);
    } catch (error) {
      if (error.status !== 404) throw error;
      if (this.id === id) this.told.gone();
      return;
    }
    if (this.id !== id) return;
    if (this.acts !== acts) await this.renew(); // older than what was done here meanwhile
    else if (now.changed > this.version) this.renewed(now);
  }

  renewed({ title, system, settings, changed, messages, leaf }) {
    const pending = this.store.pending(this.id);
    Object.assign(this, { title, system, settings, version: changed, tree: new Tree(messages) });
    for (const message of pending) this.tree.add(message);
    if (!pending.some((message) => message.id === this.leaf)) this.leaf = leaf;
    this.listen();
    this.show();
    this.thread.follow.keep();
    this.told.opened();
  }

  /** Do something that changes the conversation. What is read of it meanwhile is old, and read again later. */
  async act(change) {
    this.acts += 1;
    this.acting += 1;
    try {
      return await change();
    } finally {
      this.acting -= 1;
      if (!this.acting && this.missed) {
        this.missed = false;
        this.renew().catch(() => {});
      }
    }
  }

  /** Whether another tab writes the end of the branch: its answer grows there, and is told to be unfinished. */
  get elsewhere() {
    const last = this.path.at(-1);
    return !this.writing && last?.meta.finish === "writing" && last.id !== this.silent;
  }

  /** Wait for more of what another tab writes. When it has been silent for long, it is gone. */
  listen() {
    clearTimeout(this.silence);
    this.silent = null;
    if (!this.elsewhere) return;
    const { id } = this.path.at(-1);
    this.silence = setTimeout(() => {
      this.silent = id;
      this.show();
    }, SILENT);
  }

  get path() {
    return this.tree.path(this.leaf);
  }

  show() {
    const { path } = this;
    this.thread.show(path, this.tree, Boolean(this.writing), this.elsewhere);
    $("empty").hidden = path.length > 0;
    $("title").textContent = this.title;
    document.title = this.id ? `${this.title} · Gemmary` : "Gemmary";
    this.measure(path);
    const open = path.at(-1)?.role === "user" && !this.writing && !isShown(this.error);
    if (open) this.unanswered(path.at(-1).id);
    else if (!this.writing) hide(this.waiting);
  }

  unanswered(id) {
    if (isShown(this.waiting)) return;
    this.waiting = banner("The last question has no answer yet.", { actions: [["Answer", () => this.write(id)]] });
  }

  /** How much of the context is used. */
  measure(path) {
    const last = path.findLast((message) => message.meta.used > 0);
    const total = this.told.model()?.context_length ?? 0;
    const meter = $("meter");
    meter.hidden = !last || !total;
    if (meter.hidden) return;
    const used = Math.min(last.meta.used, total);
    meter.setAttribute("aria-valuenow", used);
    meter.setAttribute("aria-valuemax", total);
    meter.title = `${whole(used)} of ${whole(total)} tokens of context`;
    meter.classList.toggle("full", used > 0.85 * total);
    meter.firstElementChild.textContent = `${whole(used)} / ${whole(total)}`;
    meter.querySelector("i").style.width = `${(100 * used) / total}%`;
  }

  async tried(act) {
    try { return await this.act(act); } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.told.refuse(error);
      return null;
    }
  }

  /** A question. False: it was not taken, and is still with who wrote it. */
  async send(text, pictures) {
    if (this.writing || this.acting || this.opening || !(await this.current())) return false;
    const { loads } = this; // another number: somebody went to another chat meanwhile
    const sent = await this.tried(async () => {
      if (!this.id) await this.begin(loads);
      const parts = [];
      for (const picture of pictures) {
        if (loads === this.loads) parts.push(await uploaded(this.id, picture, this.store.kept));
      }
      if (text) parts.push({ type: "text", text });
      return loads === this.loads ? this.append("user", this.leaf, parts) : null;
    });
    if (!sent) return false;
    this.write(sent.id);
    return true;
  }

  /** Whether what is seen is how the chat stands: a question to an old state would be one beside the others. */
  async current() {
    const { id, leaf } = this;
    await this.store.poll();
    if (this.elsewhere) this.told.refuse(new ApiError(409, ELSEWHERE));
    else if (this.id !== id || this.leaf !== leaf) this.told.refuse(new ApiError(409, WENT_ON));
    else return true;
    return false;
  }

  async begin(loads) {
    const { system, settings } = this;
    const made = await this.store.create(system, settings);
    if (loads !== this.loads) return;
    Object.assign(this, { id: made.id, title: made.title, version: made.changed });
    this.told.opened();
  }

  async append(role, parent, content) {
    const message = { id: newId(), parent, role, content, meta: {} };
    const { id, tree } = this;
    const summary = await this.store.put(id, message);
    tree.add(message);
    if (id !== this.id) return null;
    this.leaf = message.id;
    if (summary) this.title = summary.title;
    else if (!parent) this.title = textOf(message).split("\n")[0].slice(0, 60) || this.title;
    this.show();
    this.thread.follow.end();
    this.told.listed();
    return message;
  }

  async edit(id, text) {
    const { parent } = this.tree.get(id);
    const content = [...picturesOf(this.tree.get(id)), ...(text ? [{ type: "text", text }] : [])];
    if (this.writing) return;
    const sent = await this.tried(() => this.append("user", parent, content));
    if (sent) this.write(sent.id);
  }

  async choose(id) {
    this.leaf = this.tree.deepest(id);
    this.show();
    await this.store.revise(this.id, { leaf: this.leaf });
  }

  async remove(id) {
    const follow = this.tree.children(id).length > 0;
    const sure = await ask({
      title: follow ? "Delete this message and what follows it?" : "Delete this message?", yes: "Delete", danger: true,
    });
    if (!sure) return;
    await this.store.removeMessage(this.id, id);
    const message = this.tree.get(id);
    if (!message) return;
    const siblings = this.tree.siblings(id);
    const at = siblings.indexOf(id);
    this.tree.remove(id);
    const next = siblings[Math.max(0, at - 1)];
    this.leaf = next ? this.tree.deepest(next) : message.parent;
    this.show();
    if (next) await this.store.revise(this.id, { leaf: this.leaf });
  }

  async branch(id) {
    if (!this.store.kept) throw new ApiError(404, "This server keeps no conversations to branch from.");
    const made = await this.store.branch(this.id, id);
    await this.told.listed();
    location.hash = made.id;
  }

  stop() {
    this.writing?.stop.abort();
  }

  goOn(id) {
    const message = this.tree.get(id);
    message.content = [{ type: "text", text: textOf(message).trimEnd() }]; // the server reads it without its end
    return this.write(message.parent, message);
  }

  /** Write an answer to `parent`, or go on with `message`. */
  async write(parent, message = null) {
    if (this.writing || (parent && !this.tree.get(parent))) return;
    hide(this.error);
    hide(this.waiting);
    message ??= { id: newId(), parent, role: "assistant", content: [{ type: "text", text: "" }], meta: {} };
    const state = { id: this.id, message, stop: new AbortController(), kept: performance.now(), before: this.leaf };
    this.writing = state;
    this.tree.add(message);
    this.leaf = message.id;
    this.show();
    const view = this.thread.view(message.id);
    view.writing(true);
    view.reading({ text: "Waiting for the model" });
    this.thread.follow.end();
    this.told.busy(true);
    await this.act(async () => {
      const beat = setInterval(() => this.beat(state), KEEP_EVERY / 2);
      this.keep(state, "writing");
      try {
        await this.fill(state, view);
      } catch (error) {
        await this.failed(state, error);
      } finally {
        clearInterval(beat);
        this.writing = null;
        view.finish();
        this.told.busy(false);
        if (this.id === state.id) this.show();
        this.thread.follow.keep();
      }
    });
  }

  /** Keep what is written, and thereby tell other tabs that somebody writes. */
  beat(state) {
    if (performance.now() - state.kept > KEEP_EVERY) this.keep(state, "writing");
  }

  /** The page goes away in the middle of an answer: it ends where it is. */
  part() {
    if (!this.writing) return;
    const { id, message } = this.writing;
    this.store.part(id, { ...message, meta: { ...message.meta, finish: "cut" } });
  }

  /** A message was not kept: somebody deleted it, or what it answers. */
  lost(message) {
    if (this.writing?.message.id === message.id) this.stop();
    this.told.refuse(new ApiError(404, DELETED));
    this.renew().catch(() => {});
  }

  async fill(state, view) {
    const { message, stop } = state;
    const tree = this.tree; // of this conversation: another may be opened meanwhile
    const before = textOf(message);
    const path = tree.path(before ? message.id : message.parent);
    let pieces = 0;
    let began = 0;
    const told = {
      reading: (progress) => { if (progress.processed < progress.total) view.reading(progress); },
      text: (piece) => {
        began ||= performance.now();
        pieces += 1;
        message.content[0].text += piece;
        view.grow(() => this.thread.follow.keep());
        const seconds = (performance.now() - began) / 1000;
        if (seconds > 0.3) this.told.status(`${whole((pieces - 1) / seconds)} tok/s`);
        this.beat(state);
      },
    };
    const { system, settings, id } = this;
    const model = this.told.model()?.id ?? null;
    const got = await this.asked(state, () =>
      answer({ conversation: id, model, system, settings, path, signal: stop.signal, told }));
    if (got.broken) this.told.refuse(new ApiError(0, got.broken));
    if (!textOf(message) && got.finish === "cancelled") return this.drop(state);
    message.meta = { ...metaOf(got, model, message.meta), finish: got.finish };
    await this.keep(state, got.finish);
    this.told.listed();
    this.told.spoken(textOf(message));
  }

  /** Ask again while the queue is full. */
  async asked(state, go) {
    for (let tries = 0; ; tries++) {
      try {
        const got = await go();
        hide(this.error);
        return got;
      } catch (error) {
        if (error.status !== 429 || tries >= TRIES) throw error;
        await this.wait(state, error.after ?? 1);
        if (state.stop.signal.aborted) return { finish: "cancelled" };
      }
    }
  }

  async wait(state, seconds) {
    const say = (left) => `All places are taken. Asking again in ${left} s.`;
    let over = false;
    const handle = banner(say(seconds), { kind: "busy", actions: [["Ask now", () => { over = true; }]] });
    this.error = handle;
    for (let left = seconds * 10; left > 0 && !over && !state.stop.signal.aborted; left--) {
      if (left % 10 === 0) handle.say(say(left / 10));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async keep(state, finish) {
    const { message, stop } = state;
    if (finish === "writing" && stop.signal.aborted) return;
    state.kept = performance.now();
    await this.store.keep(state.id, { ...message, meta: { ...message.meta, finish } });
  }

  /** An answer of which nothing came. */
  async drop({ message, before, id }) {
    if (this.id === id) {
      this.tree.remove(message.id);
      this.leaf = before && this.tree.get(before) ? before : message.parent;
    }
    try {
      await this.store.removeMessage(id, message.id);
      if (this.id === id && before !== message.parent) await this.store.revise(id, { leaf: this.leaf });
    } catch { /* deleted elsewhere, or the server is away: then it is seen as cut off */ }
  }

  async failed(state, error) {
    if (!(error instanceof ApiError)) throw error;
    const { message } = state;
    if (textOf(message)) {
      message.meta = { ...message.meta, finish: "cut" };
      this.keep(state, "cut");
    } else await this.drop(state);
    if (this.id !== state.id) return;
    const again = textOf(message) ? () => this.goOn(message.id) : () => this.write(message.parent);
    this.error = this.told.refuse(error, again);
  }
}

function metaOf({ usage, timings, first }, model, before) {
  const meta = { ...before, model };
  if (first !== null && first !== undefined) meta.first = Math.round(first);
  if (timings) meta.speed = Math.round(timings.predicted_per_second * 10) / 10;
  if (usage) {
    meta.tokens = usage.completion_tokens;
    meta.used = usage.total_tokens;
    meta.cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  }
  return meta;
}
