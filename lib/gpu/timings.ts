// What a profile keeps of timed commands: sums per kernel for the whole run, and the latest commands one by one.

/** Arithmetic and traffic of one launch, as far as they are known. */
export interface Work {
  /** Floating-point operations; a multiply-add counts as two. */
  flop?: number;
  /** Bytes read and written on the device, each once, however often a kernel loads them. */
  bytes?: number;
}

/** One timed dispatch or copy. */
export interface TimedCall {
  /** The kernel, or `copy`, `texel copy`, `clear`, `read`. */
  label: string;
  /** Nanoseconds from the first timed command to the start of this one. */
  startNs: number;
  milliseconds: number;
  /** Floating-point operations; 0 where the launch names none. */
  flop: number;
  /** Bytes read and written. */
  bytes: number;
}

/** Calls, time and rates of one kernel. */
export type KernelTime = {
  label: string;
  calls: number;
  milliseconds: number;
  /** Floating-point operations of all calls; 0 where the launches name none. */
  flop: number;
  /** Bytes of all calls. */
  bytes: number;
  /** 10⁹ floating-point operations per second; null where none are counted. */
  gflops: number | null;
  /** 10⁹ bytes per second; null where none are counted. */
  gbps: number | null;
  /** Part of the time of all rows, 0 to 1. */
  share: number;
};

/** The latest of many values: all are counted, the oldest make room. */
export class Latest<T> {
  /** Values pushed so far. */
  count = 0;
  readonly #most: number;
  readonly #kept: T[] = [];

  /** @param most how many are kept */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many are no longer kept. */
  get leftOut(): number {
    return this.count - this.#kept.length;
  }

  /** Adds a value. */
  push(value: T): void {
    this.#kept[this.count++ % this.#most] = value;
  }

  /** The kept values from number `start` on, oldest first. */
  from(start: number): T[] {
    const values: T[] = [];
    for (let i = Math.max(start, this.leftOut); i < this.count; i++) {
      values.push(this.#kept[i % this.#most]);
    }
    return values;
  }
}

/**
 * Adds calls up by label, the slowest label first: `gflops = flop / (10⁶ · milliseconds)`, `gbps` alike, `share` of
 * the sum of all milliseconds.
 */
export function rowsOf(calls: Iterable<TimedCall>): KernelTime[] {
  const sums = new Sums();
  for (const call of calls) sums.add(call);
  return sums.rows();
}

/** Sums per label. */
export class Sums {
  readonly #byLabel = new Map<string, Omit<KernelTime, "gflops" | "gbps" | "share">>();

  /** Adds a call to its label's row. */
  add({ label, milliseconds, flop, bytes }: TimedCall): void {
    let row = this.#byLabel.get(label);
    if (!row) {
      row = { label, calls: 0, milliseconds: 0, flop: 0, bytes: 0 };
      this.#byLabel.set(label, row);
    }
    row.calls++;
    row.milliseconds += milliseconds;
    row.flop += flop;
    row.bytes += bytes;
  }

  /** The rows, the slowest first. */
  rows(): KernelTime[] {
    const all = [...this.#byLabel.values()];
    const total = all.reduce((ms, row) => ms + row.milliseconds, 0);
    return all.sort((a, b) => b.milliseconds - a.milliseconds).map((row) => ({
      ...row,
      gflops: rate(row.flop, row.milliseconds),
      gbps: rate(row.bytes, row.milliseconds),
      share: total > 0 ? row.milliseconds / total : 0,
    }));
  }
}

function rate(amount: number, milliseconds: number): number | null {
  return amount > 0 && milliseconds > 0 ? amount / milliseconds / 1e6 : null;
}
