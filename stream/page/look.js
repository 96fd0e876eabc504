// How signals look: labels, colours, groups, number formats. Which signals exist comes from the server;
// a name that is not in these tables still gets a readable label, a colour and a group.

const MINUS = "\u2212";
const NBSP = "\u00a0";
const THIN = "\u202f";
const DASH = "\u2013";

const EMOTIONS = ["joy", "love", "surprise", "fear", "sadness", "anger", "disgust", "neutral"];
const GROUP_OF = {
  valence: "mood", bullishness: "mood", attitude: "mood", agreement: "accord", disagreement: "accord",
  entropy: "mixed", drift: "mixed", request: "balance", offer: "balance", offered: "balance", without_place: "balance",
  response: "balance", rumour_cue: "balance", balance: "lean", panic: "extremes", conviction: "extremes",
  concentration: "guards", near_duplicates: "guards", buzz_z: "past", fear_greed: "past", shock: "past", hype: "past",
};
const GROUP_OF_FAMILY = { need: "needs", secondary: "secondary", info: "info" };

const LABELS = {
  medical_help: "Medical help",
  medical_products: "Medical products",
  search_and_rescue: "Search and rescue",
  missing_people: "Missing people",
  request: "Requests",
  offer: "Offers",
  without_place: "Without a place",
  offered: "Offers, phrases too",
  response: "About responders",
  attitude: "Attitude to responders",
  balance: "Requests over offers",
  rumour_cue: "Rumour cue",
  concentration: "Concentration",
  near_duplicates: "Near-duplicates",
  buzz_z: "Buzz, against usual",
  fear_greed: "Greed over fear",
};

// At the end of a line there is room for one word.
const TAGS = {
  attitude: "Attitude", balance: "Balance", search_and_rescue: "Rescue", medical_help: "Medical", medical_products: "Medicine",
  missing_people: "Missing", offered: "Offers, all", response: "Responders", without_place: "No place", near_duplicates: "Copies",
  rumour_cue: "Rumours", affected_people: "People", infrastructure: "Infrastruct.", disappointment: "Disappoint.",
};

// Labels of single posts that mean what a signal means under another name.
const SAME_COLOUR = { happy: "joy", sad: "sadness", medical: "medical_help" };

export const VIEWS = { market: "Market", crisis: "Crisis", social: "Social" };

const TYPES = { all: "Everything", sector: "Sectors", ticker: "Tickers", place: "Places", topic: "Topics", source: "Communities" };
export const TYPE_ORDER = Object.keys(TYPES);

// Kinds of value: how to print one (`fine`: a small change of one), and how far a chart's axis may reach.
const KINDS = {
  share: { fine: (v) => `${(v * 100).toFixed(3)}${NBSP}%`, text: (v) => `${(v * 100).toFixed(1)}${NBSP}%`, span: (a, b) => `${(a * 100).toFixed(1)}${DASH}${(b * 100).toFixed(1)}${NBSP}%`, min: 0, max: 1, least: 0.05, axis: (v) => `${+(v * 100).toFixed(1)}${THIN}%` },
  per10k: { fine: (v) => grouped(v * 10000, 2), text: (v) => rate(v), span: (a, b) => `${rate(a)}${DASH}${rate(b)}`, min: 0, max: 1, least: 0.005, axis: (v) => grouped(v * 10000, 0) },
  bipolar: { fine: (v) => v.toFixed(4), text: (v) => signed(v), span: (a, b) => `${signed(a)} to ${signed(b)}`, min: -1, max: 1, least: 0.2, axis: (v) => signed(v) },
  unit: { fine: (v) => v.toFixed(4), text: (v) => v.toFixed(2), span: (a, b) => `${a.toFixed(2)}${DASH}${b.toFixed(2)}`, min: 0, max: 1, least: 0.1, axis: (v) => String(+v.toFixed(2)) },
  z: { fine: (v) => v.toFixed(4), text: (v) => signed(v, 1), span: (a, b) => `${signed(a, 1)} to ${signed(b, 1)}`, min: -1, max: Infinity, least: 2, axis: (v) => signed(v, 1) },
  number: { fine: (v) => v.toFixed(4), text: (v) => grouped(v, v < 100 ? 1 : 0), span: (a, b) => `${grouped(a, 1)}${DASH}${grouped(b, 1)}`, min: 0, max: Infinity, least: 1, axis: (v) => grouped(v, 0) },
};

const GROUPS = {
  needs: { title: "Needs", sub: "posts naming a need, per 10" + THIN + "000 posts", kind: "per10k" },
  emotions: { title: "Emotion shares", sub: "share of posts", kind: "share" },
  mood: { title: "Mood", sub: `from ${MINUS}1 to +1`, kind: "bipolar" },
  balance: { title: "Requests and offers", sub: "share of posts", kind: "share" },
  lean: { title: "Requests over offers", sub: "logarithm of their ratio; above 0 more is asked for than offered", kind: "z" },
  secondary: { title: "Secondary emotions", sub: "share of posts", kind: "share" },
  mixed: { title: "How mixed, how new", sub: "entropy and drift, from 0 to 1", kind: "unit" },
  info: { title: "Kinds of information", sub: "share of posts", kind: "share" },
  past: { title: "Against its own past", sub: "standard deviations from the usual", kind: "z" },
  extremes: { title: "Panic and conviction", sub: "share of posts", kind: "share" },
  guards: { title: "Who could have faked it", sub: "one author's weight, copies of known texts; from 0 to 1", kind: "unit" },
  accord: { title: "Agreement", sub: "from 0 to 1", kind: "unit" },
  other: { title: "Other signals", sub: "", kind: "number" },
};
export const GROUP_ORDER = Object.keys(GROUPS);
export const TALL = new Set(["emotions", "needs"]);

function signed(v, digits = 2) {
  const text = Math.abs(v).toFixed(digits);
  return Number(text) === 0 ? text : (v < 0 ? MINUS : "+") + text;
}

export function grouped(v, digits = 0) {
  const [whole, rest] = Math.abs(v).toFixed(digits).split(".");
  const text = whole.replace(/\B(?=(\d{3})+$)/g, THIN);
  return (v < 0 ? MINUS : "") + (rest === undefined ? text : `${text}.${rest}`);
}

/** A share as a count per 10 000; a digit after the point only where it says something. */
const rate = (v) => grouped(v * 10000, v * 10000 < 99.95 ? 1 : 0);

function words(name) {
  const text = LABELS[name] ?? name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function groupOf(parts, short) {
  if (parts.length === 3 && parts[1] in GROUP_OF_FAMILY) return GROUP_OF_FAMILY[parts[1]];
  return EMOTIONS.includes(short) ? "emotions" : (GROUP_OF[short] ?? "other");
}

const known = new Map();

/** What to know to draw `signal`: {signal, short, label, group, kind, order, colour: CSS variable or hue}. */
/** Why there is no value, in words: too few posts, no past to compare with yet, or nothing in the posts to go by. */
export function absentWords(signal, row, minN) {
  if (row.n_eff < minN) return `not enough posts (n < ${minN})`;
  return comparesWithPast(signal) ? "no usual value yet: it takes a day" : "no post speaks of it";
}

/** Whether a signal says how far a window is from what is usual for its entity. */
export const comparesWithPast = (signal) => lookOf(signal).group === "past" || signal.endsWith(".drift");

export function lookOf(signal) {
  let look = known.get(signal);
  if (look !== undefined) return look;
  const parts = signal.split(".");
  const short = parts.at(-1);
  const group = groupOf(parts, short);
  const place = EMOTIONS.indexOf(short);
  look = { signal, short, label: words(short), tag: TAGS[short] ?? words(short), group, kind: KINDS[GROUPS[group].kind], order: place < 0 ? 50 : place };
  known.set(signal, look);
  return look;
}

export const groupLook = (group) => ({ ...GROUPS[group], kind: KINDS[GROUPS[group].kind] });

/** The colour of a signal in the theme shown now, as #rrggbb or hsl(). */
export function colourOf(signal) {
  const { short: own } = lookOf(signal);
  const short = SAME_COLOUR[own] ?? own;
  const named = getComputedStyle(document.documentElement).getPropertyValue(`--c-${short}`).trim();
  if (named) return named;
  let hash = 7;
  for (const ch of short) hash = (hash * 31 + ch.charCodeAt(0)) % 360;
  const dark = cssVar("--is-dark") === "1";
  return `hsl(${hash} 55% ${dark ? 70 : 38}%)`;
}

export const cssVar = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function entityLook(entity) {
  const cut = entity.indexOf(":");
  const type = cut < 0 ? "" : entity.slice(0, cut);
  const name = cut < 0 ? entity : entity.slice(cut + 1);
  return { type, name: type === "all" ? "Everything" : name, types: TYPES[type] ?? words(type || "Other") };
}

const UNITS_OF_TIME = [[86400000, "d", "day"], [3600000, "h", "hour"], [60000, "m", "minute"], [1000, "s", "second"]];

/** 60000 -> "1 m"; the long form for screen readers. 24 hours stay hours. */
export function windowText(ms, long = false) {
  if (ms === 86400000) return long ? "24 hours" : `24${NBSP}h`;
  const [unit, short, name] = UNITS_OF_TIME.find(([u]) => ms % u === 0) ?? [1, "ms", "millisecond"];
  const count = ms / unit;
  return long ? `${count} ${name}${count === 1 ? "" : "s"}` : `${count}${NBSP}${short}`;
}

const two = (v) => String(v).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export function clock(ms, seconds = false) {
  const d = new Date(ms);
  const text = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  return seconds ? `${text}:${two(d.getUTCSeconds())}` : text;
}

export const day = (ms) => `${new Date(ms).getUTCDate()} ${MONTHS[new Date(ms).getUTCMonth()]}`;

/** The half-open window as people read it: "14:03:00–14:04:00", with the day where it is not one day. */
export function windowSpan(start, end) {
  if (end - start >= 86400000) return `${day(start)} ${clock(start)}${DASH}${day(end)} ${clock(end)}`;
  return `${clock(start, true)}${DASH}${clock(end, true)}`;
}

export function duration(s) {
  if (s < 0) return `${duration(-s)} ahead`; // a scenario played faster than time overtakes the clock
  if (s < 10) return `${s.toFixed(1)}${NBSP}s`;
  if (s < 120) return `${Math.round(s)}${NBSP}s`;
  if (s < 7200) return `${Math.round(s / 60)}${NBSP}min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)}${NBSP}h`;
  return `${Math.round(s / 86400)}${NBSP}days`;
}
