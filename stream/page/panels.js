// The parts beside the charts: big numbers, the latest final window, the posts, the operations strip. Text goes in as text.

import { clock, colourOf, duration, grouped, groupLook, lookOf, windowSpan } from "./look.js";

const MINUS_ONE = -1;

const el = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

const size = (row) => `n\u00a0${grouped(row.n)} · ${grouped(row.authors)}\u00a0author${row.authors === 1 ? "" : "s"}`;

/** "14:03:00–14:04:00" of the newest window that is final, over all signals shown. */
export function latestWindow(store) {
  const row = newest(store, store.signals);
  return row === null ? "none yet" : windowSpan(row.window_end - store.windowMs, row.window_end);
}

function newest(store, signals) {
  let found = null;
  for (const signal of signals) {
    const row = store.settled(signal);
    if (row !== null && (found === null || row.window_end > found.window_end)) found = row;
  }
  return found;
}

/** A scale with the interval as a bar and the value as a tick; purely visual, the text says the same. */
function whisker(kind, row, colour) {
  const box = el("span", "whisker");
  box.setAttribute("aria-hidden", "true");
  const max = kind.max === Infinity ? Math.max(1, row.hi ?? 0, row.value) * 1.2 : kind.max;
  const at = (v) => `${Math.max(0, Math.min(100, ((v - kind.min) / (max - kind.min)) * 100))}%`;
  if (kind.min === MINUS_ONE) box.classList.add("bipolar");
  if (row.lo !== null && row.hi !== null) {
    const band = el("span", "band");
    band.style.left = at(row.lo);
    band.style.right = `calc(100% - ${at(row.hi)})`;
    box.append(band);
  }
  const tick = el("span", "tick");
  tick.style.left = at(row.value);
  box.append(tick);
  box.style.setProperty("--c", colour);
  return box;
}

/** Big numbers: mood, agreement and volume in full, and the strongest of the shares. */
export function drawTiles(box, store, groups, minN) {
  const signals = [];
  const emotions = (groups.get("emotions") ?? []).filter((s) => lookOf(s).short !== "neutral");
  const lead = leader(store, emotions);
  if (lead !== null) signals.push([lead, "Strongest emotion"]);
  if (!["balance", "accord", "other"].some((group) => groups.has(group))) {
    // few signals: there is room for the next two
    for (const words of ["Second strongest", "Third strongest"]) {
      const next = leader(store, emotions.filter((s) => signals.every(([shown]) => shown !== s)));
      if (next !== null) signals.push([next, words]);
    }
  }
  const need = leader(store, groups.get("needs") ?? []);
  if (need !== null) signals.push([need, "Top need"]);
  for (const group of ["mood", "balance", "accord", "other"]) {
    for (const signal of groups.get(group) ?? []) signals.push([signal, ""]);
  }
  const tiles = signals.slice(0, 6).map(([signal, lead]) => tile(store, signal, lead, minN));
  box.replaceChildren(...tiles);
  box.hidden = tiles.length === 0;
}

/** The signal whose newest final value is highest; the first one where none has a value. */
function leader(store, signals) {
  const latest = newest(store, signals)?.window_end;
  let best = null;
  for (const signal of signals) {
    const row = store.settled(signal);
    if (row === null || row.window_end !== latest || row.value === null) continue;
    if (best === null || row.value > store.settled(best).value) best = signal;
  }
  return best ?? signals[0] ?? null;
}

function tile(store, signal, lead, minN) {
  const look = lookOf(signal);
  const row = store.settled(signal);
  const node = el("article", "tile card");
  node.dataset.signal = signal;
  const head = el("h2", "tile-name", lead === "" ? look.label : lead);
  node.append(head);
  if (row === null) {
    node.append(el("p", "tile-none", "no final window yet"));
    return node;
  }
  if (row.value === null) {
    node.append(el("p", "tile-none", `not enough posts (n < ${minN})`), el("p", "tile-n", size(row)));
    return node;
  }
  const value = el("p", "tile-value");
  if (lead !== "") {
    const name = el("span", "tile-label", look.label);
    name.style.setProperty("--c", colourOf(signal));
    value.append(name, " ");
  }
  value.append(el("span", "num", look.kind.text(row.value)));
  if (look.group === "needs") value.append(" ", el("span", "unit", "per 10\u202f000"));
  const sub = el("p", "tile-n", size(row));
  if (row.status === "revised") sub.append(" · ", el("span", "tag", `revised ${row.revision}×`));
  node.append(value);
  if (row.lo !== null && row.hi !== null) {
    const span = el("p", "tile-span", "interval ");
    span.append(el("span", "", look.kind.span(row.lo, row.hi)));
    node.append(whisker(look.kind, row, colourOf(signal)), span);
  }
  node.append(sub);
  return node;
}

/** All shares of the newest final window, as bars with their interval. Emotions keep their order, needs are ranked. */
export function drawBars(box, store, groups, minN) {
  const group = groups.has("emotions") ? "emotions" : "needs";
  const signals = groups.get(group) ?? [];
  const row = newest(store, signals);
  box.closest("section").hidden = signals.length === 0;
  if (signals.length === 0) return;
  const look = groupLook(group);
  document.getElementById("mix-title").textContent = `${look.title}, latest final window`;
  document.getElementById("mix-sub").textContent = row === null ? "none yet" : size(row);
  const rows = signals.map((s) => [s, store.settled(s)]);
  if (group === "needs") rows.sort(([, a], [, b]) => (b?.value ?? -1) - (a?.value ?? -1));
  const top = Math.max(look.kind.least, ...rows.map(([, r]) => r?.hi ?? r?.value ?? 0));
  box.replaceChildren(...rows.map(([signal, r]) => bar(signal, r, top, minN)));
}

function bar(signal, row, top, minN) {
  const look = lookOf(signal);
  const node = el("li", "bar");
  node.dataset.signal = signal;
  node.style.setProperty("--c", colourOf(signal));
  node.append(el("span", "bar-name", look.label));
  if (row === null || row.value === null) {
    node.append(el("span", "bar-none", row === null ? "no final window yet" : `not enough posts (n < ${minN})`));
    return node;
  }
  const track = el("span", "bar-track");
  track.setAttribute("aria-hidden", "true");
  const fill = el("span", "bar-fill");
  fill.style.width = `${(row.value / top) * 100}%`;
  track.append(fill);
  if (row.lo !== null && row.hi !== null) {
    const range = el("span", "bar-range");
    range.style.left = `${(row.lo / top) * 100}%`;
    range.style.width = `${((row.hi - row.lo) / top) * 100}%`;
    track.append(range);
  }
  node.append(track, el("span", "bar-value", look.kind.text(row.value)));
  if (row.lo !== null && row.hi !== null) node.append(el("span", "bar-span", look.kind.span(row.lo, row.hi)));
  return node;
}

let drawnPosts = "";

export function drawPosts(box, posts) {
  document.getElementById("posts-sub").textContent = posts.length === 0 ? "" : "names, handles and links masked";
  const now = JSON.stringify(posts);
  if (now === drawnPosts && box.childElementCount > 0) return; // leave selection and scroll where they are
  drawnPosts = now;
  if (posts.length === 0) {
    box.replaceChildren(el("li", "post-none", "No posts to show yet."));
    return;
  }
  box.replaceChildren(...posts.map(post));
}

function post({ time_ms, text_masked, label, score, repost, lang }) {
  const node = el("li", "post");
  const head = el("p", "post-head");
  const when = el("time", "", clock(time_ms, true));
  when.dateTime = new Date(time_ms).toISOString();
  const mark = el("span", "post-label", `${lookOf(label).label} ${score.toFixed(2)}`);
  mark.style.setProperty("--c", colourOf(label));
  head.append(mark, when);
  if (repost) head.append(el("span", "tag", "repost"));
  const text = el("p", "post-text", text_masked);
  if (lang) text.lang = lang;
  node.append(head, text);
  return node;
}

function gauge(name, value, title = "") {
  const box = el("div");
  box.append(el("dt", "", name), el("dd", "", value));
  if (title) box.title = title;
  return box;
}

export function drawOps(status) {
  if (status === null) return;
  const s = status;
  document.getElementById("gauges").replaceChildren(
    gauge("Rate", `${grouped(s.rate_per_s, s.rate_per_s < 10 ? 1 : 0)} posts/s`),
    gauge("Lag", `${grouped(s.lag)} post${s.lag === 1 ? "" : "s"}`, "waiting in the log, not read yet"),
    gauge("Watermark", s.watermark_ms === null ? "none yet" : clock(s.watermark_ms, true), "event time is complete up to here"),
    gauge("Watermark delay", s.watermark_delay_s === null ? "–" : duration(s.watermark_delay_s), "how far event time runs behind the clock"),
    gauge("Rows written", grouped(s.rows)),
    gauge("Partitions", grouped(s.partitions)),
    gauge("Up", duration(s.uptime_s)),
  );
  drawSum(document.getElementById("sum"), s);
  const engine = document.getElementById("engine");
  engine.replaceChildren();
  if (s.engine === "" && s.model === "") return;
  engine.append(el("span", "engine-name", [s.engine, s.model].filter(Boolean).join(" · ")));
  if (s.engine_reason) engine.append(" ", el("span", "engine-why", s.engine_reason));
}

function drawSum(box, s) {
  const terms = [["applied", s.applied], ["duplicate", s.duplicate], ["late", s.late], ["rejected", s.rejected], ["in flight", s.in_flight]];
  const line = el("p", "sum-line");
  line.append(term("in", s.consumed), el("span", "op", " = "));
  terms.forEach(([name, count], k) => line.append(...(k > 0 ? [el("span", "op", " + ")] : []), term(name, count)));
  const off = s.consumed - s.accounted;
  const words = s.conserved
    ? "every post accounted for"
    : `${grouped(Math.abs(off))} post${Math.abs(off) === 1 ? "" : "s"} ${off > 0 ? "unaccounted for" : "counted twice"}`;
  const verdict = el("p", `verdict ${s.conserved ? "good" : "bad"}`);
  const mark = el("span", "mark", s.conserved ? "✓" : "✗");
  mark.setAttribute("aria-hidden", "true");
  verdict.append(mark, " ", words);
  box.replaceChildren(line, verdict);
}

function term(name, count) {
  const node = el("span", "term");
  node.append(el("b", "", grouped(count)), " ", el("span", "", name));
  return node;
}
