// How answers are drawn: what differs from the server's defaults. The last choice holds for new chats too.

import { $, el } from "./element.js";

const FIELDS = [
  ["temperature", "Temperature", "0 is always the likeliest word; higher is freer", { min: 0, max: 100, step: "any" }],
  ["top_k", "Top-k", "Draw among so many tokens; 0 is all", { min: 0, max: 262144, step: 1 }],
  ["top_p", "Top-p", "Draw among the likeliest with this share", { min: 0, max: 1, step: "any" }],
  ["min_p", "Min-p", "Leave out what is this much less likely than the best", { min: 0, max: 1, step: "any" }],
  ["max_tokens", "Longest answer", "In tokens; empty is what the context holds", { min: 1, max: 2147483647, step: 1 }],
  ["seed", "Seed", "The same seed gives the same text; empty is another each time", { min: 0, max: 9007199254740991, step: 1 }],
];
const LAST = "gemmary.settings";

export class Settings {
  /** `changed({system, settings})` is called when the panel closes with something new; the rest may be another tab's. */
  constructor(defaults, changed) {
    Object.assign(this, { defaults, changed, values: {}, inputs: {} });
    for (const [name, label, hint, limits] of FIELDS) this.inputs[name] = this.number(name, label, hint, limits);
    this.pan = el("input", { type: "checkbox", id: "pan_and_scan" });
    $("sampling").append(el("label.check", {}, this.pan, el("span", {}, "Pan & scan",
      el("small", {}, "Show crops of wide and tall pictures too: small print becomes readable"))));
    $("reset").addEventListener("click", () => this.fill({}, $("system").value));
    $("panel-close").addEventListener("click", () => $("panel").close());
    $("panel").addEventListener("close", () => this.take());
    $("panel").querySelector("form").addEventListener("submit", (event) => {
      if (!event.target.checkValidity()) {
        event.preventDefault();
        event.target.reportValidity();
      }
    });
    $("panel").querySelector("form").noValidate = true;
  }

  number(name, label, hint, limits) {
    const standard = this.defaults[name];
    const input = el("input", {
      type: "number", id: name, inputMode: "decimal", placeholder: standard === null ? "none" : String(standard), ...limits,
    });
    input.setAttribute("aria-describedby", `${name}-hint`);
    $("sampling").append(el("label.field", {}, el("span", {}, label), input, el("small", { id: `${name}-hint` }, hint)));
    return input;
  }

  open({ system, settings }) {
    this.fill(settings, system);
    this.before = JSON.stringify(this.filled());
    $("panel").showModal();
  }

  fill(settings, system) {
    $("system").value = system;
    for (const [name] of FIELDS) this.inputs[name].value = settings[name] ?? "";
    this.pan.checked = Boolean(settings.pan_and_scan ?? this.defaults.pan_and_scan);
  }

  filled() {
    const settings = {};
    for (const [name] of FIELDS) {
      const input = this.inputs[name];
      if (input.value !== "" && input.validity.valid) settings[name] = input.valueAsNumber;
    }
    if (this.pan.checked !== this.defaults.pan_and_scan) settings.pan_and_scan = this.pan.checked;
    return { settings, system: $("system").value };
  }

  take() {
    const { settings, system } = this.filled();
    if (JSON.stringify({ settings, system }) === this.before) return;
    try { localStorage.setItem(LAST, JSON.stringify({ settings, system })); } catch { /* for this chat only */ }
    this.changed({ system, settings });
  }
}

/** What new chats begin with. */
export function lastSettings() {
  try {
    const { settings, system } = JSON.parse(localStorage.getItem(LAST));
    return { settings: { ...settings }, system: String(system) };
  } catch {
    return { settings: {}, system: "" };
  }
}
