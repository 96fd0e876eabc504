// Small helpers over the DOM. Text goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

export const el = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

/** A button that does `act` when it is clicked. */
export function button(className, text, act, label) {
  const node = el("button", className, text);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  node.addEventListener("click", act);
  return node;
}

/** Sets text only where it changed, so that nothing is announced or selected anew. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What was chosen before, in this browser; storage that is switched off makes it last as long as the page. */
export const memory = {
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
      // storage is switched off
    }
  },
};
