// The order in which the records of one task of one source come: endless passes, each in its own order.
// Records that are cheap to read together stay together: blocks are shuffled, then the records in each.

import { Draws } from "../draws.ts";

/** Passes whose order is kept: records held back from the pass before are asked for again. */
const KEPT_PASSES = 2;

/** Where the n-th record that is drawn lies. */
export class RecordOrder {
  /** Number of records. */
  readonly count: number;
  readonly #records: Uint32Array;
  /** First place in `records` of each block. */
  readonly #starts: number[];
  readonly #passes = new Map<number, Uint32Array>();

  /**
   * @param records their indices in the source, ascending, at least one
   * @param blocks first index of each block of the source, ascending
   * @param key what the order is drawn for: whole numbers and words
   * @param reshuffle whether every pass has its own order; else all have that of the first
   */
  constructor(
    records: Uint32Array,
    blocks: readonly number[],
    private readonly key: readonly (number | string)[],
    private readonly reshuffle = true,
  ) {
    this.count = records.length;
    this.#records = records;
    this.#starts = startsOf(records, blocks);
  }

  /** The pass and the record's index in the source. @param ordinal counted from 0 over all passes */
  at(ordinal: number): { epoch: number; index: number } {
    const epoch = Math.floor(ordinal / this.count);
    return { epoch, index: this.#pass(this.reshuffle ? epoch : 0)[ordinal % this.count] };
  }

  /** Any one of the records. */
  pick(draws: Draws): number {
    return this.#records[draws.below(this.count)];
  }

  #pass(epoch: number): Uint32Array {
    const known = this.#passes.get(epoch);
    if (known) return known;
    const order = new Uint32Array(this.count);
    const starts = this.#starts;
    let at = 0;
    for (const block of new Draws("order", ...this.key, epoch, "blocks").order(starts.length)) {
      const from = starts[block];
      const length = (starts[block + 1] ?? this.count) - from;
      for (const i of new Draws("order", ...this.key, epoch, block).order(length)) {
        order[at++] = this.#records[from + i];
      }
    }
    this.#passes.set(epoch, order);
    if (this.#passes.size > KEPT_PASSES) {
      this.#passes.delete(this.#passes.keys().next().value!);
    }
    return order;
  }
}

/** Places in `records` where a block begins that has any of them. */
function startsOf(records: Uint32Array, blocks: readonly number[]): number[] {
  const starts: number[] = [];
  let block = -1;
  records.forEach((record, place) => {
    const before = block;
    while (block + 1 < blocks.length && blocks[block + 1] <= record) block++;
    if (place === 0 || block !== before) starts.push(place);
  });
  return starts;
}
