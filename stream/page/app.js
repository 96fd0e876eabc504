// The page: what is chosen, what is fetched, and when it is drawn. Events only mark things as changed; drawing happens
// at most once per frame, so a burst of events costs one drawing.

import { Alerts } from "./alerts.js";
import { Board } from "./board.js";
import { Crisis } from "./crisis.js";
import { $, memory, say } from "./dom.js";
import { Explain } from "./explain.js";
import { VIEWS, cssVar, entityLook, windowText } from "./look.js";
import { Stream, get } from "./net.js";
import { drawEmpty, drawLink, drawNotice, drawWarnings, watch } from "./notices.js";
import { drawOps, statusOf } from "./ops.js";
import { drawPosts, latestWindow } from "./panels.js";
import { Picker } from "./picker.js";
import { Store } from "./store.js";
import { Tabs, drawAway } from "./tabs.js";

const LISTS_EVERY_MS = 5_000;
const POSTS_SHOWN = 30;
const DEFAULT_WINDOW_MS = { crisis: 300_000 }; // a minute holds too few posts of one place; elsewhere the shortest

const asked = () => {
  const query = new URLSearchParams(location.search);
  const view = query.get("view");
  return { view: view in VIEWS ? view : null, entity: query.get("entity"), windowMs: Number(query.get("window")) || null };
};

const state = {
  ...asked(),
  chosen: false, // whether `entity` and `windowMs` are on show, or only asked for by the address
  kept: new Map(), // view -> what was on show there
  windows: [],
  entities: [],
  domains: new Set(), // domains that rows are held of
  posts: [],
  status: null,
  link: "connecting",
  tries: 0,
  heard: performance.now(),
};
const store = new Store();
store.corrected = memory.read("corrected") === "1";
const why = new Explain();
const whyRow = (signal, end) => {
  const row = (store.series.get(signal) ?? []).find((held) => held.window_end === end);
  return why.open(signal, state.entity, end - state.windowMs, end, row);
};
const board = new Board(store, whyRow);
const picker = new Picker($("entity"), $("entity-list"), $("entity-n"), (entity) => show(entity, state.windowMs));
const tabs = new Tabs($("tabs"), (view) => choose(view));
const alerts = new Alerts((alert) => why.open(alert.signal, alert.entity, alert.window_start, alert.window_end));
const crisis = new Crisis(
  () => state,
  (signal, entity, start, end) => why.open(signal, entity, start, end),
  (entity) => show(entity, state.windowMs),
);

const status = () => statusOf(state.status, state.view);

/** Whether `view` has an engine here; while nobody knows, it is taken to have one. */
function running(view) {
  const told = (state.status?.domains?.length ? state.status.domains : [state.status]).map((s) => s?.domain ?? "");
  return told.includes("") || told.includes(view) || state.domains.has(view);
}

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
    draw();
  },
  rows: ({ rows }) => {
    heard("live");
    if (!state.chosen) lists().catch(lost); // the first rows ever: do not wait for the next look at the lists
    for (const row of rows) {
      if (row.domain === state.view && row.entity === state.entity && row.window_end - row.window_start === state.windowMs) store.put(row.signal, row);
    }
    if (state.view === "crisis") crisis.changed();
    draw();
  },
  posts: ({ entity, posts }) => {
    heard("live");
    if (entity === state.entity) state.posts = [...posts, ...state.posts].slice(0, POSTS_SHOWN);
    draw();
  },
  queue: () => {
    heard("live");
    if (state.view === "crisis") crisis.changed();
  },
  alerts: (told) => {
    heard("live");
    alerts.take(told.alerts);
  },
  status: (told) => {
    heard("live");
    state.status = told;
    watch(status(), state.view);
    draw();
  },
  reset: () => load(),
});

function heard(link) {
  state.heard = performance.now();
  if (state.link === "reconnecting") lists().catch(lost);
  state.link = link;
  drawLink(state, status());
}

function lost(error) {
  state.link = "reconnecting";
  state.tries += 1;
  console.warn(error);
  draw();
}

let listing; // the view whose lists are under way
/** Signals, windows and entities there are. Chooses what to show when nothing is chosen yet. */
async function lists() {
  if (listing === state.view) return;
  const mine = (listing = state.view);
  try {
    const { windows, signals } = await get("/api/signals");
    state.domains = new Set(signals.map(({ domain }) => domain));
    if (state.view === null) firstView();
    const view = state.view;
    const wanted = state.windowMs ?? DEFAULT_WINDOW_MS[view];
    const { entities } = await get("/api/entities", { window: windows.includes(wanted) ? wanted : null, domain: view });
    if (view !== state.view) return; // another view was chosen meanwhile
    if (windows.join() !== state.windows.join()) {
      state.windows = windows;
      drawWindows();
    }
    state.entities = entities;
    picker.set(entities, state.entity);
    if (!state.chosen && entities.length > 0 && windows.length > 0) {
      state.chosen = true;
      const entity = state.entity ?? (entities.find((e) => e.entity.startsWith("all:")) ?? entities[0]).entity;
      const held = windows.includes(wanted) && (state.windowMs !== null || entities.some(({ n }) => n > 0));
      await show(entity, held ? wanted : windows[0]);
    }
    draw();
  } finally {
    if (listing === mine) listing = undefined;
  }
}

/** The address names no view: the first that runs here. */
function firstView() {
  const named = state.status?.domains?.length ? state.status.domains.map((part) => part.domain) : [state.status?.domain];
  const views = Object.keys(VIEWS);
  state.view = views.find((v) => named.includes(v)) ?? views.find((v) => state.domains.has(v)) ?? views[0];
  alerts.load(state.view);
}

/** Another view: what was on show there before, else all of its posts. */
async function choose(view, given = state.kept.get(view), push = true) {
  if (view === state.view && push) return;
  if (state.view !== null && state.chosen) state.kept.set(state.view, { entity: state.entity, windowMs: state.windowMs });
  Object.assign(state, { view, entity: given?.entity ?? null, windowMs: given?.windowMs ?? null, chosen: false, posts: [], entities: [] });
  loading += 1; // an answer that is under way is of the old view
  store.clear(0);
  address(push);
  picker.set([], null);
  render();
  alerts.load(view);
  stream.open({ domain: view, entity: "-" }, null); // the status at once; rows as soon as something is on show
  await lists().catch(lost);
}

function address(push) {
  const given = { view: state.view, entity: state.entity, window: state.windowMs };
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value !== null));
  history[push ? "pushState" : "replaceState"](null, "", `?${query}`);
}

async function show(entity, windowMs) {
  state.entity = entity;
  state.windowMs = windowMs;
  state.posts = [];
  store.clear(windowMs);
  address(false);
  picker.set(state.entities, entity);
  drawWindows();
  await load();
  if (state.view === "crisis") crisis.refresh();
  const view = state.view;
  get("/api/entities", { window: windowMs, domain: view }).then(({ entities }) => {
    if (view !== state.view) return;
    state.entities = entities;
    picker.set(entities, state.entity);
  }, lost);
}

let loading = 0;
/** History of what is shown, then its events from exactly there on. */
async function load() {
  const mine = (loading += 1);
  const { entity, windowMs, view } = state;
  try {
    const series = await get("/api/series", { entity, window: windowMs, domain: view });
    const { posts } = await get("/api/posts", { entity, domain: view });
    if (mine !== loading) return; // something else was chosen meanwhile
    store.load(series.series);
    state.posts = posts.slice(0, POSTS_SHOWN);
    stream.open({ entity, window: windowMs, domain: view }, String(series.last_id));
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

function drawShares() {
  $("shares").hidden = store.correctable.size === 0;
  for (const input of $("shares").querySelectorAll("input")) input.checked = (input.value === "1") === store.corrected;
}

function render() {
  const view = state.view ?? "market";
  const away = state.view !== null && !running(view);
  const filled = store.series.size > 0;
  const told = status();
  tabs.set(view, running);
  drawAway(view, away);
  $("controls").hidden = away;
  drawLink(state, told ?? state.status);
  drawNotice(state, told, filled);
  drawEmpty(state, told, !filled && !away);
  $("board").hidden = !filled || away;
  $("crisis").hidden = view !== "crisis";
  say($("asof"), latestWindow(store));
  drawShares();
  if (filled) {
    const name = entityLook(state.entity).name;
    say($("heading"), `${VIEWS[view]}: ${name}, rolling ${windowText(state.windowMs, true)}`);
    document.title = `${name} · ${VIEWS[view]} · affectstream`;
    drawWarnings($("warnings"), store, told);
    store.minN = told?.min_n ?? 20;
    board.draw(view, store.minN);
    drawPosts($("posts"), state.posts);
  }
  drawOps(state.status, view);
}

function drawTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  $("theme").setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} theme`);
  $("theme").dataset.next = dark ? "light" : "dark";
  board.rebuild();
  draw();
}

$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = $("theme").dataset.next;
  memory.write("theme", $("theme").dataset.next);
  drawTheme();
});
$("shares").addEventListener("change", (event) => {
  store.corrected = event.target.value === "1";
  memory.write("corrected", event.target.value);
  board.rebuild();
  draw();
});
addEventListener("popstate", () => {
  const given = asked();
  if (given.view !== null) choose(given.view, given, false);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
drawTheme();

async function start() {
  try {
    state.status = await get("/api/status");
    if (state.view !== null) alerts.load(state.view);
    await lists();
    if (!state.chosen) stream.open({ domain: state.view }, null); // nothing to show yet: the status still comes
  } catch (error) {
    lost(error);
    setTimeout(start, 2_000);
  }
}

setInterval(() => {
  drawLink(state, status() ?? state.status);
  drawNotice(state, status(), store.series.size > 0);
  if (store.series.size > 0) drawWarnings($("warnings"), store, status());
}, 1_000);
setInterval(() => {
  if (state.link === "live") lists().catch(lost);
}, LISTS_EVERY_MS);
start();
if (cssVar("--font") === "") console.warn("style.css is missing");
