// The panel that says why a value moved: parts that add up to the change, the posts behind it, the words that rose.

import { $, el } from "./dom.js";
import { clock, colourOf, entityLook, grouped, lookOf, windowSpan } from "./look.js";
import { get } from "./net.js";

const MINUS = "\u2212";
const PARTS = {
  level: ["Level", "the same voices speak differently"],
  mix: ["Mix", "other voices speak"],
  volume: ["Volume", "more or fewer speak"],
  past: ["Past", "something else is usual now"],
};
const GROUPS_SHOWN = 6;

/** A change of a value: always with its sign. Shares change by percentage points. */
function change(v, kind) {
  const text = kind.text(Math.abs(v)).replace(/^\+/, "");
  return `${v < 0 ? MINUS : "+"}${text.replace(/%$/, "points")}`;
}

export class Explain {
  constructor() {
    this.box = $("why");
    this.asked = 0;
    $("why-close").addEventListener("click", () => this.box.close());
    this.box.addEventListener("click", (event) => {
      if (event.target === this.box) this.box.close(); // the backdrop
    });
  }

  /** Open for one row; `held` is the row as the page has it, if it does. */
  async open(signal, entity, start, end, held) {
    const mine = (this.asked += 1);
    const look = lookOf(signal);
    $("why-title").textContent = `Why: ${look.label}`;
    $("why-sub").textContent = `${entityLook(entity).name}, ${windowSpan(start, end)}`;
    const show = (...nodes) => $("why-body").replaceChildren(...(held ? [facts(held, look)] : []), ...nodes);
    show(el("p", "sub", "Asking the engine…"));
    if (!this.box.open) this.box.showModal();
    let told;
    try {
      told = contents(await get("/api/explain", { id: `${signal}|${entity}|${start}|${end}` }), look, signal);
    } catch (error) {
      const missing = "This engine does not serve reasons: it is an older version than the page.";
      told = [el("p", "trouble", error.status === 404 ? missing : `The engine cannot say why: ${error.message}`)];
    }
    if (mine === this.asked) show(...told);
  }
}

/** What is known of the row without asking: value, interval, as read and corrected, sample. */
function facts(row, look) {
  const list = el("dl", "facts");
  const fact = (name, text) => list.append(el("dt", "", name), el("dd", "", text));
  const span = (lo, hi) => (lo == null || hi == null ? "" : `, interval ${look.kind.span(lo, hi)}`);
  fact("Value", row.value === null ? "too few posts to say" : look.kind.text(row.value) + span(row.lo, row.hi));
  if (row.corrected != null) fact("Corrected", look.kind.text(row.corrected) + span(row.corrected_lo, row.corrected_hi));
  fact("Sample", `n ${grouped(row.n)}, effective ${grouped(row.n_eff)}, ${grouped(row.authors)} authors`);
  fact("Status", row.status + (row.revision > 0 ? `, revision ${row.revision}` : ""));
  if (row.capped >= 0.001) fact("Taken from loud authors", `${(row.capped * 100).toFixed(1)}\u00a0% of the weight`);
  if (row.sampled < 1) fact("Scored", `${(row.sampled * 100).toFixed(1)}\u00a0% of the posts, for all of them`);
  return list;
}

/** The answer of /api/explain as sections. */
function contents(answer, look, signal) {
  const found = [];
  const section = (title, ...nodes) => {
    const box = el("section", "why-part");
    box.append(el("h3", "", title), ...nodes);
    found.push(box);
  };
  if (answer.notes?.length) found.push(...answer.notes.map((note) => el("p", "trouble", note)));
  if (answer.change != null && answer.parts != null) {
    const words = `${look.kind.text(answer.previous)} in the window before, ${look.kind.text(answer.value)} now`;
    section(`It moved by ${change(answer.change, look.kind)}`, el("p", "sub", words), parts(answer.parts, look.kind));
  } else {
    section("What changed", el("p", "sub", "Too few posts in this window or in the one before to take the change apart."));
  }
  if (answer.groups?.length > 1) section(`Voices, by ${answer.by}`, groups(answer.groups, look.kind));
  if (answer.posts?.length) section("Posts that moved it most", posts(answer.posts, look.kind, signal));
  if (answer.words?.length) section("Words that rose", words(answer.words));
  return found;
}

function parts(given, kind) {
  const list = el("dl", "facts parts");
  for (const [name, [title, about]] of Object.entries(PARTS)) {
    if (given[name] == null || (name === "past" && given[name] === 0)) continue;
    const head = el("dt", "", `${title}: `);
    head.append(el("span", "", about));
    list.append(head, el("dd", "", change(given[name], kind)));
  }
  return list;
}

function groups(given, kind) {
  const box = el("div", "scroll");
  box.tabIndex = 0;
  box.role = "region";
  box.setAttribute("aria-label", "Voices as a table");
  const table = el("table");
  const head = table.createTHead().insertRow();
  for (const text of ["Voices", "Share before", "now", "Value before", "now"]) {
    const cell = el("th", "", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  const percent = (v) => `${(v * 100).toFixed(0)}\u00a0%`;
  const value = (v) => (v == null ? "–" : kind.text(v));
  for (const group of given.slice(0, GROUPS_SHOWN)) {
    const line = body.insertRow();
    const texts = [group.group, percent(group.share_before), percent(group.share), value(group.value_before), value(group.value)];
    for (const text of texts) line.insertCell().textContent = text;
  }
  box.append(table);
  return box;
}

function posts(given, kind, signal) {
  const list = el("ol", "why-posts");
  for (const { moved, label, time_ms, text_masked } of given) {
    const node = el("li", "post");
    const head = el("p", "post-head");
    const mark = el("span", "post-label", change(moved, { text: kind.fine }));
    mark.style.setProperty("--c", colourOf(signal));
    const when = el("time", "", clock(time_ms, true));
    when.dateTime = new Date(time_ms).toISOString();
    head.append(mark, el("span", "", lookOf(label).label), when);
    node.append(head, el("p", "post-text", text_masked));
    list.append(node);
  }
  return list;
}

function words(given) {
  const list = el("ul", "words");
  for (const { word, now, before } of given) {
    const node = el("li", "word", word);
    node.append(" ", el("span", "", `${grouped(before)} → ${grouped(now)}`));
    list.append(node);
  }
  return list;
}
