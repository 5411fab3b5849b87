// Watching a loss for the beginning of a divergence: not yet infinite, but far above what it was.

/** When to warn. */
export interface DivergenceOptions {
  /** Warn once the loss is this many times its usual value. */
  factor: number;
  /** Steps that make up the usual value. */
  window: number;
}

/** Steps of which the recent loss is the mean: one bad batch is no divergence. */
const RECENT = 5;

/**
 * Compares the mean of the last five losses with the median of the `window` before them. After a warning it is
 * silent until the loss came back.
 */
export class DivergenceWatch {
  readonly #losses: number[];
  #warned: boolean;

  /** @param state of an earlier watch, from {@link DivergenceWatch.state} */
  constructor(
    private readonly options: DivergenceOptions,
    state: { losses: readonly number[]; warned: boolean } = { losses: [], warned: false },
  ) {
    this.#losses = [...state.losses];
    this.#warned = state.warned;
  }

  /**
   * Takes the next loss.
   *
   * @returns a sentence when a warning is due
   */
  see(loss: number): string | undefined {
    const { factor, window } = this.options;
    if (!Number.isFinite(loss)) return undefined; // another guard's matter
    this.#losses.push(loss);
    if (this.#losses.length > window + RECENT) this.#losses.shift();
    if (this.#losses.length < Math.min(window, 10) + RECENT) return undefined;
    const recent = mean(this.#losses.slice(-RECENT));
    const usual = median(this.#losses.slice(0, -RECENT));
    const high = recent > factor * usual;
    const due = high && !this.#warned;
    this.#warned = high;
    if (!due) return undefined;
    return `the loss is ${recent.toPrecision(3)}, ${(recent / usual).toFixed(1)} times its usual ` +
      `${
        usual.toPrecision(3)
      }: it may be diverging; a lower learning rate is the first thing to try`;
  }

  /** What a checkpoint keeps. */
  state(): { losses: number[]; warned: boolean } {
    return { losses: [...this.#losses], warned: this.#warned };
  }
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
