// One chart card: lines with interval bands over time, a chip per signal, keyboard reading, and the same rows as a table.
// uPlot is the library's global (served from its installed package).

import { fillTable, fillTip, rowsAt } from "./chart_text.js";
import { el } from "./dom.js";
import { clock, colourOf, comparesWithPast, cssVar, day, lookOf, TALL } from "./look.js";

const PER_SIGNAL = 4; // lo, hi, final line, provisional line

const axisTimes = (_, splits, __, ___, incr) =>
  splits.map((s) => (incr >= 86400 ? day(s * 1000) : clock(s * 1000, incr < 60)));

const faded = (colour, alpha) => {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour);
  if (hex === null) return colour.replace(")", ` / ${alpha})`);
  const v = parseInt(hex[1], 16);
  return `rgba(${v >> 16}, ${(v >> 8) & 255}, ${v & 255}, ${alpha})`;
};

/** Points that no line reaches (a gap on both sides) are drawn as dots. */
const lonely = (u, k, show) => {
  if (show) return null;
  const data = u.data[k];
  const found = [];
  for (let i = 0; i < data.length; i += 1) {
    if (data[i] != null && data[i - 1] == null && data[i + 1] == null) found.push(i);
  }
  return found;
};

export class Chart {
  /**
   * `hidden`: Set of signals switched off, kept by the caller; `changed()` is called when it changes.
   * `why(signal, windowEnd)` is called when a person asks for the reasons of a point.
   */
  constructor(store, group, look, hidden, changed, why) {
    this.store = store;
    this.group = group;
    this.look = look;
    this.hidden = hidden;
    this.changed = changed;
    this.why = why;
    this.signals = [];
    this.focus = null;
    this.plot = null;
    this.settledUntil = null;
    this.reach = 0;
    this.node = el("section", "card chart");
    this.node.dataset.group = group;
    this.build();
  }

  build() {
    const head = el("header", "card-head");
    const title = el("h2", "", this.look.title);
    title.id = `chart-${this.group}`;
    this.node.setAttribute("aria-labelledby", title.id);
    head.append(title, el("p", "sub", this.look.sub));
    this.chips = el("div", "chips");
    this.chips.role = "group";
    this.chips.setAttribute("aria-label", `${this.look.title}: signals shown`);
    this.frame = el("div", "frame");
    this.frame.tabIndex = 0;
    this.frame.role = "group";
    this.frame.setAttribute("aria-label", `${this.look.title} over time. Left and right arrow keys read the values, Enter asks why.`);
    this.tip = el("div", "tip");
    this.tip.hidden = true;
    this.none = el("p", "chart-none");
    this.none.hidden = true;
    this.said = el("p", "hidden");
    this.said.setAttribute("aria-live", "polite");
    this.frame.append(this.none, this.tip, this.said);
    this.key = el("p", "key");
    this.key.append(el("span", "key-line", "final"), el("span", "key-dash", "provisional"), el("span", "key-band", "95\u00a0% interval"));
    this.details = el("details", "rows");
    this.details.append(el("summary", "", "Show as table"), (this.table = el("div", "scroll")));
    this.table.tabIndex = 0;
    this.table.role = "region";
    this.table.setAttribute("aria-label", `${this.look.title}, newest windows as a table`);
    this.details.addEventListener("toggle", () => this.fillTable());
    const foot = el("div", "chart-foot");
    foot.append(this.key, this.details);
    this.node.append(head, this.chips, this.frame, foot);
    this.frame.addEventListener("keydown", (event) => this.step(event));
    this.frame.addEventListener("click", (event) => this.ask(event));
    this.frame.addEventListener("blur", () => this.read(null));
    this.frame.addEventListener("mouseleave", () => this.read(null));
    new ResizeObserver(() => this.resize()).observe(this.frame);
  }

  /** Draw what the store holds now. */
  update(signals) {
    if (signals.join() !== this.signals.join()) {
      this.signals = signals;
      this.rebuild();
      return;
    }
    if (this.plot === null) return this.rebuild();
    this.plot.setData(this.data());
    this.fillChips();
    this.fillTable();
  }

  /** A new theme or another set of signals needs a new plot. */
  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (this.signals.length === 0 || this.frame.clientWidth === 0) return;
    const data = this.data();
    this.plot = new uPlot(this.options(), data, this.frame);
    this.fillChips();
    this.fillTable();
  }

  options() {
    const grid = { stroke: cssVar("--grid"), width: 1 };
    const axis = { stroke: cssVar("--ink-3"), grid, ticks: { show: false }, font: `11px ${cssVar("--font")}` };
    const kind = this.look.kind;
    return {
      width: this.frame.clientWidth,
      height: this.height(),
      padding: [10, this.wide() ? 92 : 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false }, sync: { key: "affect" } },
      scales: { x: { time: true }, y: { range: () => this.range() } },
      axes: [
        { ...axis, size: 28, space: 70, values: axisTimes },
        { ...axis, size: 52, values: (_, splits) => splits.map(kind.axis) },
      ],
      series: [{}, ...this.signals.flatMap((signal) => this.lines(signal))],
      bands: this.signals.map((signal, k) => ({
        series: [k * PER_SIGNAL + 2, k * PER_SIGNAL + 1],
        fill: faded(colourOf(signal), this.alpha(signal)),
      })),
      hooks: {
        drawClear: [(u) => this.hatch(u)],
        draw: [(u) => this.labels(u)],
        setCursor: [(u) => this.hover(u)],
      },
    };
  }

  alpha(signal) {
    if (this.focus !== null) return this.focus === signal ? 0.3 : 0.03;
    const shown = this.signals.filter((s) => !this.hidden.has(s)).length;
    return shown > 4 ? 0.11 : 0.18;
  }

  lines(signal) {
    const show = !this.hidden.has(signal);
    const colour = colourOf(signal);
    const stroke = this.focus === null || this.focus === signal ? colour : faded(colour, 0.22);
    const width = this.focus === signal ? 2.6 : 1.8;
    const edge = { show, width: 0, stroke: "transparent", points: { show: false } };
    const points = { show: false, filter: lonely, size: 5, fill: stroke, stroke };
    const hollow = { ...points, size: 6, fill: cssVar("--card") };
    return [edge, edge, { show, stroke, width, points }, { show, stroke, width, dash: [3, 4], points: hollow }].map((s) => ({ ...s }));
  }

  data() {
    const times = this.store.times(this.signals);
    const at = new Map(times.map((t, k) => [Math.round(t * 1000), k]));
    const columns = [times];
    this.settledUntil = null;
    this.reach = 0;
    for (const signal of this.signals) {
      const shown = !this.hidden.has(signal);
      const [lo, hi, final, open] = Array.from({ length: PER_SIGNAL }, () => new Array(times.length).fill(null));
      let before = null;
      for (const row of this.store.rows(signal)) {
        const k = at.get(row.window_end);
        const settled = row.status !== "provisional";
        lo[k] = row.lo;
        hi[k] = row.hi;
        (settled ? final : open)[k] = row.value;
        if (settled) this.settledUntil = Math.max(this.settledUntil ?? 0, row.window_end);
        if (!settled && before === k - 1) open[k - 1] = final[k - 1]; // the dashed line starts where the solid one ends
        before = settled ? k : null;
        // a window that has just opened has a very wide interval: it may leave the frame, not squeeze the rest
        const parts = settled ? [row.value, row.lo, row.hi] : [row.value];
        if (shown) for (const v of parts) this.reach = Math.max(this.reach, Math.abs(v ?? 0));
      }
      columns.push(lo, hi, final, open);
    }
    return columns;
  }

  range() {
    const { min, max, least } = this.look.kind;
    const top = Math.min(max, Math.max(least, this.reach * 1.08));
    return [min === -1 ? -top : 0, top];
  }

  height() {
    return this.wide() ? (TALL.has(this.group) ? 300 : 200) : 220;
  }

  wide() {
    return this.frame.clientWidth > 560;
  }

  resize() {
    if (this.plot === null) this.rebuild();
    else if (Math.abs(this.plot.width - this.frame.clientWidth) > 1) this.rebuild();
  }

  /** Hatch what is still provisional, and draw the zero line of bipolar values. */
  hatch(u) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    if (this.look.kind.min === -1) {
      const y = u.valToPos(0, "y", true);
      ctx.save();
      ctx.strokeStyle = cssVar("--ink-3");
      ctx.lineWidth = ratio;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.restore();
    }
    if (this.settledUntil === null) return;
    const from = Math.max(bbox.left, u.valToPos(this.settledUntil / 1000, "x", true));
    const until = bbox.left + bbox.width;
    if (until - from < 2) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(from, bbox.top, until - from, bbox.height);
    ctx.clip();
    ctx.strokeStyle = cssVar("--hatch");
    ctx.lineWidth = ratio;
    ctx.beginPath();
    for (let x = from - bbox.height; x < until; x += 7 * ratio) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }

  /** Names at the line ends, so that colour is not the only key. Pushed apart where they would overlap. */
  labels(u) {
    if (!this.wide()) return;
    const ratio = devicePixelRatio;
    const gap = 14 * ratio;
    const ends = [];
    this.signals.forEach((signal, k) => {
      if (this.hidden.has(signal)) return;
      const [final, open] = [u.data[k * PER_SIGNAL + 3], u.data[k * PER_SIGNAL + 4]];
      const i = final.findLastIndex((v, j) => v !== null || open[j] !== null);
      if (i >= 0) ends.push({ signal, y: u.valToPos(open[i] ?? final[i], "y", true) });
    });
    ends.sort((a, b) => a.y - b.y);
    const { ctx, bbox } = u;
    ends.forEach((e, k) => {
      if (k > 0) e.y = Math.max(e.y, ends[k - 1].y + gap);
    });
    let floor = bbox.top + bbox.height;
    for (const e of ends.toReversed()) {
      e.y = Math.min(e.y, floor);
      floor = e.y - gap;
    }
    ctx.save();
    ctx.font = `600 ${11.5 * ratio}px ${cssVar("--font")}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    for (const { signal, y } of ends) {
      ctx.globalAlpha = this.focus === null || this.focus === signal ? 1 : 0.3;
      ctx.fillStyle = colourOf(signal);
      ctx.fillText(lookOf(signal).tag, bbox.left + bbox.width + 8 * ratio, y, 84 * ratio);
    }
    ctx.restore();
  }

  fillChips() {
    const shown = this.signals.filter((s) => !this.hidden.has(s));
    const some = shown.some((s) => this.store.rows(s).some((row) => row.value !== null));
    this.none.hidden = some;
    const enough = shown.some((s) => this.store.rows(s).some((row) => row.n_eff >= this.store.minN));
    const why = enough && shown.every(comparesWithPast)
      ? "Nothing to compare with yet: what is usual is known after a day."
      : "Too few posts in every window here to give a value.";
    this.none.textContent = shown.length === 0 ? "Choose a signal above." : why;
    if (this.chips.childElementCount !== this.signals.length || this.chipsFor !== this.signals.join()) {
      this.chipsFor = this.signals.join();
      this.chips.replaceChildren(...this.signals.map((signal) => this.chip(signal)));
    }
    for (const chip of this.chips.children) {
      const signal = chip.dataset.signal;
      chip.setAttribute("aria-pressed", String(!this.hidden.has(signal)));
      chip.style.setProperty("--c", colourOf(signal));
    }
    this.chips.hidden = this.signals.length < 2;
  }

  chip(signal) {
    const chip = el("button", "chip");
    chip.type = "button";
    chip.dataset.signal = signal;
    chip.append(el("span", "swatch"), el("span", "", lookOf(signal).label));
    const focus = (on) => () => {
      this.focus = on && !this.hidden.has(signal) ? signal : null;
      this.rebuild();
    };
    chip.addEventListener("mouseenter", focus(true));
    chip.addEventListener("mouseleave", focus(false));
    chip.addEventListener("click", () => {
      if (this.hidden.has(signal)) this.hidden.delete(signal);
      else this.hidden.add(signal);
      this.focus = null;
      this.changed();
      this.rebuild();
    });
    return chip;
  }

  step(event) {
    const u = this.plot;
    if (event.key === "Enter" && u?.cursor.idx != null && event.target === this.frame) return this.ask(event);
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (u === null || !(event.key in moves) || event.target !== this.frame) return;
    event.preventDefault();
    const last = u.data[0].length - 1;
    const at = u.cursor.idx ?? last + 1;
    const k = Math.max(0, Math.min(last, at + moves[event.key]));
    u.setCursor({ left: u.valToPos(u.data[0][k], "x"), top: 10 });
    this.read(k, true);
  }

  hover(u) {
    if (!this.frame.matches(":hover") && document.activeElement !== this.frame) return this.read(null);
    this.read(u.cursor.idx ?? null);
  }

  /** Show (and on keyboard say) the rows of point `k`. */
  read(k, say = false) {
    const u = this.plot;
    if (u === null || k === null || u.data[0].length === 0) {
      this.tip.hidden = true;
      return;
    }
    fillTip(this.tip, this, Math.round(u.data[0][k] * 1000));
    this.tip.hidden = false;
    const x = u.valToPos(u.data[0][k], "x") + u.bbox.left / devicePixelRatio;
    const room = this.frame.clientWidth - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(4, Math.min(room, x > room - 16 ? x - this.tip.offsetWidth - 14 : x + 14))}px`;
    if (say) this.said.textContent = this.tip.innerText.replaceAll("\n", ", ");
  }

  /** The reasons of the point that is read: of the line nearest to the pointer, by keyboard of the highest. */
  ask(event) {
    event.preventDefault(); // Enter would press the button that gets the focus
    const u = this.plot;
    const k = u?.cursor.idx;
    if (k == null) return;
    const end = Math.round(u.data[0][k] * 1000);
    const rows = rowsAt(this, end).filter(([, row]) => row.value !== null);
    if (rows.length === 0) return;
    const top = event.type === "click" ? u.cursor.top : u.valToPos(rows[0][1].value, "y");
    const far = ([, row]) => Math.abs(u.valToPos(row.value, "y") - top);
    const [signal] = rows.reduce((best, one) => (far(one) < far(best) ? one : best));
    this.why(signal, end);
  }

  fillTable() {
    if (this.details.open) fillTable(this.table, this);
  }
}
