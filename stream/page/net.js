// The server's answers and its event stream. A stream that breaks comes back by itself and resumes where it was.

export async function get(path, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== undefined && v !== null));
  const response = await fetch(`${path}?${query}`, { headers: { Accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.error ?? `${path}: ${response.status}`), { status: response.status });
  return body;
}

const KINDS = ["rows", "posts", "queue", "alerts", "status", "reset"];
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/**
 * One event stream at a time. `on.rows|posts|queue|alerts|status|reset(data)` get events, `on.open()` and `on.lost(tries)` the link's state.
 * The browser's own retry gives up on refused connections in some cases, so this one retries itself, with
 * `last_id` in the address (the header is the browser's alone to set).
 */
export class Stream {
  constructor(on) {
    this.on = on;
    this.source = null;
    this.timer = 0;
    this.tries = 0;
    this.lastId = null;
    this.params = {};
  }

  open(params, lastId) {
    this.close();
    this.params = params;
    this.lastId = lastId;
    this.tries = 0;
    this.connect();
  }

  connect() {
    const query = new URLSearchParams(this.params);
    if (this.lastId !== null) query.set("last_id", this.lastId);
    const source = (this.source = new EventSource(`/events?${query}`));
    source.onopen = () => {
      this.tries = 0;
      this.on.open();
    };
    source.onerror = () => {
      if (source === this.source) this.retry();
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        if (source !== this.source) return;
        if (event.lastEventId) this.lastId = event.lastEventId;
        this.on[kind](JSON.parse(event.data));
      });
    }
    source.addEventListener("dropped", () => {
      if (source === this.source) this.retry();
    });
  }

  retry() {
    this.source.close();
    this.tries += 1;
    this.on.lost(this.tries);
    clearTimeout(this.timer);
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.tries - 1));
    this.timer = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  close() {
    clearTimeout(this.timer);
    if (this.source !== null) this.source.close();
    this.source = null;
  }
}
