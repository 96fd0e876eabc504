// The rows of what is shown: newest per window, oldest window first, bounded. The same rule as the server's:
// of two rows of one window the higher (revision, n, watermark) stays, an equal one replaces.

const MAX_WINDOWS = 720;

const older = (a, b) => a.revision - b.revision || a.n - b.n || a.watermark - b.watermark;

export class Store {
  constructor() {
    this.series = new Map();
    this.windowMs = 0;
    this.minN = 20; // effective posts below which a value is null
    this.corrected = false; // whether shares are shown with the model's known confusions undone
    this.correctable = new Set();
  }

  /** Forget everything; what comes next has windows of `windowMs`. */
  clear(windowMs) {
    this.series.clear();
    this.correctable.clear();
    this.windowMs = windowMs;
  }

  get signals() {
    return [...this.series.keys()];
  }

  /** The answer of /api/series: {signal: columns}. Rows that are already newer here stay. */
  load(series) {
    for (const [signal, columns] of Object.entries(series)) {
      const names = Object.keys(columns);
      columns.window_end.forEach((_, k) => this.put(signal, Object.fromEntries(names.map((name) => [name, columns[name][k]]))));
    }
  }

  put(signal, row) {
    let rows = this.series.get(signal);
    if (rows === undefined) this.series.set(signal, (rows = []));
    let k = rows.length;
    while (k > 0 && rows[k - 1].window_end >= row.window_end) k -= 1;
    if (k < rows.length && rows[k].window_end === row.window_end) {
      if (older(row, rows[k]) < 0) return;
      rows[k] = row;
    } else {
      rows.splice(k, 0, row);
      if (rows.length > MAX_WINDOWS) rows.shift();
    }
    if (row.corrected !== null && row.corrected !== undefined) this.correctable.add(signal);
    row.undone = { ...row, value: row.corrected ?? null, lo: row.corrected_lo ?? null, hi: row.corrected_hi ?? null };
  }

  /** Whether the values shown of `signal` are corrected ones. */
  isCorrected(signal) {
    return this.corrected && this.correctable.has(signal);
  }

  /** Rows as they are to be shown: corrected where that is wanted and known of the signal. */
  rows(signal) {
    const rows = this.series.get(signal) ?? [];
    return this.isCorrected(signal) ? rows.map((row) => row.undone) : rows;
  }

  /** The newest row that is final or revised, or null. */
  settled(signal) {
    return this.rows(signal).findLast((row) => row.status !== "provisional") ?? null;
  }

  /** The newest row that is final or revised; before there is one the newest provisional one; or null. */
  latest(signal) {
    return this.settled(signal) ?? this.rows(signal).at(-1) ?? null;
  }

  /** Window ends over `signals`, rising, in seconds, with a null-making extra point inside every gap. */
  times(signals) {
    const ends = [...new Set(signals.flatMap((s) => (this.series.get(s) ?? []).map((row) => row.window_end)))].sort((a, b) => a - b);
    let step = Infinity;
    for (let k = 1; k < ends.length; k += 1) step = Math.min(step, ends[k] - ends[k - 1]);
    const times = [];
    ends.forEach((end, k) => {
      if (k > 0 && end - ends[k - 1] > 1.5 * step) times.push((ends[k - 1] + step) / 1000);
      times.push(end / 1000);
    });
    return times;
  }
}
