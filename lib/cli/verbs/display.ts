// What a verb shows while it works: progress and notes on stderr; text as it comes, on stdout where it is the answer,
// on stderr where it is a thought or a plan; with --json a line per event instead.

import type { VerbProgress } from "../../infer/session.ts";
import {
  type Progress,
  type ProgressState,
  SILENT,
  terminalProgress,
} from "../../show/progress.ts";
import { ThoughtSplitter, Trimmer } from "./thought.ts";
import type { Desk } from "./world.ts";

/** What a text is to the user: the answer, or what led to it. */
export type TextKind = "text" | "thought" | "plan";

/** Shows progress, notes and texts. */
export class Display {
  readonly #progress: Progress;
  readonly #said = new Set<string>();
  #voice: Voice | undefined;
  #firstToken = 0;
  /** Tokens of the text being written, and their pace. */
  #written: { tokens: number; perSecond: number } | undefined;
  /** The state on the progress line and when it came, while the line is there. */
  #latest: { state: ProgressState; at: number } | undefined;
  #beat: ReturnType<typeof setInterval> | undefined;

  constructor(readonly context: Desk) {
    const { world, terminal } = context;
    this.#progress = context.flags.quiet ? SILENT : terminalProgress({
      write: world.stderr,
      terminal,
      columns: world.columns,
      now: world.now,
    });
  }

  /** A note on stderr, once. */
  readonly note = (text: string): void => {
    if (this.context.flags.quiet || this.#said.has(text)) return;
    this.#said.add(text);
    this.#voice?.pause();
    this.#progress.note(`note: ${text}`);
  };

  /** How far a verb is. */
  readonly onProgress = ({ stage, done, total }: VerbProgress): void => {
    if (stage === "write") return this.#writes(done, total);
    this.#voice?.pause();
    this.#tellPace();
    const [step, of] = stage === "load" ? [done / 1e6, total / 1e6].map(Math.ceil) : [done, total];
    const unit = { load: "MB", read: "layers", draw: "steps", decode: "parts" }[stage];
    this.#update({
      label: stage,
      step: Number(step.toFixed(1)),
      total: of,
      fields: { [unit]: "" },
    });
  };

  #writes(done: number, total: number): void {
    const { world } = this.context;
    if (done <= 1) this.#firstToken = world.now();
    const seconds = (world.now() - this.#firstToken) / 1000;
    const perSecond = done > 1 && seconds > 0 ? (done - 1) / seconds : 0;
    this.#written = { tokens: done, perSecond };
    if (this.#voice?.drawn) return;
    const pace: Record<string, number> = perSecond > 0 ? { "tokens/s": perSecond } : {};
    this.#update({ label: "write", step: done, total, fields: { tokens: "", ...pace } });
  }

  /** Draws a state, and then how long it has stood, until the next one comes. */
  #update(state: ProgressState): void {
    this.#latest = { state, at: this.context.world.now() };
    this.#progress.update(state);
    if (this.context.flags.quiet) return;
    this.#beat ??= setInterval(() => {
      if (!this.#latest) return;
      const seconds = Math.floor((this.context.world.now() - this.#latest.at) / 1000);
      if (seconds < 2) return;
      const fields = { ...this.#latest.state.fields, waiting: `${seconds} s` };
      this.#progress.update({ ...this.#latest.state, fields });
    }, 1000);
  }

  /** Draws the last state and leaves the line. */
  #release(): void {
    if (this.#latest) this.#progress.update(this.#latest.state);
    this.#progress.done();
    this.#latest = undefined;
    clearInterval(this.#beat);
    this.#beat = undefined;
  }

  #tellPace(): void {
    if (!this.#written) return;
    const { tokens, perSecond } = this.#written;
    this.#written = undefined;
    const pace = perSecond > 0 ? `, ${perSecond.toPrecision(3)} tokens/s` : "";
    if (!this.context.flags.quiet) {
      this.#progress.note(`note: ${tokens} token${tokens === 1 ? "" : "s"}${pace}`);
    }
  }

  /**
   * Begins a text; the function takes its pieces.
   *
   * @param kind of what is no thought
   * @param splits whether a thought in tags may come first
   */
  speak(kind: TextKind, splits: boolean): (piece: string) => void {
    this.#voice?.end();
    this.#written = undefined;
    const voice = new Voice(this.context, kind, splits, () => this.#release());
    this.#voice = voice;
    return (piece) => voice.push(piece);
  }

  /** Ends the text and the progress line; notes how fast the text came. */
  done(): void {
    this.#voice?.end();
    this.#voice = undefined;
    this.#release();
    this.#tellPace();
  }
}

/** One text on its way to the user. */
class Voice {
  /** Whether pieces appear on a terminal, where a progress line would be in their way. */
  readonly drawn: boolean;
  readonly #splitter: ThoughtSplitter | undefined;
  readonly #parts = new Map<TextKind, Trimmer>();
  #midLine: "stdout" | "stderr" | undefined;
  #last: TextKind | undefined;

  constructor(
    readonly context: Desk,
    readonly kind: TextKind,
    splits: boolean,
    readonly clear: () => void,
  ) {
    const { json } = context.flags;
    const toStdout = kind === "text";
    this.drawn = !json && (toStdout ? context.world.stdoutTerminal : true);
    this.#splitter = splits
      ? new ThoughtSplitter((p) => this.#part("thought", p), (p) => this.#part(kind, p))
      : undefined;
  }

  push(piece: string): void {
    if (this.#splitter) this.#splitter.push(piece);
    else this.#part(this.kind, piece);
  }

  #part(kind: TextKind, piece: string): void {
    let trimmer = this.#parts.get(kind);
    if (!trimmer) this.#parts.set(kind, trimmer = new Trimmer((text) => this.#out(kind, text)));
    trimmer.push(piece);
  }

  #out(kind: TextKind, piece: string): void {
    const { json, quiet } = this.context.flags;
    if (json) return this.context.emit({ event: kind, piece });
    const stream = kind === "text" ? "stdout" : "stderr";
    if (stream === "stderr" && quiet) return;
    if (this.#last !== kind) this.pause();
    if (this.#midLine === undefined) {
      if (this.drawn || stream === "stderr") this.clear();
      if (stream === "stderr") this.context.world.stderr(`${kind}: `);
    }
    this.context.world[stream](piece);
    this.#midLine = stream;
    this.#last = kind;
  }

  /** Ends the line that is being written, for something else to be said. */
  pause(): void {
    if (this.#midLine) this.context.world[this.#midLine]("\n");
    this.#midLine = undefined;
  }

  end(): void {
    this.#splitter?.end();
    this.pause();
  }
}
