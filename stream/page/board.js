// Tiles, bars and charts of one view: which signals go where, and which lines are hidden until asked for.

import { Chart } from "./charts.js";
import { $, memory } from "./dom.js";
import { GROUP_ORDER, groupLook, lookOf } from "./look.js";
import { drawBars, drawTiles } from "./panels.js";
import { Volume } from "./volume.js";

const UNDRAWN = new Set(["other", "accord"]);
const RANKED = ["needs", "secondary"];
const RANKED_SHOWN = 5;

export class Board {
  /** `why(signal, windowEnd)` asks for the reasons of a value. */
  constructor(store, why) {
    this.store = store;
    this.why = why;
    this.charts = new Map();
    this.hidden = new Map();
    this.volume = new Volume(store);
  }

  draw(view, minN) {
    const groups = this.byGroup();
    drawTiles($("tiles"), this.store, groups, minN, this.why);
    drawBars($("bars"), this.store, groups, minN);
    this.drawCharts(view, groups);
  }

  /** Another theme, or other values: every plot anew. */
  rebuild() {
    for (const chart of this.charts.values()) if (chart.node.isConnected) chart.rebuild();
    if (this.volume.plot !== null) this.volume.rebuild();
  }

  /** Signals by group, in reading order. */
  byGroup() {
    const groups = new Map(GROUP_ORDER.map((group) => [group, []]));
    for (const signal of this.store.signals) groups.get(lookOf(signal).group).push(signal);
    for (const [group, signals] of groups) {
      signals.sort((a, b) => lookOf(a).order - lookOf(b).order || a.localeCompare(b));
      if (signals.length === 0) groups.delete(group);
    }
    return groups;
  }

  /** Neutral flattens the other lines and thirteen needs cannot be read at once: hidden until asked for. */
  hiddenIn(view, groups) {
    let held = this.hidden.get(view);
    if (held === undefined) {
      const chosen = memory.read(`hidden.${view}`);
      held = { signals: new Set(JSON.parse(chosen ?? "[]")), chosen: chosen !== null };
      this.hidden.set(view, held);
    }
    if (held.chosen) return held;
    held.signals.clear();
    for (const signal of groups.get("emotions") ?? []) if (lookOf(signal).short === "neutral") held.signals.add(signal);
    for (const group of RANKED) {
      const signals = [...(groups.get(group) ?? [])];
      const reach = new Map(signals.map((s) => [s, this.store.rows(s).reduce((top, row) => Math.max(top, row.value ?? 0), 0)]));
      signals.sort((a, b) => reach.get(b) - reach.get(a));
      for (const signal of signals.slice(RANKED_SHOWN)) held.signals.add(signal);
    }
    return held;
  }

  drawCharts(view, groups) {
    const held = this.hiddenIn(view, groups);
    const shown = [];
    for (const [group, signals] of groups) {
      if (UNDRAWN.has(group)) continue;
      const key = `${view} ${group}`;
      let chart = this.charts.get(key);
      if (chart === undefined) {
        chart = new Chart(this.store, group, groupLook(group), held.signals, () => {
          held.chosen = true;
          memory.write(`hidden.${view}`, JSON.stringify([...held.signals]));
        }, this.why);
        this.charts.set(key, chart);
      }
      shown.push([chart, signals]);
    }
    const nodes = [...shown.map(([chart]) => chart.node), this.volume.node];
    const there = [...$("charts").children];
    if (nodes.length !== there.length || nodes.some((node, k) => node !== there[k])) $("charts").replaceChildren(...nodes);
    for (const [chart, signals] of shown) chart.update(signals);
    this.volume.update();
  }
}
