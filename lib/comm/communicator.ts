// What training needs of a group of processes, and the group of one. Every process ("rank") calls the same operations in
// the same order with the same sizes; sums are taken in an order that depends on sizes and the number of ranks alone, so
// that a run repeated on as many ranks gives the same bits.

/** A group of processes that train together. */
export interface Communicator {
  /** Number of this process, from 0. */
  readonly rank: number;
  /** Number of processes. */
  readonly size: number;
  /** Number of this process among those on its machine: which of its GPUs to take. */
  readonly localRank: number;
  /** Sums values over all ranks, in place. */
  sum(values: Float32Array): Promise<void>;
  /** Sums of values over all ranks, in f64. */
  sumNumbers(values: readonly number[]): Promise<number[]>;
  /** Overwrites values on every rank by those of rank `root`. */
  broadcast(values: Uint8Array | Float32Array, root: number): Promise<void>;
  /**
   * Sums values over all ranks and gives each rank its part of the sums: `counts[r]` values go to rank r, in rank order.
   *
   * @returns `counts[rank]` sums
   */
  reduceScatter(values: Float32Array, counts: readonly number[]): Promise<Float32Array>;
  /**
   * Bytes of all ranks, one after the other in rank order.
   *
   * @param own `counts[rank]` bytes
   */
  allGather(own: Uint8Array, counts: readonly number[]): Promise<Uint8Array>;
  /** Waits until every rank is here. */
  barrier(): Promise<void>;
  /** Lets operations on their way go on: to be called now and then by work that keeps the event loop waiting. */
  progress(): void;
  /** Ends every process of the group, this one with `code`. */
  abort(code: number): never;
  /** Leaves the group, which then has no operations any more. */
  finalize(): void;
}

/**
 * Checks what reduceScatter and allGather are given.
 *
 * @throws {RangeError} If there is not one count per rank, or the number of values is not what the counts say
 */
export function checkCounts(
  { size }: Pick<Communicator, "size">,
  counts: readonly number[],
  values: { length: number; wanted: number },
): void {
  if (counts.length !== size || counts.some((n) => !Number.isSafeInteger(n) || n < 0)) {
    throw new RangeError(
      `Cannot share [${counts.join(", ")}] among ${size} ranks: one whole number each`,
    );
  }
  if (values.length !== values.wanted) {
    throw new RangeError(`Cannot share ${values.length} values: the counts say ${values.wanted}`);
  }
}

/** @throws {RangeError} If there is no such rank */
export function checkRoot({ size }: Pick<Communicator, "size">, root: number): void {
  if (Number.isInteger(root) && root >= 0 && root < size) return;
  throw new RangeError(`Cannot broadcast from rank ${root}: there are ${size}`);
}

const total = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);

/** The group of one: nothing is sent, no library is needed. */
export const SOLO: Communicator = {
  rank: 0,
  size: 1,
  localRank: 0,
  sum: () => Promise.resolve(),
  sumNumbers: (values) => Promise.resolve([...values]),
  broadcast: (_, root) => {
    checkRoot(SOLO, root);
    return Promise.resolve();
  },
  reduceScatter: (values, counts) => {
    checkCounts(SOLO, counts, { length: values.length, wanted: total(counts) });
    return Promise.resolve(values.slice());
  },
  allGather: (own, counts) => {
    checkCounts(SOLO, counts, { length: own.length, wanted: total(counts) });
    return Promise.resolve(own.slice());
  },
  barrier: () => Promise.resolve(),
  progress: () => {},
  abort: (code) => Deno.exit(code),
  finalize: () => {},
};
