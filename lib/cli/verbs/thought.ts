// Text in think mode as it comes: what stands between <think> and </think>, and what follows. The whole text is split
// the same way by `splitThought` of lib/infer/prompts.ts.

const OPEN = "<think>";
const CLOSE = "</think>";

/** Splits a text that comes in pieces; thought and answer go to their own receiver. */
export class ThoughtSplitter {
  #state: "start" | "thought" | "answer" = "start";
  #held = "";

  constructor(
    readonly onThought: (piece: string) => void,
    readonly onAnswer: (piece: string) => void,
  ) {}

  /** Takes the next piece. */
  push(piece: string): void {
    if (this.#state === "answer") return this.onAnswer(piece);
    this.#held += piece;
    if (this.#state === "start") {
      const text = this.#held.trimStart();
      if (OPEN.startsWith(text)) return; // not decided yet
      this.#state = text.startsWith(OPEN) ? "thought" : "answer";
      this.#held = this.#state === "thought" ? text.slice(OPEN.length) : this.#held;
      if (this.#state === "answer") return this.end();
    }
    const at = this.#held.indexOf(CLOSE);
    if (at < 0) {
      const keep = partOfClose(this.#held);
      this.onThought(this.#held.slice(0, this.#held.length - keep));
      this.#held = this.#held.slice(this.#held.length - keep);
      return;
    }
    this.onThought(this.#held.slice(0, at));
    this.#state = "answer";
    this.#held = this.#held.slice(at + CLOSE.length);
    this.end();
  }

  /** Gives out what was held back. */
  end(): void {
    if (this.#held !== "") (this.#state === "thought" ? this.onThought : this.onAnswer)(this.#held);
    this.#held = "";
  }
}

/** How many characters at the end of a text may begin a closing tag. */
function partOfClose(text: string): number {
  for (let n = Math.min(CLOSE.length - 1, text.length); n > 0; n--) {
    if (CLOSE.startsWith(text.slice(-n))) return n;
  }
  return 0;
}

/** Leaves out white space at both ends of a text that comes in pieces, as `trim()` would. */
export class Trimmer {
  #begun = false;
  #space = "";

  constructor(readonly onText: (piece: string) => void) {}

  /** Takes the next piece. */
  push(piece: string): void {
    const text = this.#space + (this.#begun ? piece : piece.trimStart());
    const kept = text.trimEnd();
    this.#space = text.slice(kept.length);
    if (kept === "") return;
    this.#begun = true;
    this.onText(kept);
  }
}
