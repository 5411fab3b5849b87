// Progress of a command that is mostly done before anybody would look: it is silent for its first two seconds.

import { type Progress, type ProgressState, SILENT, terminalProgress } from "../show/progress.ts";
import type { Output } from "./checkpoint_text.ts";

/** Milliseconds without progress. */
const LATE_MS = 2000;

/** Progress on stderr and, once a second, as JSON lines, beginning late. */
export class LateProgress {
  readonly #progress: Progress;
  readonly #started = performance.now();
  #told = this.#started + LATE_MS;

  constructor(private readonly output: Output, private readonly what: string) {
    const encoder = new TextEncoder();
    this.#progress = output.flags.quiet ? SILENT : terminalProgress({
      write: (text) => {
        let bytes = encoder.encode(text);
        while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
      },
      terminal: output.terminal,
      columns: () => output.terminal ? Deno.consoleSize().columns : 80,
      now: () => performance.now(),
    });
  }

  /** Call as often as wanted. */
  update(state: ProgressState): void {
    const now = performance.now();
    if (now - this.#started < LATE_MS) return;
    this.#progress.update({ ...state, label: `${this.what}: ${state.label}` });
    if (now - this.#told < 1000) return;
    this.#told = now;
    this.output.emit({
      event: "progress",
      what: state.label,
      done: state.step,
      total: state.total,
    });
  }

  /** Releases the line. */
  done(): void {
    this.#progress.done();
  }
}
