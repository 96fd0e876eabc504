// The three views as tabs (WAI-ARIA tabs pattern, automatic activation): arrow keys, Home and End move and choose.

import { $, el } from "./dom.js";
import { VIEWS } from "./look.js";

const STARTS = { market: "panic", crisis: "hurricane", social: "launch" };

export class Tabs {
  /** `choose(view)` is called when a person picks another view. */
  constructor(box, choose) {
    this.box = box;
    this.tabs = Object.entries(VIEWS).map(([view, name]) => {
      const tab = el("button", "tab");
      tab.type = "button";
      tab.role = "tab";
      tab.id = `tab-${view}`;
      tab.dataset.view = view;
      tab.setAttribute("aria-controls", "view");
      tab.append(el("span", "", name), el("span", "tab-note", ""));
      tab.addEventListener("click", () => choose(view));
      return tab;
    });
    box.append(...this.tabs);
    box.addEventListener("keydown", (event) => {
      const at = this.tabs.indexOf(document.activeElement);
      const last = this.tabs.length - 1;
      const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      this.tabs[to].focus();
      choose(this.tabs[to].dataset.view);
    });
  }

  /** Mark `view` as the one shown; views that are not `running` say so. */
  set(view, running) {
    for (const tab of this.tabs) {
      const here = tab.dataset.view === view;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
      const off = !running(tab.dataset.view);
      tab.classList.toggle("off", off);
      const note = off ? "not running" : "";
      if (tab.lastChild.textContent !== note) tab.lastChild.textContent = note;
    }
    $("view").setAttribute("aria-labelledby", `tab-${view}`);
  }
}

/** What a view that is not running here shows instead: how to start it. */
export function drawAway(view, away) {
  $("away").hidden = !away;
  if (!away) return;
  $("away-title").textContent = `${VIEWS[view]} is not running here`;
  $("away-demo").textContent = `affect demo --scenario ${STARTS[view]}`;
  $("away-run").textContent = `domain = "${view}"`;
}
