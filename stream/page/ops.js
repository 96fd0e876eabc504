// The operations strip: how fast, how far behind, and that no post was lost, domain by domain.

import { $, el } from "./dom.js";
import { VIEWS, clock, duration, grouped } from "./look.js";

/** The status of `view`'s domain: one of several, or the only one there is; null where it does not run here. */
export function statusOf(status, view) {
  if (status === null) return null;
  if (!status.domains?.length) return status.domain === view || status.domain === "" ? status : null;
  return status.domains.find((part) => part.domain === view) ?? null;
}

export function drawOps(status, view) {
  if (status === null) return;
  const s = statusOf(status, view) ?? status;
  $("gauges").replaceChildren(
    gauge("Rate", `${grouped(s.rate_per_s, s.rate_per_s < 10 ? 1 : 0)} posts/s`),
    gauge("Lag", `${grouped(s.lag)} post${s.lag === 1 ? "" : "s"}`, "waiting in the log, not read yet"),
    gauge("Watermark", s.watermark_ms === null ? "none yet" : clock(s.watermark_ms, true), "event time is complete up to here"),
    gauge("Watermark delay", s.watermark_delay_s === null ? "–" : duration(s.watermark_delay_s), "how far event time runs behind the clock"),
    gauge("Rows written", grouped(s.rows)),
    gauge("Partitions", grouped(s.partitions)),
    gauge("Up", duration(s.uptime_s)),
  );
  const parts = status.domains?.length ? status.domains : [status];
  $("sum").replaceChildren(...parts.flatMap((part) => sumOf(part, parts.length > 1 ? (VIEWS[part.domain] ?? part.domain) : "")));
  const engine = $("engine");
  engine.replaceChildren();
  if (s.engine === "" && s.model === "") return;
  engine.append(el("span", "engine-name", [s.engine, s.model].filter(Boolean).join(" · ")));
  if (s.engine_reason) engine.append(" ", el("span", "engine-why", s.engine_reason));
}

function gauge(name, value, title = "") {
  const box = el("div");
  box.append(el("dt", "", name), el("dd", "", value));
  if (title) box.title = title;
  return box;
}

function sumOf(s, name) {
  const terms = [["applied", s.applied], ["duplicate", s.duplicate], ["late", s.late], ["rejected", s.rejected], ["in flight", s.in_flight]];
  const line = el("p", "sum-line");
  if (name) line.append(el("span", "sum-name", name), " ");
  line.append(term("in", s.consumed), el("span", "op", " = "));
  terms.forEach(([what, count], k) => line.append(...(k > 0 ? [el("span", "op", " + ")] : []), term(what, count)));
  const off = s.consumed - s.accounted;
  const words = s.conserved
    ? "every post accounted for"
    : `${grouped(Math.abs(off))} post${Math.abs(off) === 1 ? "" : "s"} ${off > 0 ? "unaccounted for" : "counted twice"}`;
  const verdict = el("p", `verdict ${s.conserved ? "good" : "bad"}`);
  const mark = el("span", "mark", s.conserved ? "✓" : "✗");
  mark.setAttribute("aria-hidden", "true");
  verdict.append(mark, " ", words);
  return [line, verdict];
}

function term(name, count) {
  const node = el("span", "term");
  node.append(el("b", "", grouped(count)), " ", el("span", "", name));
  return node;
}
