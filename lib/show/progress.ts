// One way to say how far work is, with two back ends: a terminal (a redrawn line, or a line every ten seconds where
// there is none) and a notebook (one display that is updated). Both are throttled; the clock is passed in. A line that
// is wider than its terminal leaves out whole parts, the least important first.

/** How far something is. */
export interface ProgressState {
  /** What is running: "joint seed 0". The pace is forgotten when it changes. */
  label: string;
  /** What part of it, after the label: "foundation". */
  stage?: string;
  /** Steps done. */
  step: number;
  total: number;
  /** Shown in order as `name value`: losses, tok/s, memory; a string value may say "compiling kernels". */
  fields?: Record<string, string | number>;
  /**
   * What a narrow line leaves out first, the least important first: names of fields, `label`, `stage`, `bar`. Default:
   * the bar, then fields from the last to the first, the stage, the label, the time left. Steps stay.
   */
  spare?: readonly string[];
}

/** A running display of progress. */
export interface Progress {
  /** Call as often as wanted: it draws when it is time. */
  update(state: ProgressState): void;
  /** A line that stays, above the progress. */
  note(text: string): void;
  /** Draws the last state and releases the line. */
  done(): void;
}

/** Shows nothing: `--quiet`. */
export const SILENT: Progress = { update() {}, note() {}, done() {} };

/** Where a terminal's progress goes. */
export interface TerminalOptions {
  write(text: string): void;
  /** True: redraw one line. False: print lines. */
  terminal: boolean;
  /** Width of the terminal, in characters. Default: 80. */
  columns?: () => number;
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** Milliseconds between drawings. Default: 100 in a terminal, 10 000 without. */
  everyMs?: number;
}

/** Progress on stderr of a command. */
export function terminalProgress(options: TerminalOptions): Progress {
  const { write, terminal, now } = options;
  const everyMs = options.everyMs ?? (terminal ? 100 : 10_000);
  const pace = new Pace();
  let drawnAt = -Infinity;
  let shown = "";
  let latest: ProgressState | undefined;

  function draw(state: ProgressState): void {
    const leftMs = pace.leftMs(state, now());
    if (terminal) {
      shown = progressLine(state, leftMs, (options.columns?.() || 80) - 1); // some terminals say 0
      write(`\r\x1b[K${shown}`);
    } else {
      const text = progressText(state, leftMs);
      if (text !== shown) write(`${text}\n`);
      shown = text;
    }
    drawnAt = now();
  }
  return {
    update(state) {
      const first = latest?.label !== state.label || latest.stage !== state.stage;
      latest = state;
      pace.see(state, now());
      if (first || now() - drawnAt >= everyMs) draw(state);
    },
    note(text) {
      write(terminal && shown ? `\r\x1b[K${text}\n${shown}` : `${text}\n`);
    },
    done() {
      if (latest) draw(latest);
      if (terminal && latest) write("\n");
      latest = undefined;
      shown = "";
    },
  };
}

/** Where a notebook's progress goes. */
export interface NotebookOptions {
  /** Shows html under an id, replacing what the id showed before. */
  display(html: string, text: string, update: boolean): void;
  now(): number;
  /** Milliseconds between updates; below 10 messages get lost. Default: 200. */
  everyMs?: number;
}

/** Progress in a notebook's output. */
export function notebookProgress(options: NotebookOptions): Progress {
  const { display, now } = options;
  const everyMs = options.everyMs ?? 200;
  const pace = new Pace();
  const notes: string[] = [];
  let drawnAt = -Infinity;
  let started = false;
  let latest: ProgressState | undefined;

  function draw(state: ProgressState): void {
    const text = progressText(state, pace.leftMs(state, now()));
    const lines = [...notes, text].map((line) =>
      line.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`)
    );
    const done = Math.round(100 * fraction(state));
    const bar = `<progress max="100" value="${done}" style="width:100%"></progress>`;
    display(`<div>${lines.join("<br>")}<br>${bar}</div>`, [...notes, text].join("\n"), started);
    started = true;
    drawnAt = now();
  }
  return {
    update(state) {
      latest = state;
      pace.see(state, now());
      if (now() - drawnAt >= everyMs) draw(state);
    },
    note(text) {
      notes.push(text);
      if (latest) draw(latest);
    },
    done() {
      if (latest) draw(latest);
      latest = undefined;
    },
  };
}

/** A part of a line; `name` is what `spare` calls it. */
interface LinePart {
  name: string;
  text: string;
  /** Characters that it is counted as: numbers have the room of longer ones, or parts would come and go with them. */
  size: number;
}

/** `joint seed 0  120/400  text 1.02  flow 0.31  left 2 min`. */
export function progressText(state: ProgressState, leftMs: number | undefined): string {
  return partsOf(state, leftMs).map(({ text }) => text).join(GAP);
}

/**
 * The same with a bar before the steps, `joint seed 0  ████······  120/400  text 1.02`, in at most `width` characters:
 * what does not fit is left out whole. The bar takes the room that the rest leaves, 6 to 16 characters.
 */
export function progressLine(
  state: ProgressState,
  leftMs: number | undefined,
  width: number,
): string {
  let parts = partsOf(state, leftMs, BAR.least);
  const length = () => parts.reduce((n, { size }) => n + size + GAP.length, -GAP.length);
  for (const part of sparePartsFirst(parts, state.spare ?? [])) {
    if (length() <= width) break;
    parts = parts.filter((other) => other !== part);
  }
  if (length() > width) return "";
  const cells = Math.min(BAR.most, BAR.least + width - length());
  return parts.map(({ name, text }) => name === "bar" ? bar(state, cells) : text).join(GAP);
}

const GAP = "  ";
const BAR = { least: 6, most: 16 } as const;

/** The parts from left to right; a bar of `cells` characters, 0 for none. */
function partsOf(state: ProgressState, leftMs: number | undefined, cells = 0): LinePart[] {
  const { label, stage, step, total, fields = {} } = state;
  const parts: LinePart[] = [];
  const add = (name: string, text: string, least = 0) =>
    parts.push({ name, text, size: Math.max(least, [...text].length) });
  add("label", label);
  if (stage) add("stage", stage);
  if (cells > 0) add("bar", bar(state, cells));
  add("step", `${step}/${total}`);
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "number") {
      add(name, `${name} ${compact(value)}`.trim(), name.length + " 0.123".length);
    } else for (const piece of `${name} ${value}`.trim().split(GAP)) add(name, piece);
  }
  if (leftMs !== undefined) add("left", `left ${duration(leftMs)}`, "left 99 s".length);
  return parts;
}

const LEFT_OUT = new Map([["bar", 0], ["stage", 2], ["label", 3], ["left", 4]]); // fields are 1

/** All parts but the steps, in the order in which they are left out. */
function sparePartsFirst(parts: readonly LinePart[], spare: readonly string[]): LinePart[] {
  const rank = ({ name }: LinePart) => {
    const named = spare.indexOf(name);
    if (named >= 0) return named;
    return spare.length + (LEFT_OUT.get(name) ?? 1);
  };
  return parts.filter(({ name }) => name !== "step").reverse().sort((a, b) => rank(a) - rank(b));
}

function bar(state: ProgressState, cells: number): string {
  const full = Math.round(cells * fraction(state));
  return "█".repeat(full) + "·".repeat(cells - full);
}

const fraction = ({ step, total }: ProgressState) =>
  total > 0 ? Math.min(1, Math.max(0, step / total)) : 0;

/** Three or four figures: 1.024 → "1.02", 1934 → "1.9k". */
export function compact(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e3) return `${(value / 1e3).toFixed(1)}k`;
  if (size >= 100 || value === 0) return value.toFixed(0);
  if (size >= 0.01) return value.toPrecision(3);
  return value.toExponential(1);
}

/** 94 000 ms → "94 s", 130 000 → "2 min", 7 200 000 → "2.0 h". */
export function duration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** How long a step takes lately. The first step compiles kernels and does not count. */
class Pace {
  #label = "";
  #from: { step: number; at: number } | undefined;
  #msPerStep: number | undefined;

  see(state: ProgressState, at: number): void {
    if (state.label !== this.#label || (this.#from && state.step < this.#from.step)) {
      this.#label = state.label;
      this.#from = undefined;
      this.#msPerStep = undefined;
    }
    if (state.step < 1) return;
    if (this.#from && state.step > this.#from.step) {
      const steps = state.step - this.#from.step;
      const pace = (at - this.#from.at) / steps;
      const weight = 1 - 0.9 ** steps; // the last ten steps or so
      this.#msPerStep = this.#msPerStep === undefined
        ? pace
        : this.#msPerStep + weight * (pace - this.#msPerStep);
    }
    if (!this.#from || state.step > this.#from.step) this.#from = { step: state.step, at };
  }

  leftMs(state: ProgressState, now: number): number | undefined {
    if (this.#msPerStep === undefined || !this.#from || state.step >= state.total) return undefined;
    const waited = now - this.#from.at;
    return Math.max(0, (state.total - this.#from.step) * this.#msPerStep - waited);
  }
}
