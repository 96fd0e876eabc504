// What a chart says in words: the rows at one point, and the newest windows as a table whose values lead to their reasons.

import { button, el } from "./dom.js";
import { clock, colourOf, grouped, lookOf } from "./look.js";

const TABLE_ROWS = 12;

/** The rows of the window that ends at `end`: [[signal, row]], highest value first. */
export function rowsAt(chart, end) {
  const shown = chart.signals.filter((s) => !chart.hidden.has(s));
  const rows = shown.map((s) => [s, chart.store.rows(s).find((row) => row.window_end === end)]).filter(([, row]) => row);
  return rows.sort((a, b) => (b[1].value ?? -9) - (a[1].value ?? -9));
}

export function fillTip(tip, chart, end) {
  const rows = rowsAt(chart, end);
  tip.replaceChildren();
  if (rows.length === 0) {
    tip.append(el("p", "tip-when", `${clock(end, true)} · no posts`));
    return;
  }
  const [, first] = rows[0];
  tip.append(el("p", "tip-when", `to ${clock(end, true)} · ${first.status}${first.revision > 0 ? ` · revision ${first.revision}` : ""}`));
  tip.append(el("p", "tip-n", `n ${grouped(first.n)} · effective ${grouped(first.n_eff)} · ${grouped(first.authors)} authors`));
  const list = el("dl");
  for (const [signal, row] of rows) {
    const name = el("dt", "", lookOf(signal).label);
    name.style.setProperty("--c", colourOf(signal));
    list.append(name, el("dd", "", row.value === null ? (row.n_eff < chart.store.minN ? "too few" : "none") : chart.look.kind.text(row.value)));
    list.append(el("dd", "span", row.lo === null || row.hi === null ? "" : chart.look.kind.span(row.lo, row.hi)));
  }
  tip.append(list, el("p", "tip-n", "click or Enter: why"));
}

export function fillTable(box, chart) {
  const shown = chart.signals.filter((s) => !chart.hidden.has(s));
  const byEnd = new Map();
  for (const signal of shown) {
    for (const row of chart.store.rows(signal).slice(-TABLE_ROWS)) {
      if (!byEnd.has(row.window_end)) byEnd.set(row.window_end, new Map());
      byEnd.get(row.window_end).set(signal, row);
    }
  }
  const had = document.activeElement?.closest?.(".scroll") === box ? document.activeElement.dataset.at : undefined;
  const table = el("table");
  const head = table.createTHead().insertRow();
  for (const text of ["Window end", "Status", "n", ...shown.map((s) => lookOf(s).label)]) {
    const cell = el("th", "", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const end of [...byEnd.keys()].sort((a, b) => b - a).slice(0, TABLE_ROWS)) {
    const rows = byEnd.get(end);
    const first = rows.values().next().value;
    const line = body.insertRow();
    line.className = first.status;
    for (const text of [clock(end, true), first.status, grouped(first.n)]) line.insertCell().textContent = text;
    for (const signal of shown) valueCell(line.insertCell(), chart, signal, rows.get(signal), end);
  }
  box.replaceChildren(table);
  if (had !== undefined) box.querySelector(`[data-at="${CSS.escape(had)}"]`)?.focus();
}

function valueCell(cell, chart, signal, row, end) {
  const value = row?.value;
  if (value === undefined || value === null) {
    cell.textContent = "–";
    return;
  }
  const text = chart.look.kind.text(value);
  const link = button("cell", text, () => chart.why(signal, end), `${text}: why ${lookOf(signal).label} to ${clock(end, true)}`);
  link.dataset.at = `${signal} ${end}`;
  cell.append(link);
}
