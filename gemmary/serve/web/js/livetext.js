// A text that grows. Blocks that cannot change any more keep their nodes; only the open one is parsed again.

import { blocks, nodesOf } from "./markdown.js";

export class LiveText {
  constructor(root) {
    this.root = root;
    this.text = "";
    this.closed = []; // {raw, nodes} in order
    this.length = 0; // letters in closed blocks
    this.openNodes = [];
    this.wanted = 0;
    this.due = 0;
  }

  /** Show `text`, which goes on where the last one ended; drawn at the next frame. */
  push(text, drawn = () => {}) {
    this.text = text;
    if (this.wanted) return;
    this.wanted = requestAnimationFrame((now) => {
      this.wanted = 0;
      if (now < this.due) return this.push(this.text, drawn);
      const before = performance.now();
      this.draw();
      // 30 times a second is smooth; a large open block is drawn less often still.
      this.due = before + Math.max(30, 8 * (performance.now() - before));
      drawn();
    });
  }

  draw() {
    const rest = this.text.slice(this.length);
    const found = blocks(rest);
    const last = found.findLastIndex((block) => block.type !== "space");
    const sure = found.map((block) => block.raw).join("") === rest ? last : 0; // else positions mean nothing
    for (const node of this.openNodes) node.remove();
    for (const block of found.slice(0, sure)) {
      this.close(block, found.links);
    }
    this.openNodes = found.slice(Math.max(sure, 0)).flatMap((block) => nodesOf(block, found.links, true));
    this.root.append(...this.openNodes);
  }

  close(block, links) {
    const nodes = nodesOf(block, links);
    this.root.append(...nodes);
    this.closed.push({ raw: block.raw, nodes });
    this.length += block.raw.length;
  }

  /** The whole text is there: what was closed too early, or was open, is drawn as it stands in the whole. */
  finish(text) {
    cancelAnimationFrame(this.wanted);
    this.wanted = 0;
    this.text = text;
    const found = blocks(text);
    let same = 0;
    if (!Object.keys(found.links ?? {}).length) {
      while (same < this.closed.length && same < found.length && this.closed[same].raw === found[same].raw) same++;
    }
    for (const { nodes } of this.closed.slice(same)) for (const node of nodes) node.remove();
    for (const node of this.openNodes) node.remove();
    this.openNodes = [];
    this.closed.length = same;
    this.length = this.closed.reduce((sum, { raw }) => sum + raw.length, 0);
    for (const block of found.slice(same)) this.close(block, found.links);
  }
}
