// The entity picker: a combobox with search, usable by keyboard alone (WAI-ARIA combobox pattern, list autocomplete).

import { TYPE_ORDER, entityLook, grouped } from "./look.js";

const SHOWN = 200;

const rank = (type) => (TYPE_ORDER.includes(type) ? TYPE_ORDER.indexOf(type) : TYPE_ORDER.length);

export class Picker {
  /** `choose(entity)` is called when a person picks another entity. */
  constructor(input, list, count, choose) {
    this.input = input;
    this.list = list;
    this.count = count;
    this.choose = choose;
    this.entities = [];
    this.selected = null;
    this.options = [];
    this.at = -1;
    this.typed = false;
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.open());
    input.addEventListener("input", () => {
      this.typed = true;
      this.open();
    });
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => this.close());
    list.addEventListener("mousedown", (event) => {
      event.preventDefault(); // keep the focus in the input
      const option = event.target.closest("[role=option]");
      if (option) this.pick(option.dataset.entity);
    });
  }

  /** New list from the server: [{entity, n}], most posts first. */
  set(entities, selected) {
    this.entities = [...entities].sort((a, b) => rank(entityLook(a.entity).type) - rank(entityLook(b.entity).type));
    this.selected = selected;
    const here = entities.find((e) => e.entity === selected);
    this.count.textContent = here === undefined ? "" : `n\u00a0${grouped(here.n)}`;
    if (document.activeElement !== this.input) this.show();
    if (!this.list.hidden) this.fill();
  }

  show() {
    this.input.value = this.selected === null ? "" : entityLook(this.selected).name;
  }

  fill() {
    const wanted = this.typed ? this.input.value.trim().toLowerCase() : "";
    const found = this.entities.filter((e) => e.entity.toLowerCase().includes(wanted)).slice(0, SHOWN);
    const active = this.options[this.at]?.dataset.entity ?? this.selected;
    this.list.replaceChildren();
    this.options = [];
    let types = "";
    for (const { entity, n } of found) {
      const look = entityLook(entity);
      if (look.types !== types) {
        types = look.types;
        const head = document.createElement("li");
        head.className = "group";
        head.role = "presentation";
        head.textContent = types;
        if (look.type !== "all") this.list.append(head);
      }
      this.list.append(this.option(entity, look.name, n));
    }
    if (found.length === 0) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = `Nothing called “${this.input.value}”`;
      this.list.append(none);
    }
    const at = this.options.findIndex((o) => o.dataset.entity === active);
    this.move(at < 0 && this.options.length > 0 ? 0 : at);
  }

  option(entity, name, n) {
    const item = document.createElement("li");
    item.role = "option";
    item.id = `entity-${this.options.length}`;
    item.dataset.entity = entity;
    item.setAttribute("aria-selected", String(entity === this.selected));
    const text = document.createElement("span");
    text.textContent = name;
    const count = document.createElement("span");
    count.className = "n";
    count.textContent = grouped(n);
    count.setAttribute("aria-label", `${n} posts`);
    item.append(text, count);
    this.options.push(item);
    return item;
  }

  move(at) {
    this.options[this.at]?.classList.remove("active");
    this.at = at;
    const option = this.options[at];
    if (option === undefined) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    option.classList.add("active");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  open() {
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.fill();
  }

  close() {
    this.list.hidden = true;
    this.typed = false;
    this.at = -1;
    this.options = [];
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.show();
  }

  pick(entity) {
    const changed = entity !== this.selected;
    this.selected = entity;
    this.close();
    this.input.select(); // so that typing starts a new search
    if (changed) this.choose(entity);
  }

  key(event) {
    const closed = this.list.hidden;
    const last = this.options.length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) {
      if (closed) this.open();
      else this.move(Math.max(0, Math.min(last, this.at + steps[event.key])));
    } else if (event.key === "Enter" && !closed) {
      if (this.at >= 0) this.pick(this.options[this.at].dataset.entity);
    } else if (event.key === "Escape" && !closed) {
      this.close();
      this.input.select();
    } else {
      return;
    }
    event.preventDefault();
  }
}
