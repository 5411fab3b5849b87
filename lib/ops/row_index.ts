// Row numbers on the device, with what the gradients of gathers need: made once per batch, used by every
// layer.

import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";

/**
 * M row numbers into something of `rows` rows. A plain record: `tidy` gives its memory back, and
 * `Object.values(index)` reaches the tensors of one that was kept.
 */
export interface RowIndex {
  /** How many rows there are to choose from. */
  readonly rows: number;
  /** M, how many were chosen. */
  readonly size: number;
  /** The row numbers on the host. */
  readonly host: Int32Array;
  /** Int32 (M): the row numbers. */
  readonly indices: Tensor;
  /** Int32 (rows): the position of each row in the list, or -1; `null` when a row occurs twice. */
  readonly inverse: Tensor | null;
  /** Int32: distinct rows, where their lists start, and the lists; `null` when no row occurs twice. */
  readonly segments: Tensor | null;
  /** How many distinct rows `segments` lists. */
  readonly distinct: number;
}

/**
 * Uploads row numbers for looking up only: nothing that a gradient needs, which for a table of 150,000 tokens
 * is most of the work.
 *
 * @param ids row numbers in [0, rows), any order, repetitions allowed
 * @throws {RangeError} If a number is out of range
 */
export function lookupIndex(gpu: Gpu, ids: Int32Array, rows: number): RowIndex {
  for (const [i, id] of ids.entries()) {
    if (!(id >= 0 && id < rows)) {
      throw new RangeError(`Cannot index ${rows} rows with ${id} (at ${i})`);
    }
  }
  const indices = Tensor.from(gpu, ids, [ids.length]);
  const none = { inverse: null, segments: null, distinct: 0 };
  return { rows, size: ids.length, host: ids.slice(), indices, ...none };
}

/**
 * Uploads row numbers.
 *
 * @param ids row numbers in [0, rows), any order, repetitions allowed
 * @throws {RangeError} If a number is out of range
 */
export function rowIndex(gpu: Gpu, ids: Int32Array, rows: number): RowIndex {
  const inverse = new Int32Array(rows).fill(-1);
  const counts = new Map<number, number>();
  let unique = true;
  for (const [i, id] of ids.entries()) {
    if (!(id >= 0 && id < rows)) {
      throw new RangeError(`Cannot index ${rows} rows with ${id} (at ${i})`);
    }
    if (inverse[id] >= 0) unique = false;
    inverse[id] = i;
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  const indices = Tensor.from(gpu, ids, [ids.length]);
  const common = { rows, size: ids.length, host: ids.slice(), indices, distinct: counts.size };
  if (unique) {
    return { ...common, inverse: Tensor.from(gpu, inverse, [rows]), segments: null };
  }
  const segments = segmentsOf(ids, counts);
  return { ...common, inverse: null, segments: Tensor.from(gpu, segments, [segments.length]) };
}

/** Rows (U), starts (U + 1) and positions (M), the positions of each row in ascending order. */
function segmentsOf(ids: Int32Array, counts: Map<number, number>): Int32Array {
  const distinct = counts.size;
  const packed = new Int32Array(2 * distinct + 1 + ids.length);
  const next = new Map<number, number>(); // where the row's next position goes
  let [u, start] = [0, 0];
  for (const [row, count] of counts) {
    packed[u] = row;
    packed[distinct + u] = start;
    next.set(row, start);
    start += count;
    u++;
  }
  packed[2 * distinct] = start;
  for (const [i, id] of ids.entries()) {
    const at = next.get(id)!;
    packed[2 * distinct + 1 + at] = i;
    next.set(id, at + 1);
  }
  return packed;
}
