// The parts beside the charts: big numbers, the latest final window, the posts, the operations strip. Text goes in as text.

import { $, button, el } from "./dom.js";
import { absentWords, clock, colourOf, grouped, groupLook, lookOf, windowSpan } from "./look.js";

const MINUS_ONE = -1;
const TILES = 6;
const TILE_ORDER = [
  "bullishness", "valence", "fear_greed", "buzz_z", "panic", "agreement", "request", "balance", "attitude",
  "without_place", "entropy", "drift", "disagreement", "offered", "offer", "rumour_cue", "concentration", "buzz",
];

const size = (row) =>
  `n\u00a0${grouped(row.n)} · effective\u00a0${grouped(row.n_eff)} · ${grouped(row.authors)}\u00a0author${row.authors === 1 ? "" : "s"}`;

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

/** As `newest`, but before any window is final the newest provisional one. */
function newestOrOpen(store, signals) {
  const rows = signals.map((s) => store.latest(s)).filter((row) => row !== null);
  return newest(store, signals) ?? rows.sort((a, b) => b.window_end - a.window_end)[0] ?? null;
}

/** A scale with the interval as a bar and the value as a tick; purely visual, the text says the same. */
function whisker(kind, row, colour) {
  const box = el("span", "whisker");
  box.setAttribute("aria-hidden", "true");
  const far = Math.max(1, Math.abs(row.lo ?? 0), Math.abs(row.hi ?? 0), Math.abs(row.value)) * 1.2;
  const max = kind.max === Infinity ? far : kind.max;
  const min = kind.min === MINUS_ONE ? -max : kind.min;
  const at = (v) => `${Math.max(0, Math.min(100, ((v - min) / (max - min)) * 100))}%`;
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

/** Big numbers: what leads, then mood, agreement and the like in a fixed order. `why(signal, end)` asks for reasons. */
export function drawTiles(box, store, groups, minN, why) {
  const signals = [];
  const need = leader(store, groups.get("needs") ?? []);
  if (need !== null) signals.push([need, "Top need"]);
  const emotions = (groups.get("emotions") ?? []).filter((s) => lookOf(s).short !== "neutral");
  const lead = leader(store, emotions);
  if (lead !== null && need === null) signals.push([lead, "Strongest emotion"]);
  const others = new Map(store.signals.filter((s) => !["emotions", "needs"].includes(lookOf(s).group)).map((s) => [lookOf(s).short, s]));
  for (const short of TILE_ORDER) if (others.has(short)) signals.push([others.get(short), ""]);
  (need === null ? ["Second", "Third"] : ["Strongest emotion"]).forEach((words, k) => {
    const next = leader(store, emotions.filter((s) => signals.every(([shown]) => shown !== s)));
    if (next !== null && signals.length < TILES) signals.splice(1 + k, 0, [next, words]);
  });
  const had = document.activeElement?.closest?.(".tile")?.dataset.signal;
  const tiles = signals.slice(0, TILES).map(([signal, lead]) => tile(store, signal, lead, minN, why));
  box.replaceChildren(...tiles);
  box.hidden = tiles.length === 0;
  if (had !== undefined) box.querySelector(`[data-signal="${CSS.escape(had)}"] .why`)?.focus();
}

/** The signal whose newest final value is highest; the first one where none has a value. */
function leader(store, signals) {
  const latest = newestOrOpen(store, signals)?.window_end;
  let best = null;
  for (const signal of signals) {
    const row = store.latest(signal);
    if (row === null || row.window_end !== latest || row.value === null) continue;
    if (best === null || row.value > store.latest(best).value) best = signal;
  }
  return best ?? signals[0] ?? null;
}

function tile(store, signal, lead, minN, why) {
  const look = lookOf(signal);
  const row = store.latest(signal);
  const node = el("article", "tile card");
  node.dataset.signal = signal;
  const head = el("h2", "tile-name", lead === "" ? look.label : lead);
  node.append(head);
  node.classList.toggle("open", row.status === "provisional");
  if (row.value === null) {
    node.append(el("p", "tile-none", absentWords(signal, row, minN)), el("p", "tile-n", size(row)));
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
  if (row.status === "provisional") sub.append(" · ", el("span", "tag open", "provisional"));
  if (store.isCorrected(signal)) sub.append(" · ", el("span", "tag", "corrected"));
  if (row.status === "revised") sub.append(" · ", el("span", "tag", `revised ${row.revision}×`));
  node.append(value);
  if (row.lo !== null && row.hi !== null) {
    const span = el("p", "tile-span", "interval ");
    span.append(el("span", "", look.kind.span(row.lo, row.hi)));
    node.append(whisker(look.kind, row, colourOf(signal)), span);
  }
  node.append(sub, button("why", "Why?", () => why(signal, row.window_end), `Why: ${look.label}`));
  return node;
}

/** All shares of the newest final window, as bars with their interval. Emotions keep their order, needs are ranked. */
export function drawBars(box, store, groups, minN) {
  const group = groups.has("needs") ? "needs" : "emotions";
  const signals = groups.get(group) ?? [];
  const row = newestOrOpen(store, signals);
  box.closest("section").hidden = signals.length === 0;
  if (signals.length === 0) return;
  const look = groupLook(group);
  $("mix-title").textContent = `${look.title}, latest ${row.status === "provisional" ? "window, provisional" : "final window"}`;
  $("mix-sub").textContent = size(row) + (signals.some((s) => store.isCorrected(s)) ? " · corrected" : "");
  const rows = signals.map((s) => [s, store.latest(s)]);
  if (group === "needs") rows.sort(([, a], [, b]) => (b?.value ?? -1) - (a?.value ?? -1));
  const top = Math.max(look.kind.least, ...rows.map(([, r]) => r?.hi ?? r?.value ?? 0));
  box.replaceChildren(...rows.map(([signal, r]) => bar(signal, r, top, minN)));
}

function bar(signal, row, top, minN) {
  const look = lookOf(signal);
  const node = el("li", "bar");
  node.dataset.signal = signal;
  node.style.setProperty("--c", colourOf(signal));
  node.classList.toggle("open", row.status === "provisional");
  node.append(el("span", "bar-name", look.label));
  if (row.value === null) {
    node.append(el("span", "bar-none", absentWords(signal, row, minN)));
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
  $("posts-sub").textContent = posts.length === 0 ? "" : "names, handles and links masked";
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
