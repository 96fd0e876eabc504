// What the page says about itself and about the data: the link, what is wrong, what is missing, what to beware of.

import { $, el, say } from "./dom.js";
import { clock, entityLook } from "./look.js";

const STALE_AFTER_MS = 15_000;
const STILL_AFTER_MS = 60_000;
const LEAST_CAPPED = 0.05;

const percent = (v) => `${v * 100 < 10 ? (v * 100).toFixed(1) : Math.round(v * 100)}\u00a0%`;

const quietMs = (state) => performance.now() - state.heard;

export function linkWords(state, status) {
  if (state.link === "reconnecting") return ["reconnecting", `Reconnecting${state.tries > 1 ? `, try ${state.tries}` : "…"}`];
  if (state.link === "connecting") return ["connecting", "Connecting"];
  if (quietMs(state) >= STALE_AFTER_MS) return ["stale", "Stale"];
  if (status !== null && !status.ready) return ["waiting", "Not ready"];
  return ["live", "Live"];
}

export function drawLink(state, status) {
  const [name, text] = linkWords(state, status);
  if ($("link").dataset.state !== name) $("link").dataset.state = name;
  say($("link-text"), text);
}

/** What is wrong, in words, and whether what is shown may be out of date; nothing when all is well. */
function noticeWords(state, status, filled) {
  const [name] = linkWords(state, status);
  if (name === "reconnecting") return "The connection to the engine is lost. The values below are the last ones received; the page keeps trying and catches up by itself.";
  if (name === "stale") return `Nothing new from the engine for ${Math.floor(quietMs(state) / 5000) * 5} seconds. The values below may be out of date.`;
  if (name === "waiting" && filled) return `The engine is not ready: ${status.problem ?? "no reason given"}. The values below are the last ones it gave.`;
  return "";
}

export function drawNotice(state, status, filled) {
  const text = noticeWords(state, status, filled);
  const node = $("notice");
  node.hidden = text === "";
  say(node, text);
  document.body.classList.toggle("is-old", text !== "");
}

/** When the watermark of the domain shown was last seen to move. */
const still = { mark: null, since: 0, view: "" };

export function watch(status, view) {
  const mark = status?.watermark_ms ?? null;
  if (mark !== still.mark || view !== still.view) Object.assign(still, { mark, view, since: performance.now() });
}

/** What to know before the numbers are believed, from the newest row of what is shown. */
function warnings(store, status) {
  const found = [];
  const rows = store.signals.map((signal) => store.latest(signal)).filter((row) => row !== null);
  const row = rows.sort((a, b) => b.window_end - a.window_end)[0];
  const stood = performance.now() - still.since;
  if (status !== null && still.mark !== null && stood >= STILL_AFTER_MS) {
    found.push(["quiet", `No posts for ${Math.floor(stood / 60_000)} min: event time stands still at ${clock(still.mark, true)} UTC, and so do the signals.`]);
  }
  const sampled = Math.min(row?.sampled ?? 1, 1);
  if (sampled < 1) {
    found.push(["sampled", `More posts than can be scored: ${percent(sampled)} of this window's posts were scored, drawn at random, and stand for the others. Nothing is tilted by it; the intervals are wider.`]);
  } else if ((status?.sampled ?? 1) < 1) {
    found.push(["sampled", `More posts than can be scored: ${percent(status.sampled)} of the posts are scored now, drawn at random, and stand for the others.`]);
  }
  if ((row?.capped ?? 0) >= LEAST_CAPPED) {
    found.push(["capped", `A few authors post a lot: ${percent(row.capped)} of this window's weight was taken from them, so that no single voice moves the signals far.`]);
  }
  if (store.signals.some((signal) => store.isCorrected(signal))) {
    found.push(["corrected", "Corrected shares hold where people write as in the texts the model was tested on. Elsewhere they can be farther off than the shares as read, and on the demo's made-up posts they are: their intervals reach to the shares as read."]);
  }
  return found;
}

export function drawWarnings(box, store, status) {
  const found = warnings(store, status);
  box.hidden = found.length === 0;
  const now = JSON.stringify(found);
  if (box.dataset.said === now) return;
  box.dataset.said = now;
  box.replaceChildren(
    ...found.map(([kind, text]) => {
      const line = el("li", "warning", text);
      line.dataset.kind = kind;
      return line;
    }),
  );
}

export function drawEmpty(state, status, empty) {
  $("empty").hidden = !empty;
  $("board").hidden = empty;
  if (!empty) return;
  let title = "No signals yet";
  let text = "The engine is ready and waiting for posts. Signals appear here as soon as the first window holds one.";
  if (state.link === "connecting" || state.link === "reconnecting") {
    title = "Connecting to the engine";
    text = "The page fills as soon as it answers.";
  } else if (status !== null && !status.ready) {
    title = "The engine is not ready yet";
    text = `It says: ${status.problem ?? "no reason given"}.`;
  } else if (state.entity !== null && state.entities.length > 0) {
    title = `Nothing for ${entityLook(state.entity).name} in this window size`;
    text = "Choose another entity or another rolling window above.";
  }
  say($("empty-title"), title);
  say($("empty-text"), text);
}
