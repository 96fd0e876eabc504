// How many posts each window holds: bars under the charts, so that a wide band is seen beside its small sample.

import { clock, cssVar, day, grouped } from "./look.js";

export class Volume {
  constructor(store) {
    this.store = store;
    this.plot = null;
    this.crowded = false;
    this.node = document.createElement("section");
    this.node.className = "card chart";
    this.node.dataset.group = "volume";
    const head = document.createElement("header");
    head.className = "card-head";
    const title = document.createElement("h2");
    title.textContent = "Posts";
    const sub = document.createElement("p");
    sub.className = "sub";
    sub.textContent = "per window; pale while provisional";
    head.append(title, sub);
    this.frame = document.createElement("div");
    this.frame.className = "frame";
    this.node.append(head, this.frame);
    new ResizeObserver(() => this.resize()).observe(this.frame);
  }

  update() {
    if (this.plot === null || this.isCrowded() !== this.crowded) return this.rebuild();
    this.plot.setData(this.data());
  }

  /** Bars thinner than a few pixels only flicker: an area then. */
  isCrowded() {
    return this.store.times(this.store.signals).length * 5 > this.frame.clientWidth;
  }

  data() {
    const times = this.store.times(this.store.signals);
    const counts = new Map();
    for (const signal of this.store.signals) {
      for (const { window_end, n, status } of this.store.rows(signal)) {
        const held = counts.get(window_end);
        if (held === undefined || n > held.n) counts.set(window_end, { n, settled: status !== "provisional" });
      }
    }
    const rows = times.map((t) => counts.get(Math.round(t * 1000)));
    const settled = rows.map((r) => (r?.settled ? r.n : null));
    const open = rows.map((r) => (r && !r.settled ? r.n : null));
    if (this.crowded) {
      // areas: the open one starts where the settled one ends
      settled.forEach((n, k) => {
        if (n !== null && open[k + 1] != null) open[k] = n;
      });
    }
    return [times, settled, open];
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (this.frame.clientWidth === 0) return;
    const wide = this.frame.clientWidth > 560;
    this.crowded = this.isCrowded();
    const data = this.data();
    const bars = this.crowded ? uPlot.paths.linear() : uPlot.paths.bars({ size: [0.8, 12] });
    const axis = { stroke: cssVar("--ink-3"), ticks: { show: false }, grid: { stroke: cssVar("--grid"), width: 1 }, font: `11px ${cssVar("--font")}` };
    const series = (fill) => ({ paths: bars, fill, stroke: fill, width: 0, points: { show: false } });
    this.plot = new uPlot(
      {
        width: this.frame.clientWidth,
        height: 104,
        padding: [8, wide ? 92 : 10, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, sync: { key: "affect" } },
        scales: { y: { range: (_, __, hi) => [0, Math.max(5, (hi ?? 0) * 1.1)] } },
        axes: [
          { ...axis, size: 28, space: 70, values: (_, s, __, ___, incr) => s.map((v) => (incr >= 86400 ? day(v * 1000) : clock(v * 1000, incr < 60))) },
          { ...axis, size: 52, space: 28, values: (_, s) => s.map((v) => grouped(v)) },
        ],
        series: [{}, series(cssVar("--bar")), series(cssVar("--bar-open"))],
      },
      data,
      this.frame,
    );
  }

  resize() {
    if (this.plot === null || Math.abs(this.plot.width - this.frame.clientWidth) > 1) this.rebuild();
  }
}
