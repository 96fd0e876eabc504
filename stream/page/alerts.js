// The list of alerts: severity in a word and a colour, what happened, the posts behind it, and a link to the reasons.

import { $, button, el } from "./dom.js";
import { clock, entityLook, lookOf } from "./look.js";
import { get } from "./net.js";

const SHOWN = 20;
const LINK = /^(\/(?!\/)|https?:\/\/)/; // a link is data: nothing but a page may open

/** What an alert is about; a link to it where the engine gave one. */
function subject(alert) {
  const words = `${lookOf(alert.signal).label}, ${entityLook(alert.entity).name}`;
  if (!LINK.test(alert.link ?? "")) return el("span", "", words);
  const link = el("a", "", words);
  link.href = alert.link;
  return link;
}

const idOf = (alert) => `${alert.rule}|${alert.row_id}`;

export class Alerts {
  /** `why(alert)` asks for the reasons of the row an alert fired on. */
  constructor(why) {
    this.why = why;
    this.domain = null;
    this.known = new Map();
    this.trouble = "";
    this.drawn = null;
  }

  async load(domain) {
    if (domain !== this.domain) this.known.clear();
    this.domain = domain;
    try {
      const answer = await get("/api/alerts", { domain, limit: 100 });
      this.trouble = "";
      this.take(Array.isArray(answer) ? answer : answer.alerts);
    } catch (error) {
      this.trouble = error.status === 404 ? "This engine does not serve alerts: it is an older version than the page." : `Not up to date: ${error.message}`;
      this.draw();
    }
  }

  /** New ones; copies of known ones are passed over. */
  take(alerts) {
    for (const alert of alerts) if (alert.domain === this.domain) this.known.set(idOf(alert), alert);
    this.draw();
  }

  draw() {
    const alerts = [...this.known.values()].sort((a, b) => b.window_end - a.window_end).slice(0, SHOWN);
    const now = JSON.stringify([alerts, this.trouble]);
    if (now === this.drawn) return;
    this.drawn = now;
    $("alerts-card").classList.toggle("none", alerts.length === 0);
    $("alerts-sub").textContent = alerts.length === 0 ? "" : `${alerts.length} newest`;
    const none = this.trouble || "None so far. Rules are set by alerts.rules in the settings.";
    $("alerts").replaceChildren(...(alerts.length > 0 ? alerts.map((alert) => this.line(alert)) : [el("li", "post-none", none)]));
  }

  line(alert) {
    const node = el("li", "alert");
    node.dataset.severity = alert.severity;
    const head = el("p", "post-head");
    head.append(el("span", "severity", alert.severity), subject(alert));
    const when = el("time", "", clock(alert.window_end, true));
    when.dateTime = new Date(alert.window_end).toISOString();
    head.append(when);
    node.append(head, el("p", "post-text", alert.message));
    const posts = alert.posts ?? [];
    if (posts.length > 0) {
      const more = el("details", "alert-posts");
      const list = el("ul");
      list.append(...posts.map((post) => el("li", "post-text", post.text_masked ?? post.text ?? "")));
      more.append(el("summary", "", `${posts.length} post${posts.length === 1 ? "" : "s"} behind it`), list);
      node.append(more);
    }
    node.append(button("link-button", "Why?", () => this.why(alert), `Why: ${alert.message}`));
    return node;
  }
}
