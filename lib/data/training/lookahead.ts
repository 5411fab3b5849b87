// Work begun before its turn and given out in order; at most a few pieces are under way at once.

/** What became of a promise; nothing is rejected before somebody waits for it. */
type Settled<T> = { value: T } | { error: unknown };

/** A queue of promises that is kept full. */
export class Lookahead<T> {
  readonly #queue: Promise<Settled<T>>[] = [];

  /**
   * @param start begins the next piece of work
   * @param depth pieces begun before they are asked for, at least 1; may change
   */
  constructor(private readonly start: () => Promise<T>, public depth: number) {}

  /** Begins work up to the depth. */
  fill(): void {
    while (this.#queue.length < this.depth) this.#queue.push(settled(this.start()));
  }

  /** The next piece, and the one after the last is begun. @throws What its work threw */
  async take(): Promise<T> {
    this.fill();
    const next = this.#queue.shift()!;
    this.fill();
    const result = await next;
    if ("error" in result) throw result.error;
    return result.value;
  }
}

function settled<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then((value) => ({ value }), (error) => ({ error }));
}
