// The panel that says why a value moved: parts that add up to the change, the posts behind it, the words that rose.

import { $, el } from "./dom.js";
import { clock, colourOf, entityLook, grouped, lookOf, windowSpan } from "./look.js";
import { get } from "./net.js";

const PARTS = {
  mix: "Who is heard: the share of groups changed",
  level: "What they say: the values inside groups changed",
  volume: "How many: posts came or went",
};
const signed = (v, kind) => (v < 0 ? "" : "+") + kind.text(v).replace(/^\+/, "");

export class Explain {
  constructor() {
    this.box = $("why");
    this.asked = 0;
    $("why-close").addEventListener("click", () => this.box.close());
    this.box.addEventListener("click", (event) => {
      if (event.target === this.box) this.box.close(); // the backdrop
    });
  }

  /** Open for one row; `held` is the row as the page has it, if it does. */
  async open(signal, entity, start, end, held) {
    const mine = (this.asked += 1);
    const look = lookOf(signal);
    $("why-title").textContent = `Why ${look.label.toLowerCase()}?`;
    $("why-sub").textContent = `${entityLook(entity).name}, ${windowSpan(start, end)}`;
    const body = $("why-body");
    body.replaceChildren(...(held ? [facts(held, look)] : []), el("p", "sub", "Asking the engine…"));
    if (!this.box.open) this.box.showModal();
    const id = `${signal}|${entity}|${start}|${end}`;
    let told;
    try {
      told = contents(await get("/api/explain", { id }), look, signal);
    } catch (error) {
      told = [el("p", "trouble", error.status === 404 ? "The engine cannot say why: it does not serve reasons, or the posts of this window are no longer held." : `The engine cannot say why: ${error.message}`)];
    }
    if (mine === this.asked) body.replaceChildren(...(held ? [facts(held, look)] : []), ...told);
  }
}

/** What is known of the row without asking: value, interval, counted and corrected, sample. */
function facts(row, look) {
  const list = el("dl", "facts");
  const fact = (name, text) => list.append(el("dt", "", name), el("dd", "", text));
  const span = (lo, hi) => (lo === null || hi === null || lo === undefined ? "" : `, interval ${look.kind.span(lo, hi)}`);
  fact("Value", row.value === null ? "too few posts to say" : look.kind.text(row.value) + span(row.lo, row.hi));
  if (row.corrected !== null && row.corrected !== undefined) fact("Corrected", look.kind.text(row.corrected) + span(row.corrected_lo, row.corrected_hi));
  fact("Sample", `n ${grouped(row.n)}, effective ${grouped(row.n_eff)}, ${grouped(row.authors)} authors`);
  fact("Status", row.status + (row.revision > 0 ? `, revision ${row.revision}` : ""));
  if (row.capped >= 0.001) fact("Hushed", `${(row.capped * 100).toFixed(1)}\u00a0% of the weight, from authors who post a lot`);
  if (row.sampled < 1) fact("Scored", `${(row.sampled * 100).toFixed(1)}\u00a0% of the posts, for all of them`);
  return list;
}

function contents(answer, look, signal) {
  const found = [];
  const section = (title, ...nodes) => {
    const box = el("section", "why-part");
    box.append(el("h3", "", title), ...nodes);
    found.push(box);
  };
  if (answer.parts) section("What changed", ...parts(answer, look));
  if (answer.posts?.length) section("Posts that moved it most", posts(answer.posts, look, signal));
  if (answer.words?.length) section("Words that rose", words(answer.words));
  if (found.length === 0) found.push(el("p", "trouble", "The engine has nothing to say about this row."));
  return found;
}

function parts(answer, look) {
  const list = el("dl", "facts parts");
  for (const [name, value] of Object.entries(answer.parts)) {
    if (typeof value !== "number") continue;
    list.append(el("dt", "", PARTS[name] ?? name), el("dd", "", signed(value, look.kind)));
  }
  return [list];
}

function posts(given, look, signal) {
  const list = el("ol", "why-posts");
  for (const post of given) {
    const node = el("li", "post");
    const head = el("p", "post-head");
    const moved = post.influence ?? post.moved ?? post.score;
    if (typeof moved === "number") {
      const mark = el("span", "post-label", signed(moved, look.kind));
      mark.style.setProperty("--c", colourOf(signal));
      head.append(mark);
    }
    if (typeof post.time_ms === "number") head.append(el("time", "", clock(post.time_ms, true)));
    const text = el("p", "post-text", post.text_masked ?? post.text ?? "");
    if (post.lang) text.lang = post.lang;
    node.append(head, text);
    list.append(node);
  }
  return list;
}

function words(given) {
  const list = el("ul", "words");
  for (const word of given) list.append(el("li", "word", typeof word === "string" ? word : (word.word ?? word.term ?? "")));
  return list;
}
