// The teacher page: the room in its latest told minute, the curve with markers, polls. Rows come from /api, the room from its socket.

import { $, button, el, memory, say } from "./dom.js";
import { get } from "./net.js";

const MINUTE = 60_000;
const ROWS_EVERY_MS = 4000;
const TILES = [
  ["engagement", "Engagement", "how much the room does"],
  ["confusion", "Confusion", "lost, or writing so"],
  ["pace", "Pace", "above 0: too fast"],
  ["participation", "Taking part", "did anything at all"],
  ["hands", "Hands", "raised"],
  ["mood", "Mood", "of what was written"],
];
const SEEN = [
  ["coverage", "Cameras", "seats that send pictures"],
  ["attention", "Faces seen", "turned to the camera"],
  ["distraction", "Turned away", "no face, or one turned away"],
  ["engagement.seen", "On task", "facing, not negative, eyes open"],
  ["resolved", "Calm again", "after confusion"],
  ["fatigue", "Eyes shut", "lowered eyes count too"],
  ["synchrony", "In step", "attention rises and falls alike"],
  ["ambivalence", "Mixed signs", "face, voice and words differ"],
  ["expression", "Faces", "mean mood, an estimate"],
  ["tone", "Voices", "mean mood, an estimate"],
  ["feeling", "All together", "faces, voices, chat fused"],
  ["confidence", "Confidence", "1: face, voice and chat were there"],
];
const CURVES = ["engagement", "confusion", "pace", "participation"];
const CURVES_SEEN = ["attention", "distraction"];
const NAMES = { participation: "taking part", attention: "faces seen", distraction: "turned away" };
const AROUND = 2 * MINUTE; // a marker is told by the two minutes after it less the two before
const FALLEN = 0.8; // of its start
const ANSWERS = ["answer.a", "answer.b", "answer.c", "answer.d"];
const MOST_ROWS = 3; // of marker names over the curve; the list below it has them all
const LETTER_PX = 6.6; // at most, at the size of a marker's name
const SVG = "http://www.w3.org/2000/svg";
const DASH = "–";

let socket = null;
let tries = 0;
let room = null;
let series = {};
let picked = new Set((memory.read("lesson.curves") ?? "engagement,confusion,attention").split(","));
let name = new URLSearchParams(location.search).get("room");

const number = (v) => (v > 0 ? "" : v < 0 ? "−" : "") + Math.abs(v).toFixed(2);
const time = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const band = (n) => (n === 0 ? "fewer than 5" : `${n}${DASH}${n + 4}`);

function svg(tag, given, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(given)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const ws = (socket = new WebSocket(`${scheme}://${location.host}/teach/ws${name ? `?room=${encodeURIComponent(name)}` : ""}`));
  ws.binaryType = "arraybuffer";
  ws.onmessage = (event) => {
    tries = 0;
    const message = JSON.parse(typeof event.data === "string" ? event.data : new TextDecoder().decode(event.data));
    if (message.type === "room") drawRoom(message);
    else complain(message.why);
  };
  ws.onclose = () => {
    $("link").dataset.state = "reconnecting";
    say($("link-text"), "Connection lost");
    tries += 1;
    setTimeout(connect, Math.min(8000, 500 * 2 ** tries));
  };
}

const send = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));

function complain(text) {
  $("trouble").hidden = !text;
  say($("trouble"), text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");
}

function drawRoom(message) {
  const first = room === null;
  room = message;
  name = message.room;
  $("link").dataset.state = message.ready ? "live" : "waiting";
  say($("link-text"), message.ready ? "Live" : "Starting");
  say($("invite-title"), `Room ${message.room}`);
  say($("seats"), `${band(message.seats)} seats have joined by this page's link`);
  say($("code"), message.code);
  say($("k"), String(message.k));
  const fate = message.kept ? `stored in the log for ${message.kept}, under random names, and scored from there` : "scored where they arrive and thrown away";
  say($("without"), message.watched ? `Pictures and sound are ${fate}; no names, no single seat.` : "No camera, no microphone, no names, no single seat.");
  for (const [id, page] of [["where", "join"], ["where-seen", "capture"]]) {
    const link = `${location.origin}/${page}?room=${encodeURIComponent(message.room)}&code=${message.code}`;
    $(id).href = link;
    say($(id), link.replace(/^https?:\/\//, ""));
  }
  $("seen").hidden = !message.watched;
  $("rooms").hidden = message.rooms.length < 2;
  $("rooms").replaceChildren(
    ...message.rooms.map((other) => {
      const to = el("a", other === name ? "here" : "", other);
      to.href = `/teach?room=${encodeURIComponent(other)}`;
      return to;
    }),
  );
  const asked = message.question;
  $("close").hidden = asked === null;
  say($("quiz-sub"), asked === null ? "A poll, or a quiz if you tick the right option." : `Open: “${asked.text}”, ${band(message.answers)} answers. The room's answer is told with the minute.`);
  drawMarks();
  if (first) poll();
}

async function poll() {
  if (name !== null) {
    try {
      const body = await get("/api/rows", { entity: `room:${name}`, window: MINUTE, domain: "classroom", limit: 5000 });
      series = {};
      for (const row of body.rows) (series[row.signal.slice("classroom.".length)] ??= []).push(row);
      for (const rows of Object.values(series)) rows.sort((a, b) => a.window_end - b.window_end);
      draw();
    } catch {
      // told by the socket, which is gone as well
    }
  }
}

function draw() {
  drawTiles();
  drawPicks();
  drawCurve();
  drawResults();
  drawMarks();
}

function drawTiles() {
  const last = series.engagement?.at(-1);
  const stale = last?.reasons.some((why) => why.startsWith("stale"));
  $("notice").hidden = last !== undefined && last.value !== null && !stale;
  if (last === undefined) say($("notice"), "Nothing told yet. The first minute is told some twenty seconds after it ends, once enough seats take part.");
  else if (last.value === null) say($("notice"), `${time(last.window_end)}: ${last.reasons.at(-1)}. Nothing is told of so few.`);
  else if (stale) say($("notice"), "Stale: too few seats came or went since to tell new values without showing one of them.");
  const seen = SEEN.filter(([signal]) => known(signal));
  const tiles = (list) => list.map((one) => tileOf(one, stale));
  $("tiles").replaceChildren(
    el("h2", seen.length ? "tiles-head" : "hidden", "Buttons, answers and lines"),
    ...tiles(TILES),
    ...(seen.length ? [el("h2", "tiles-head", "Cameras and microphones"), ...tiles(seen)] : []),
  );
  say($("curve-sub"), last === undefined ? "" : `latest minute ${time(last.window_start)}${DASH}${time(last.window_end)}${last.n ? `, ${band(last.n)} seats counted` : ""}`);
}

function tileOf([signal, title, about], stale) {
  const row = series[signal]?.at(-1);
  const tile = el("div", `card lesson-tile${stale ? " stale" : ""}`);
  const value = row?.value ?? null;
  tile.append(el("h3", "", title), el("p", "big", value === null ? "—" : number(value)));
  tile.append(el("p", "sub", value === null ? "too few had something to say" : `${number(row.lo)} to ${number(row.hi)}`), el("p", "sub", about));
  tile.dataset.signal = signal;
  return tile;
}

const known = (signal) => series[signal]?.some((row) => row.value !== null);
const curves = () => [...CURVES, ...CURVES_SEEN.filter(known)];
const nameOf = (signal) => NAMES[signal] ?? signal;

/** The switches are made anew only where there are others, so that the keyboard's place is kept while rows come in. */
function drawPicks() {
  const now = curves(), picks = $("picks");
  if (picks.children.length !== now.length) {
    picks.replaceChildren(
      ...now.map((signal) =>
        button(`pick c-${signal}`, nameOf(signal), () => {
          if (!picked.delete(signal)) picked.add(signal);
          memory.write("lesson.curves", [...picked].join(","));
          draw();
        }),
      ),
    );
  }
  now.forEach((signal, k) => picks.children[k].setAttribute("aria-pressed", String(picked.has(signal))));
}

/** Markers that lie on the curve, each with its name and a row for it; no row where all are taken there. */
function placed(marks, x, width) {
  const rows = [];
  return marks.map((mark) => {
    const at = x(mark.time_ms), right = at > width * 0.7;
    const name = mark.text.length > 24 ? `${mark.text.slice(0, 23)}…` : mark.text;
    const long = name.length * LETTER_PX + 8;
    const [begin, end] = right ? [at - long, at] : [at, at + long];
    let row = rows.findIndex((taken) => taken.every(([from, to]) => end < from || begin > to));
    if (row < 0) row = rows.length;
    if (row < MOST_ROWS) (rows[row] ??= []).push([begin, end]);
    return { at, right, name, row };
  });
}

/** Each curve's name at its end, beside it or above it; names that would lie on each other are moved up. */
function labels(shown, x, y, beside) {
  const ends = shown.map((signal) => [signal, runs(series[signal]).at(-1)?.at(-1)]).filter(([, row]) => row);
  let above = Infinity;
  return ends
    .sort(([, a], [, b]) => a.value - b.value)
    .map(([signal, row]) => {
      above = Math.min(y(row.value) + (beside ? 4 : -6), above - 14);
      const end = x(row.window_end), left = beside || end < 120;
      const at = beside ? end + 6 : left ? x(row.window_start) : end;
      return svg("text", { class: `curve-name c-${signal}`, x: at, y: above, "text-anchor": left ? "start" : "end" }, nameOf(signal));
    });
}

function drawCurve() {
  const shown = curves().filter((signal) => picked.has(signal) && series[signal]?.length);
  const ends = shown.flatMap((signal) => series[signal].map((row) => row.window_end));
  const box = $("plot");
  if (!ends.length) return box.replaceChildren(el("p", "sub", "The curve begins with the first minute that can be told."));
  const width = Math.max(280, box.clientWidth), left = 34, bottom = 24;
  const beside = width >= 480, end = width - (beside ? 92 : 8);
  const from = Math.min(...ends) - MINUTE, to = Math.max(...ends, from + 10 * MINUTE);
  const low = picked.has("pace") ? -1 : 0;
  const x = (ms) => left + ((ms - from) / (to - from)) * (end - left);
  const marks = placed((room?.marks ?? []).filter((mark) => mark.time_ms >= from && mark.time_ms <= to), x, width);
  const lines = Math.min(MOST_ROWS, 1 + Math.max(0, ...marks.map((mark) => mark.row)));
  const top = 4 + 14 * lines, height = 202 + top;
  const y = (v) => top + ((1 - v) / (1 - low)) * (height - top - bottom);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${shown.map(nameOf).join(", ")} from ${time(from)} to ${time(to)}` });
  for (let v = low; v <= 1; v += 0.5) {
    plot.append(svg("line", { class: "grid", x1: left, x2: end, y1: y(v), y2: y(v) }), svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, number(v)));
  }
  const step = Math.max(5, Math.ceil((to - from) / MINUTE / (width / 70) / 5) * 5) * MINUTE;
  for (let ms = Math.ceil(from / step) * step; ms <= to; ms += step) plot.append(svg("text", { class: "tick", x: x(ms), y: height - 6, "text-anchor": x(ms) > width - 30 ? "end" : "middle" }, time(ms)));
  for (const { at, right, name, row } of marks) {
    const up = top - 6 - 14 * Math.min(row, lines - 1);
    plot.prepend(svg("line", { class: "marker", x1: at, x2: at, y1: up - 8, y2: height - bottom }));
    if (row < MOST_ROWS) plot.append(svg("text", { class: "marker-text", x: at + (right ? -4 : 4), y: up, "text-anchor": right ? "end" : "start" }, name));
  }
  for (const signal of shown) {
    for (const run of runs(series[signal])) {
      const up = run.map((r) => `${x(r.window_start)},${y(r.hi)} ${x(r.window_end)},${y(r.hi)}`);
      const down = run.map((r) => `${x(r.window_end)},${y(r.lo)} ${x(r.window_start)},${y(r.lo)}`).reverse();
      plot.append(svg("polygon", { class: `band c-${signal}`, points: [...up, ...down].join(" ") }));
      plot.append(svg("polyline", { class: `line c-${signal}`, points: run.map((r) => `${x(r.window_start)},${y(r.value)} ${x(r.window_end)},${y(r.value)}`).join(" ") }));
    }
  }
  plot.append(...labels(shown, x, y, beside));
  box.replaceChildren(plot, ...attended());
}

/** The attention curve in words: its mean, and when it first fell below 0.8 of its start, smoothed with a half-life of a minute. */
function attended() {
  const rows = runs(series.attention ?? []).flat();
  if (!rows.length) return [];
  const area = rows.reduce((sum, row) => sum + row.value, 0) / rows.length;
  let smooth = rows[0].value, fell = null;
  for (const row of rows) {
    smooth = (smooth + row.value) / 2;
    if (fell === null && smooth < FALLEN * rows[0].value) fell = row;
  }
  return [el("p", "sub", `Faces seen: ${number(area)} of the lesson so far${fell ? `; below ${FALLEN} of its start since ${time(fell.window_start)}` : ""}. Each minute of seats with a camera; not validated.`)];
}

/** Stretches of rows with a value that is new: stale ones and gaps break the line. */
function runs(rows) {
  const out = [];
  let run = [];
  for (const row of rows) {
    const told = row.value !== null && !row.reasons.some((why) => why.startsWith("stale"));
    if (run.length && (!told || row.window_start !== run.at(-1).window_end)) {
      out.push(run);
      run = [];
    }
    if (told) run.push(row);
  }
  if (run.length) out.push(run);
  return out;
}

/** Mean of a signal over [from, to], each minute by how much of it lies inside; null where less than half is known. */
function mean(signal, from, to) {
  let sum = 0, known = 0;
  for (const row of runs(series[signal] ?? []).flat()) {
    const inside = Math.max(0, Math.min(to, row.window_end) - Math.max(from, row.window_start));
    sum += inside * row.value;
    known += inside;
  }
  return known >= (to - from) / 2 ? sum / known : null;
}

function drawMarks() {
  const marks = (room?.marks ?? []).slice(-12).reverse();
  $("marks").replaceChildren(
    ...marks.map((mark) => {
      const item = el("li");
      item.append(el("time", "", time(mark.time_ms)), el("span", "what", mark.text));
      const deltas = ["engagement", "confusion", ...CURVES_SEEN].map((signal) => {
        const before = mean(signal, mark.time_ms - AROUND, mark.time_ms), after = mean(signal, mark.time_ms, mark.time_ms + AROUND);
        return before === null || after === null ? null : `${nameOf(signal)} ${after - before >= 0 ? "+" : "−"}${Math.abs(after - before).toFixed(2)}`;
      });
      const told = deltas.filter(Boolean).join(", ");
      item.append(el("span", "sub", told ? `${told} in two minutes` : ""));
      return item;
    }),
  );
}

function drawResults() {
  const rows = ANSWERS.map((signal) => (series[signal] ?? []).filter((row) => row.value !== null).at(-1));
  if (rows[0] === undefined) return $("results").replaceChildren();
  const right = (series.right ?? []).filter((row) => row.window_end === rows[0].window_end && row.value !== null).at(-1);
  const items = [el("p", "sub", `Answers told at ${time(rows[0].window_end)}, as shares of the seats counted${right ? `; right: ${number(right.value)}` : ""}`)];
  rows.forEach((row, k) => {
    const line = el("div", "answer");
    const bar = el("meter", "");
    bar.min = 0;
    bar.max = 1;
    bar.value = row?.value ?? 0;
    bar.setAttribute("aria-label", `Option ${"ABCD"[k]}`);
    line.append(el("span", "letter", "ABCD"[k]), bar, el("span", "share", number(row?.value ?? 0)));
    items.push(line);
  });
  $("results").replaceChildren(...items);
}

for (let k = 0; k < 4; k += 1) {
  const line = el("div", "choice");
  const text = el("input", "");
  text.maxLength = 160;
  text.placeholder = `Option ${"ABCD"[k]}${k > 1 ? " (optional)" : ""}`;
  text.setAttribute("aria-label", `Option ${"ABCD"[k]}`);
  const tick = el("input", "");
  tick.type = "checkbox";
  tick.setAttribute("aria-label", `Option ${"ABCD"[k]} is right`);
  tick.addEventListener("change", () => {
    for (const other of document.querySelectorAll(".choice [type=checkbox]")) if (other !== tick) other.checked = false;
  });
  line.append(el("span", "letter", "ABCD"[k]), text, tick);
  $("choices").append(line);
}
$("quiz").addEventListener("submit", (event) => {
  event.preventDefault();
  complain("");
  const lines = [...document.querySelectorAll(".choice")].map((line) => [line.children[1].value.trim(), line.children[2].checked]).filter(([text]) => text);
  const right = lines.findIndex(([, ticked]) => ticked);
  send({ do: "ask", text: $("q").value, options: lines.map(([text]) => text), right: right < 0 ? null : right });
});
$("close").addEventListener("click", () => send({ do: "close" }));
$("renew").addEventListener("click", () => send({ do: "renew" }));
$("mark").addEventListener("submit", (event) => {
  event.preventDefault();
  send({ do: "mark", text: $("mark-text").value });
  $("mark-text").value = "";
});
$("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  memory.write("theme", next);
  document.documentElement.dataset.theme = next;
});
addEventListener("resize", () => drawCurve());
setInterval(poll, ROWS_EVERY_MS);
draw();
connect();
