// Where questions are written, and pictures added: picked, pasted or dropped.

import { $, el, iconButton, setIcon } from "./element.js";
import { prepared, shown } from "./pictures.js";

const DRAFT = "gemmary.draft";

export class Composer {
  /** `send(text, pictures)` gives whether it was taken; `stop()`; `refuse(error)` tells people. */
  constructor({ send, stop, refuse }) {
    Object.assign(this, { send, stop, refuse, pictures: [], busy: false, sees: true, cut: false, waiting: 0 });
    this.area = $("ask");
    this.area.addEventListener("input", () => this.typed());
    this.area.addEventListener("keydown", (event) => this.key(event));
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.busy) this.stop();
      else this.submit();
    });
    $("attach").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => {
      this.add([...$("files").files]);
      $("files").value = "";
    });
    this.area.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files].filter(isPicture);
      if (!files.length) return;
      event.preventDefault();
      this.add(files);
    });
    this.dropping();
    try { this.area.value = sessionStorage.getItem(DRAFT) ?? ""; } catch { /* no draft */ }
    this.typed();
  }

  typed() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * 0.4)}px`;
    try { sessionStorage.setItem(DRAFT, this.area.value); } catch { /* no draft */ }
    this.ready();
  }

  ready() {
    $("send").disabled = !this.busy && (this.waiting > 0 || (!this.area.value.trim() && !this.pictures.length));
  }

  key(event) {
    // On a telephone Enter is the only way to a new line.
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && !matchMedia("(pointer: coarse)").matches;
    if (!sends) return;
    event.preventDefault();
    if (!this.busy) this.submit();
  }

  async submit() {
    const text = this.area.value.trim();
    if ($("send").disabled || (!text && !this.pictures.length)) return;
    const pictures = this.pictures;
    this.fill("", []);
    if (!(await this.send(text, pictures))) this.fill(text, pictures);
  }

  fill(text, pictures) {
    this.area.value = text;
    this.pictures = pictures;
    this.typed();
    this.thumbs();
  }

  /** Whether an answer is being written: the button stops it then. */
  during(busy) {
    this.busy = busy;
    setIcon($("send"), busy ? "stop" : "send", busy ? "Stop" : "Send");
    this.ready();
  }

  /** What the chosen model can, and whether pictures are cut. */
  suit(sees, cut) {
    const again = cut !== this.cut;
    Object.assign(this, { sees, cut });
    $("attach").hidden = !sees;
    if (again) this.thumbs();
  }

  async add(files) {
    if (!this.sees) return this.refuse(new Error("This model reads text only."));
    for (const file of files) {
      this.waiting++;
      this.ready();
      try {
        this.pictures = [...this.pictures, await prepared(file)];
      } catch (error) {
        this.refuse(error);
      }
      this.waiting--;
      this.thumbs();
      this.ready();
    }
  }

  thumbs() {
    const list = $("thumbs");
    list.hidden = !this.pictures.length;
    list.replaceChildren(...this.pictures.map((picture) => el("li", {},
      ...shown(picture, Promise.resolve(picture.url), this.cut, [200, 72]),
      iconButton("cross", `Remove ${picture.name}`, () => {
        this.pictures = this.pictures.filter((one) => one !== picture);
        this.thumbs();
        this.ready();
        this.area.focus();
      }))));
  }

  dropping() {
    let depth = 0;
    const over = (by) => {
      depth = Math.max(0, depth + by);
      $("drop").hidden = depth === 0;
    };
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => { if (carries(event)) over(1); });
    addEventListener("dragleave", (event) => { if (carries(event)) over(-1); });
    addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      over(-depth);
      this.add([...event.dataTransfer.files].filter(isPicture));
    });
  }
}

const isPicture = (file) => file.type.startsWith("image/");
