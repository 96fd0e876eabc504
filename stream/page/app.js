// The page: what is chosen, what is shown, and when it is drawn. Events only mark things as changed; drawing happens
// at most once per frame, so a burst of events costs one drawing.

import { Chart } from "./charts.js";
import { DOMAINS, GROUP_ORDER, cssVar, entityLook, groupLook, lookOf, windowText } from "./look.js";
import { Stream, get } from "./net.js";
import { drawBars, drawOps, drawPosts, drawTiles, latestWindow } from "./panels.js";
import { Picker } from "./picker.js";
import { Store } from "./store.js";
import { Volume } from "./volume.js";

const STALE_AFTER_MS = 15_000;
const LISTS_EVERY_MS = 5_000;
const POSTS_SHOWN = 30;

const $ = (id) => document.getElementById(id);
const memory = {
  read: (key) => {
    try {
      return localStorage.getItem(`affect.${key}`);
    } catch {
      return null;
    }
  },
  write: (key, value) => {
    try {
      localStorage.setItem(`affect.${key}`, value);
    } catch {
      // storage is switched off: the choice lasts as long as the page
    }
  },
};

const asked = new URLSearchParams(location.search);
const state = {
  entity: asked.get("entity"),
  windowMs: Number(asked.get("window")) || null,
  chosen: false, // whether `entity` and `windowMs` are on show, or only asked for by the address
  windows: [],
  entities: [],
  posts: [],
  status: null,
  link: "connecting",
  tries: 0,
  heard: performance.now(),
  hidden: new Set(JSON.parse(memory.read("hidden") ?? "null") ?? []),
  hiddenChosen: memory.read("hidden") !== null,
};
const store = new Store();
const charts = new Map();
const volume = new Volume(store);
const picker = new Picker($("entity"), $("entity-list"), $("entity-n"), (entity) => show(entity, state.windowMs));

let dirty = false;
function draw() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    render();
  });
}

const stream = new Stream({
  open: () => heard("live"),
  lost: (tries) => {
    state.tries = tries;
    state.link = "reconnecting";
    drawLink();
    draw();
  },
  rows: ({ rows }) => {
    heard("live");
    if (!state.chosen) lists().catch(lost); // the first rows ever: do not wait for the next look at the lists
    for (const row of rows) {
      if (row.entity === state.entity && row.window_end - row.window_start === state.windowMs) store.put(row.signal, row);
    }
    draw();
  },
  posts: ({ entity, posts }) => {
    heard("live");
    if (entity === state.entity) state.posts = [...posts, ...state.posts].slice(0, POSTS_SHOWN);
    draw();
  },
  status: (status) => {
    heard("live");
    state.status = status;
    draw();
  },
  reset: () => load(),
});

function heard(link) {
  state.heard = performance.now();
  if (state.link === "reconnecting") lists().catch(lost);
  state.link = link;
  drawLink();
}

function lost(error) {
  state.link = "reconnecting";
  state.tries += 1;
  console.warn(error);
  drawLink();
  draw();
}

let listing = false;
/** Signals, windows and entities there are. Chooses what to show when nothing is chosen yet. */
async function lists() {
  if (listing) return;
  listing = true;
  try {
    await readLists();
  } finally {
    listing = false;
  }
}

async function readLists() {
  const { windows } = await get("/api/signals");
  const { entities } = await get("/api/entities", { window: state.windowMs });
  if (windows.join() !== state.windows.join()) {
    state.windows = windows;
    drawWindows();
  }
  state.entities = entities;
  picker.set(entities, state.entity);
  if (!state.chosen && entities.length > 0 && windows.length > 0) {
    state.chosen = true;
    const entity = state.entity ?? (entities.find((e) => e.entity.startsWith("all:")) ?? entities[0]).entity;
    await show(entity, windows.includes(state.windowMs) ? state.windowMs : windows[0]);
  }
  draw();
}

async function show(entity, windowMs) {
  state.entity = entity;
  state.windowMs = windowMs;
  state.posts = [];
  store.clear(windowMs);
  history.replaceState(null, "", `?${new URLSearchParams({ entity, window: windowMs })}`);
  picker.set(state.entities, entity);
  drawWindows();
  await load();
  get("/api/entities", { window: windowMs }).then(({ entities }) => {
    state.entities = entities;
    picker.set(entities, state.entity);
  }, lost);
}

let loading = 0;
/** History of what is shown, then its events from exactly there on. */
async function load() {
  const mine = (loading += 1);
  const { entity, windowMs } = state;
  try {
    const series = await get("/api/series", { entity, window: windowMs });
    const { posts } = await get("/api/posts", { entity });
    if (mine !== loading) return; // something else was chosen meanwhile
    store.load(series.series);
    state.posts = posts.slice(0, POSTS_SHOWN);
    stream.open({ entity, window: windowMs }, String(series.last_id));
  } catch (error) {
    if (mine !== loading) return;
    lost(error);
    setTimeout(() => mine === loading && load(), 1_000 * Math.min(8, state.tries));
  }
  draw();
}

function drawWindows() {
  const box = $("windows");
  const there = [...box.querySelectorAll("input")].map((input) => Number(input.value));
  if (there.join() !== state.windows.join()) {
    box.replaceChildren(
      ...state.windows.map((ms) => {
        const label = document.createElement("label");
        const input = document.createElement("input");
        input.type = "radio";
        input.name = "window";
        input.value = ms;
        input.setAttribute("aria-label", windowText(ms, true));
        input.addEventListener("change", () => show(state.entity, ms));
        const text = document.createElement("span");
        text.textContent = windowText(ms);
        label.append(input, text);
        return label;
      }),
    );
  }
  for (const input of box.querySelectorAll("input")) input.checked = Number(input.value) === state.windowMs;
}

function linkWords() {
  const quiet = Math.round((performance.now() - state.heard) / 1000);
  if (state.link === "reconnecting") return ["reconnecting", `Reconnecting${state.tries > 1 ? `, try ${state.tries}` : "…"}`];
  if (state.link === "connecting") return ["connecting", "Connecting"];
  if (quiet * 1000 >= STALE_AFTER_MS) return ["stale", "Stale"];
  if (state.status !== null && !state.status.ready) return ["waiting", "Not ready"];
  return ["live", "Live"];
}

function drawLink() {
  const [name, text] = linkWords();
  if ($("link").dataset.state !== name) $("link").dataset.state = name;
  if ($("link-text").textContent !== text) $("link-text").textContent = text;
}

/** What is wrong, in words; nothing when all is well. */
function noticeWords() {
  const [name] = linkWords();
  const quiet = Math.round((performance.now() - state.heard) / 1000);
  if (name === "reconnecting") return "The connection to the engine is lost. The values below are the last ones received; the page keeps trying and catches up by itself.";
  if (name === "stale") return `Nothing new from the engine for ${Math.floor(quiet / 5) * 5} seconds. The values below may be out of date.`;
  if (name === "waiting" && store.series.size > 0) return `The engine is not ready: ${state.status.problem ?? "no reason given"}. The values below are the last ones it gave.`;
  return "";
}

function drawNotice() {
  const text = noticeWords();
  const node = $("notice");
  node.hidden = text === "";
  if (node.textContent !== text) node.textContent = text;
  document.body.classList.toggle("is-old", text !== "");
}

function drawEmpty() {
  const empty = store.series.size === 0;
  $("empty").hidden = !empty;
  $("board").hidden = empty;
  if (!empty) return;
  const status = state.status;
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
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
}

/** Signals by group, in reading order; needs by their latest value, so that the top ones come first. */
function byGroup() {
  const groups = new Map(GROUP_ORDER.map((group) => [group, []]));
  for (const signal of store.signals) groups.get(lookOf(signal).group).push(signal);
  for (const [group, signals] of groups) {
    signals.sort((a, b) => lookOf(a).order - lookOf(b).order || a.localeCompare(b));
    if (signals.length === 0) groups.delete(group);
  }
  return groups;
}

/** Neutral flattens the other lines and thirteen needs cannot be read at once: hidden until asked for. */
function hideSome(groups) {
  if (state.hiddenChosen) return;
  state.hidden.clear();
  for (const signal of groups.get("emotions") ?? []) if (lookOf(signal).short === "neutral") state.hidden.add(signal);
  const needs = [...(groups.get("needs") ?? [])];
  const reach = new Map(needs.map((s) => [s, store.rows(s).reduce((top, row) => Math.max(top, row.value ?? 0), 0)]));
  needs.sort((a, b) => reach.get(b) - reach.get(a));
  for (const signal of needs.slice(5)) state.hidden.add(signal);
}

function drawCharts(groups) {
  const box = $("charts");
  hideSome(groups);
  for (const [group, signals] of groups) {
    if (group === "other" || group === "accord") continue;
    let chart = charts.get(group);
    if (chart === undefined) {
      chart = new Chart(store, group, groupLook(group), state.hidden, () => {
        state.hiddenChosen = true;
        memory.write("hidden", JSON.stringify([...state.hidden]));
      });
      charts.set(group, chart);
    }
    chart.node.hidden = false;
    box.append(...(chart.node.parentNode === box ? [] : [chart.node]));
    chart.update(signals);
  }
  for (const [group, chart] of charts) if (!groups.has(group)) chart.node.hidden = true;
  if (box.lastElementChild !== volume.node) box.append(volume.node);
  volume.update();
}

function render() {
  const domain = state.status?.domain ?? "";
  $("domain").hidden = domain === "";
  $("domain").textContent = DOMAINS[domain] ?? domain;
  drawLink();
  drawNotice();
  drawEmpty();
  $("asof").textContent = latestWindow(store);
  if (store.series.size > 0) {
    const groups = byGroup();
    const name = entityLook(state.entity).name;
    $("heading").textContent = `${name}, rolling ${windowText(state.windowMs, true)}`;
    document.title = `${name} · affectstream`;
    const minN = state.status?.min_n ?? 20;
    drawTiles($("tiles"), store, groups, minN);
    drawBars($("bars"), store, groups, minN);
    drawCharts(groups);
    drawPosts($("posts"), state.posts);
  }
  drawOps(state.status);
}

function drawTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  $("theme").setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} theme`);
  $("theme").dataset.next = dark ? "light" : "dark";
  for (const chart of charts.values()) chart.rebuild();
  if (volume.plot !== null) volume.rebuild();
  draw();
}

$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = $("theme").dataset.next;
  memory.write("theme", $("theme").dataset.next);
  drawTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
drawTheme();

async function start() {
  try {
    state.status = await get("/api/status");
    await lists();
    if (!state.chosen) stream.open({}, null); // nothing to show yet: the status still comes
  } catch (error) {
    lost(error);
    setTimeout(start, 2_000);
  }
}

setInterval(() => {
  drawLink();
  drawNotice();
}, 1_000);
setInterval(() => {
  if (state.link === "live") lists().catch(lost);
}, LISTS_EVERY_MS);
start();
if (cssVar("--font") === "") console.warn("style.css is missing");
