// Needs by place as a heat map that is a table: colour and number, one cell in the tab order, arrow keys for the others.

import { button, el } from "./dom.js";
import { clock, day, entityLook, grouped, lookOf, windowSpan } from "./look.js";

const STEPS = 6;
const AGE_DAY_MS = 86_400_000;

const rate = (v) => grouped(v, v < 99.95 ? 1 : 0);
const name = (need) => lookOf(`crisis.need.${need}`).label;

export class Heat {
  /** `why(signal, entity, start, end)` asks for a cell's reasons; `choose(entity)` shows a place. */
  constructor(box, line, why, choose) {
    this.box = box;
    this.line = line;
    this.why = why;
    this.choose = choose;
    this.at = [0, 0];
    this.drawn = "";
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("focusin", (event) => this.tell(event.target));
    box.addEventListener("mouseover", (event) => this.tell(event.target));
  }

  /** The answer of /api/matrix; `chosen`: the entity shown, its row is marked. */
  update(matrix, chosen) {
    const now = JSON.stringify([matrix, chosen]);
    if (now === this.drawn) return; // leave the focus where it is
    this.drawn = now;
    const held = this.box.contains(document.activeElement);
    this.matrix = matrix;
    this.cells = new Map([...matrix.cells, ...matrix.whole].map((cell) => [`${cell.place} ${cell.need}`, cell]));
    const rates = [...this.cells.values()].map((cell) => cell.rate?.value ?? 0);
    this.top = Math.max(1, ...rates);
    const table = el("table", "heat");
    table.role = "grid";
    table.setAttribute("aria-labelledby", "heat-title");
    const head = table.createTHead().insertRow();
    for (const text of ["Place", "n", ...matrix.needs.map(name)]) {
      const cell = el("th", "", text);
      cell.scope = "col";
      head.append(cell);
    }
    const body = table.createTBody();
    const places = [...(matrix.whole.length > 0 ? [matrix.whole[0].place] : []), ...matrix.places];
    for (const place of places) this.row(body.insertRow(), place, place === chosen);
    this.box.replaceChildren(table);
    this.grid = [...body.rows].map((row) => [...row.querySelectorAll("[data-cell]")]);
    this.at = [Math.min(this.at[0], this.grid.length - 1), Math.min(this.at[1], matrix.needs.length)];
    this.move(this.at, held);
  }

  row(line, place, here) {
    const head = el("th");
    head.scope = "row";
    const link = button("place", entityLook(place).name, () => this.choose(place), `Show ${entityLook(place).name}`);
    link.dataset.cell = "";
    link.tabIndex = -1;
    if (here) link.setAttribute("aria-current", "true");
    head.append(link);
    const some = this.matrix.needs.map((need) => this.cells.get(`${place} ${need}`)).find((cell) => cell !== undefined);
    const posts = el("td", "heat-n", some === undefined ? "–" : grouped(some.n));
    line.append(head, posts, ...this.matrix.needs.map((need) => this.cell(place, need)));
  }

  cell(place, need) {
    const cell = this.cells.get(`${place} ${need}`);
    const box = el("td");
    const open = cell?.status === "provisional";
    const value = cell?.rate?.value ?? null;
    const node = button(`heat-cell${open ? " open" : ""}`, value === null ? "–" : rate(value), () => this.ask(place, need));
    node.dataset.cell = "";
    node.tabIndex = -1;
    node.dataset.place = place;
    node.dataset.need = need;
    // by the root: most rates are small, and twice as dark is not twice as much anyway; the number says it
    node.dataset.heat = value === null ? "none" : Math.min(STEPS, Math.ceil(Math.sqrt(value / this.top) * STEPS));
    node.setAttribute("aria-label", this.words(place, need, cell));
    box.append(node);
    return box;
  }

  words(place, need, cell) {
    const where = `${name(need)}, ${entityLook(place).name}`;
    if (cell === undefined) return `${where}: no posts`;
    if (cell.rate === null) return `${where}: too few posts to say (n ${grouped(cell.n)})`;
    const { value, lo, hi, corrected } = cell.rate;
    const parts = [`${where}: ${rate(value)} per 10\u202f000 posts`, `interval ${rate(lo)} to ${rate(hi)}`];
    if (corrected !== null) parts.push(`corrected ${rate(corrected)}`);
    if (cell.count !== null) parts.push(`about ${grouped(cell.count, cell.count < 10 ? 1 : 0)} posts`);
    if (cell.first_seen !== null) parts.push(`first seen ${this.when(cell.first_seen)}, last ${this.when(cell.last_seen)}`);
    parts.push(cell.status + (cell.revision > 0 ? `, revision ${cell.revision}` : ""));
    return parts.join(" · ");
  }

  when(ms) {
    const far = this.matrix.window_end - ms > AGE_DAY_MS;
    return far ? `${day(ms)} ${clock(ms)}` : clock(ms);
  }

  ask(place, need) {
    const { window_start, window_end } = this.matrix;
    this.why(`crisis.need.${need}`, place, window_start, window_end);
  }

  tell(node) {
    const cell = node.closest("[data-cell]");
    if (cell !== null) this.line.textContent = cell.getAttribute("aria-label");
  }

  move([row, column], focus) {
    this.box.querySelector('[data-cell][tabindex="0"]')?.setAttribute("tabindex", "-1");
    this.at = [row, column];
    const cell = this.grid[row]?.[column];
    if (cell === undefined) return;
    cell.tabIndex = 0;
    if (focus) cell.focus();
  }

  key(event) {
    const row = this.grid?.findIndex((cells) => cells.includes(event.target)) ?? -1;
    if (row < 0) return;
    const column = this.grid[row].indexOf(event.target);
    const [rows, columns] = [this.grid.length - 1, this.grid[row].length - 1];
    const to = {
      ArrowRight: [row, Math.min(columns, column + 1)],
      ArrowLeft: [row, Math.max(0, column - 1)],
      ArrowDown: [Math.min(rows, row + 1), column],
      ArrowUp: [Math.max(0, row - 1), column],
      Home: [row, 0],
      End: [row, columns],
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.move(to, true);
  }
}

/** What the map is of: its window, its status, and the posts that are in none of its cells. */
export function heatWords(matrix) {
  if (matrix.window_end === null) return "no window yet";
  const open = [...matrix.cells, ...matrix.whole].some((cell) => cell.status === "provisional");
  const parts = [`posts naming a need, per 10\u202f000 · ${windowSpan(matrix.window_start, matrix.window_end)}${open ? ", provisional" : ""}`];
  if (matrix.without_place !== null) parts.push(`${Math.round(matrix.without_place.value / 100)}\u00a0% of the posts have no place and are in no row but the first`);
  if (matrix.more_places > 0) parts.push(`${matrix.more_places} more places`);
  return parts.join(" · ");
}
