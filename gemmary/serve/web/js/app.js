// The page put together.

import { $, drawIcons } from "./element.js";
import { json, keyFrom, ApiError } from "./api.js";
import { banner, hide, isShown } from "./banner.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { ask, readyDialogs } from "./dialogs.js";
import { Palette } from "./palette.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store } from "./store.js";

const MODEL = "gemmary.model";
const GONE_CHAT = "This chat is not here any more.";
const THEMES = { system: ["light", "Theme: system"], light: ["dark", "Theme: light"], dark: ["system", "Theme: dark"] };
const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

let models = [];
let gone = null;

drawIcons(document);
readyDialogs();
keyFrom((refused) => ask({
  title: "API key", secret: true, field: "Key", yes: "Use it",
  text: refused ? "The server does not know this key." : "This server wants a key. It is kept until this tab is closed.",
}));

for (const node of document.querySelectorAll("[data-keys]")) {
  node.textContent = `${MAC ? "⌘" : "Ctrl"} ${node.dataset.keys}`;
}

function themed() {
  $("theme").querySelector("span").textContent = THEMES[window.gemmaryTheme.chosen()][1];
}
$("theme").addEventListener("click", () => {
  window.gemmaryTheme.choose(THEMES[window.gemmaryTheme.chosen()][0]);
  themed();
});
themed();

/** Say what went wrong; when the server is away, look for it until it is back. */
function refuse(error, again = null) {
  if (error.status === 0) return away(again);
  return banner(error.message, { kind: "wrong", actions: again ? [["Try again", again]] : [] });
}

let retry = null;

function away(again) {
  if (again) retry = again;
  if (isShown(gone)) return gone;
  gone = banner("The server does not answer. Looking for it…", { kind: "wrong", actions: [["Retry now", look]] });
  looking ||= setInterval(look, 2000);
  return gone;
}

let looking = 0;

async function look() {
  try {
    await fetch("/health", { cache: "no-store" }).then((response) => { if (!response.ok) throw new Error(); });
  } catch {
    if (!isShown(gone)) gone = banner("The server does not answer. Looking for it…", { kind: "wrong", actions: [["Retry now", look]] });
    return;
  }
  clearInterval(looking);
  looking = 0;
  hide(gone);
  const again = retry;
  retry = null;
  if (!wired) return begin();
  const back = banner("The server is back.", { actions: again ? [["Try again", again]] : [] });
  if (!again) setTimeout(() => hide(back), 3000);
  offer().catch(() => {}); // it may have been started with other models
  store.poll();
}

/** The models that the server has. */
async function offer() {
  models = (await json("/v1/models")).data;
  const before = $("model").value;
  $("model").replaceChildren(...models.map(({ id }) => new Option(id, id)));
  if (models.some(({ id }) => id === before)) $("model").value = before;
}

const chosen = () => models.find((model) => model.id === $("model").value) ?? models[0] ?? null;

let store, chat, composer, sidebar, palette, settings;

function suit() {
  composer.suit(chosen()?.vision ?? true, Boolean(chat.settings.pan_and_scan));
}

function spoken(text) {
  $("spoken").textContent = text.length > 400 ? "The answer is complete." : text;
}

let listing = 0;

async function listed() {
  clearTimeout(listing);
  listing = setTimeout(() => sidebar.load().catch(() => {}), 150);
}

async function begin() {
  let about;
  try {
    about = await json("/api/about");
    await offer();
  } catch (error) {
    return refuse(error, begin);
  }
  if (wired) return;
  store = new Store(about.history);
  document.body.classList.toggle("forgetful", !about.history);
  $("empty-note").textContent = about.history ? "" : "This server keeps no conversations: they last as long as this page.";
  if (about.notice) banner(about.notice, { kind: "wrong" });
  try {
    const last = localStorage.getItem(MODEL);
    if (models.some(({ id }) => id === last)) $("model").value = last;
  } catch { /* the first one */ }
  settings = new Settings(about.defaults, async (values) => {
    Object.assign(chat, values);
    suit();
    if (chat.id) await store.revise(chat.id, values).catch(refuse);
  });
  composer = new Composer({ send: (...what) => chat.send(...what), stop: () => chat.stop(), refuse });
  sidebar = new Sidebar(store, {
    refuse,
    gone: (id) => { if (id === chat.id) leave("replaceState"); },
    renamed: (id, title) => {
      if (id !== chat.id) return;
      chat.title = title;
      chat.show();
    },
  });
  chat = new Chat(store, {
    model: chosen, listed, refuse, spoken,
    status: (text) => { $("status").textContent = text; },
    busy: (on) => {
      composer.during(on);
      $("status").textContent = "";
      document.body.classList.toggle("busy", on);
    },
    gone: () => {
      leave("replaceState");
      refuse(new ApiError(404, GONE_CHAT));
    },
    opened: () => {
      if (!chat) return; // it is being made
      if (chat.id && location.hash.slice(1) !== chat.id) history.pushState(null, "", `#${chat.id}`);
      sidebar.show(chat.id);
      suit();
    },
  });
  suit();
  palette = new Palette(store, go);
  let troubled = null;
  store.trouble = (error) => {
    if (error === null) hide(troubled);
    else if (error.status === 0) away(null);
    else if (!isShown(troubled)) troubled = banner(`Not saved yet: ${error.message}`, { kind: "wrong" });
  };
  store.changed = () => Promise.all([sidebar.load(), chat.renew()]);
  wire();
  chat.opening = location.hash.length > 1; // what is written now waits for it
  await sidebar.load().catch(refuse); // first: what changes from here on is heard of
  await route();
  write();
}

async function go(id, message = null) {
  try {
    if (chat.id !== id) await chat.open(id);
  } catch (error) {
    return refuse(error);
  }
  if (!message) return;
  if (!chat.path.some((one) => one.id === message) && chat.tree.get(message)) await chat.choose(message);
  chat.thread.reveal(message);
}

/** Show the conversation that the address names. */
async function route() {
  const id = location.hash.slice(1);
  if (!id) {
    if (chat.id) chat.fresh();
    return chat.stay();
  }
  if (id === chat.id) return chat.stay();
  try {
    await chat.open(id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refuse(error.status === 404 ? new ApiError(404, GONE_CHAT) : error);
    if (error.status !== 0) leave("replaceState");
  }
}

/** To an empty chat. "replaceState": what the address named is no more, and nobody should go back to it. */
function leave(how = "pushState") {
  if (location.hash) history[how](null, "", location.pathname);
  chat.fresh();
  suit();
  sidebar.show(null);
}

function fresh() {
  leave();
  sidebar.fold();
  write();
}

/** Ready to write; on a telephone that would open the keyboard. */
function write() {
  if (!matchMedia("(pointer: coarse)").matches) $("ask").focus();
}

let wired = false;

function wire() {
  if (wired) return;
  wired = true;
  addEventListener("hashchange", route);
  addEventListener("popstate", route);
  $("new").addEventListener("click", fresh);
  $("search").addEventListener("click", () => palette.show());
  $("settings").addEventListener("click", () => settings.open(chat));
  $("model").addEventListener("change", () => {
    try { localStorage.setItem(MODEL, $("model").value); } catch { /* for this page */ }
    suit();
    chat.show();
  });
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", bring);
  addEventListener("keydown", keys);
}

async function bring() {
  const [file] = $("import-file").files;
  $("import-file").value = "";
  if (!file) return;
  try {
    const { conversations } = await store.bring(file);
    await sidebar.load();
    await go(conversations[0].id);
  } catch (error) {
    refuse(error instanceof ApiError ? new ApiError(error.status, `This file was not taken. ${error.message}`) : error);
  }
}

function keys(event) {
  const command = MAC ? event.metaKey : event.ctrlKey;
  const key = event.key.toLowerCase();
  if (command && !event.shiftKey && key === "k") {
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) palette.show();
  } else if (command && event.shiftKey && key === "o") {
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) fresh();
  } else if (event.key === "Escape" && chat.writing && !document.querySelector("dialog[open]")) {
    chat.stop();
  }
}

begin();
