// The view stays at the end of the text until somebody scrolls up, and from when they come back.

const NEAR = 40; // pixels

export class Follow {
  constructor(view, button) {
    Object.assign(this, { view, button, on: true, last: 0, settling: 0 });
    view.addEventListener("scroll", () => this.scrolled(), { passive: true });
    view.addEventListener("wheel", (event) => { if (event.deltaY < 0) this.leave(); }, { passive: true });
    new ResizeObserver(() => this.keep()).observe(view);
    button.addEventListener("click", () => this.end());
  }

  get far() {
    return this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight;
  }

  scrolled() {
    const top = this.view.scrollTop;
    if (top < this.last - 1 && !this.settling && this.far > NEAR) this.leave();
    else if (this.far <= NEAR) this.on = true;
    this.last = top;
    this.button.hidden = this.far <= NEAR * 3;
  }

  leave() {
    if (this.view.scrollHeight > this.view.clientHeight) this.on = false;
  }

  /** After the text has grown. */
  keep() {
    if (this.on) this.view.scrollTop = this.view.scrollHeight;
  }

  /** Go to the end, which moves while messages there get their real heights. */
  end() {
    this.on = true;
    cancelAnimationFrame(this.settling);
    let frames = 8;
    const settle = () => {
      this.keep();
      this.settling = --frames ? requestAnimationFrame(settle) : 0;
    };
    settle();
  }
}
