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
  /** True for the first run of a pipeline: software adapters compile then. */
  first: boolean;
}

/** Calls, time and rates of one kernel. */
export type KernelTime = {
  label: string;
  calls: number;
  milliseconds: number;
  /** Of these, in first runs of pipelines, when software adapters compile. */
  firstMilliseconds: number;
  /** Floating-point operations of all calls; 0 where the launches name none. */
  flop: number;
  /** Bytes of all calls. */
  bytes: number;
  /** 10⁹ floating-point operations per second, first runs apart; null where none are counted. */
  gflops: number | null;
  /** 10⁹ bytes per second, first runs apart; null where none are counted. */
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
 * Adds calls up by label, the slowest label first: `gflops = flop / (10⁶ · milliseconds)` over the calls that are no
 * first run, `gbps` alike, `share` of the sum of all milliseconds.
 */
export function kernelTimes(calls: Iterable<TimedCall>): KernelTime[] {
  const sums = new Sums();
  for (const call of calls) sums.add(call);
  return sums.rows();
}

interface Sum {
  calls: number;
  ms: number;
  flop: number;
  bytes: number;
}

/** Sums per label. */
export class Sums {
  readonly #byLabel = new Map<string, { first: Sum; later: Sum }>();

  /** Adds a call to its label's row. */
  add({ label, milliseconds, flop, bytes, first }: TimedCall): void {
    let sums = this.#byLabel.get(label);
    if (!sums) this.#byLabel.set(label, sums = { first: nothing(), later: nothing() });
    const sum = first ? sums.first : sums.later;
    sum.calls++;
    sum.ms += milliseconds;
    sum.flop += flop;
    sum.bytes += bytes;
  }

  /** The rows, the slowest first. */
  rows(): KernelTime[] {
    const all = [...this.#byLabel];
    const total = all.reduce((ms, [, { first, later }]) => ms + first.ms + later.ms, 0);
    const rows = all.map(([label, { first, later }]): KernelTime => ({
      label,
      calls: first.calls + later.calls,
      milliseconds: first.ms + later.ms,
      firstMilliseconds: first.ms,
      flop: first.flop + later.flop,
      bytes: first.bytes + later.bytes,
      gflops: rate(later.flop, later.ms),
      gbps: rate(later.bytes, later.ms),
      share: total > 0 ? (first.ms + later.ms) / total : 0,
    }));
    return rows.sort((a, b) => b.milliseconds - a.milliseconds);
  }
}

function nothing(): Sum {
  return { calls: 0, ms: 0, flop: 0, bytes: 0 };
}

function rate(amount: number, milliseconds: number): number | null {
  return amount > 0 && milliseconds > 0 ? amount / milliseconds / 1e6 : null;
}
