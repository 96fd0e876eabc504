// What only the crisis view has: needs by place, the urgency queue and the backlog. Fetched anew when something changed.

import { $, el } from "./dom.js";
import { Heat, heatWords } from "./heat.js";
import { clock, colourOf, duration, entityLook, grouped, lookOf } from "./look.js";
import { get } from "./net.js";

const AT_MOST_EVERY_MS = 2_000;
const QUEUE_SHOWN = 40;
const PLACES_SHOWN = 12;

export class Crisis {
  /** `what()` says what is shown: {windowMs, entity}; see `Heat` for `why` and `choose`. */
  constructor(what, why, choose) {
    this.what = what;
    this.heat = new Heat($("heat"), $("heat-line"), why, choose);
    this.timer = 0;
    this.last = 0;
    this.drawn = "";
  }

  /** Something changed: fetch soon, at most every two seconds. */
  changed() {
    if (this.timer !== 0) return;
    const wait = Math.max(0, this.last + AT_MOST_EVERY_MS - performance.now());
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.refresh();
    }, wait);
  }

  async refresh() {
    this.last = performance.now();
    const { windowMs, entity } = this.what();
    if (windowMs === null) return;
    const place = entity !== null && entity.startsWith("place:") ? entity : null;
    await Promise.all([
      this.fill("heat", "/api/matrix", { window: windowMs, limit: PLACES_SHOWN }, (matrix) => this.drawMatrix(matrix, entity)),
      this.fill("queue", "/api/queue", { place, limit: QUEUE_SHOWN }, (queue) => this.drawQueue(queue, place)),
    ]);
  }

  async fill(name, path, params, draw) {
    try {
      draw(await get(path, params));
      $(`${name}-trouble`).hidden = true;
    } catch (error) {
      const node = $(`${name}-trouble`);
      node.hidden = false;
      node.textContent = error.status === 404 ? `This engine does not serve ${path}: it is an older version than the page.` : `Not up to date: ${error.message}`;
    }
  }

  drawMatrix(matrix, entity) {
    $("heat-sub").textContent = heatWords(matrix);
    const none = matrix.cells.length === 0 && matrix.whole.length === 0;
    $("heat-none").hidden = !none;
    $("heat").hidden = none;
    if (!none) this.heat.update(matrix, entity);
  }

  drawQueue(queue, place) {
    const { backlog } = queue;
    const now = JSON.stringify([queue, place]);
    if (now === this.drawn) return;
    this.drawn = now;
    const where = place === null ? "" : ` in ${entityLook(place).name}`;
    $("queue-sub").textContent = `${grouped(queue.total)} requests for help${where} in 24 h, newest and most urgent first · names, handles and links masked`;
    const posts = queue.posts.map((post) => request(post));
    $("queue").replaceChildren(...(posts.length > 0 ? posts : [el("li", "post-none", `No request for help${where} was found in the last 24 hours of posts.`)]));
    const hours = duration(backlog.older_than_ms / 1000);
    $("backlog-n").textContent = grouped(backlog.unmatched);
    $("backlog-sub").textContent = `older than ${hours}, no offer found`;
    $("backlog-more").textContent = `An upper bound: offers are hard to find in words. ${grouped(backlog.matched)} have an offer; ${grouped(backlog.unmatchable)} name no place or no need and cannot be matched.`;
    const cells = backlog.cells.slice(0, 8).map((cell) => {
      const line = el("li", "backlog-cell");
      line.append(el("span", "", `${lookOf(`crisis.need.${cell.need}`).label}, ${entityLook(cell.place).name}`), el("b", "", grouped(cell.unmatched)), el("span", "since", `since ${clock(cell.oldest_ms)}`));
      return line;
    });
    $("backlog").replaceChildren(...cells);
  }
}

/** Whether somebody offers what is asked for, as a word for the colour and words for people. */
function offerWords(matched, need, places) {
  if (matched) return ["yes", "an offer was found"];
  if (matched === false) return ["no", "no offer found"];
  const lacking = [...(places.length === 0 ? ["place"] : []), ...(need === "unspecified" ? ["need"] : [])];
  return ["open", `no ${lacking.join(" or ")} named`];
}

function request({ time_ms, urgency, need, places, text_masked, lang, matched }) {
  const node = el("li", "post urgent");
  const head = el("p", "post-head");
  const score = el("span", "urgency", urgency.toFixed(2));
  score.title = "urgency, from 0 to 1";
  score.setAttribute("aria-label", `urgency ${urgency.toFixed(2)}`);
  const mark = el("span", "post-label", need === "unspecified" ? "Help" : lookOf(`crisis.need.${need}`).label);
  if (need !== "unspecified") mark.style.setProperty("--c", colourOf(`crisis.need.${need}`));
  const when = el("time", "", clock(time_ms, true));
  when.dateTime = new Date(time_ms).toISOString();
  const [kind, words] = offerWords(matched, need, places);
  const state = el("span", "tag matched", words);
  state.dataset.matched = kind;
  head.append(score, mark, el("span", "", places.length === 0 ? "nobody knows where" : places.map((p) => entityLook(p).name).join(", ")), when, state);
  const text = el("p", "post-text", text_masked);
  if (lang) text.lang = lang;
  node.append(head, text);
  return node;
}
