// Byte-pair encoding over ids (Sennrich et al. 2016): of all neighbours that have a merge, the pair of lowest
// rank is joined first, the leftmost of equals, until none is left. A heap of candidates keeps this
// O(n log n), so that one word of a million letters is no trap.

/** The merges of a vocabulary by rank: `left[r]` beside `right[r]` become `merged[r]`. */
export interface Merges {
  left: Int32Array;
  right: Int32Array;
  merged: Int32Array;
}

/** Position and rank share one number in the heap: rank · 2³² + position. */
const POSITIONS = 2 ** 32;

/** There must be fewer merges than this, so that the shared number is exact. */
export const MAX_MERGES = 2 ** 21;

/** Splits bytes into the ids of a vocabulary. */
export class BytePairs {
  readonly #byteIds: Int32Array;
  readonly #merges: Merges;
  /** Rank by hash of (left, right), -1 where free; linear probing. */
  readonly #slots: Int32Array;
  /** Of the piece in work, by position: its id (-1 once joined to the left), and its neighbours. */
  #id = new Int32Array(64);
  #next = new Int32Array(64);
  #previous = new Int32Array(64);

  /**
   * @param byteIds (256) id of each single byte
   * @param merges no pair twice; fewer than {@link MAX_MERGES}
   */
  constructor(byteIds: Int32Array, merges: Merges) {
    this.#byteIds = byteIds;
    this.#merges = merges;
    const count = merges.left.length;
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * count + 2))).fill(-1);
    for (let rank = 0; rank < count; rank++) {
      this.#slots[this.#slotOf(merges.left[rank], merges.right[rank])] = rank;
    }
  }

  /** Ids of a sequence of bytes. */
  encode(bytes: Uint8Array): number[] {
    const n = bytes.length;
    if (n === 1) return [this.#byteIds[bytes[0]]];
    if (n > this.#id.length) {
      this.#id = new Int32Array(2 * n);
      this.#next = new Int32Array(2 * n);
      this.#previous = new Int32Array(2 * n);
    }
    const [id, next, previous] = [this.#id, this.#next, this.#previous];
    const { left, right, merged } = this.#merges;
    for (let i = 0; i < n; i++) {
      id[i] = this.#byteIds[bytes[i]];
      next[i] = i + 1;
      previous[i] = i - 1;
    }
    const heap: number[] = [];
    const consider = (i: number) => {
      if (i < 0 || next[i] >= n) return;
      const rank = this.#slots[this.#slotOf(id[i], id[next[i]])];
      if (rank >= 0) pushLeast(heap, rank * POSITIONS + i);
    };
    for (let i = 0; i < n - 1; i++) consider(i);
    while (heap.length > 0) {
      const least = popLeast(heap);
      const rank = Math.floor(least / POSITIONS);
      const i = least - rank * POSITIONS;
      const j = next[i];
      // Either neighbour may have been joined to another since the pair was noted.
      if (j >= n || id[i] !== left[rank] || id[j] !== right[rank]) continue;
      id[i] = merged[rank];
      id[j] = -1;
      next[i] = next[j];
      if (next[i] < n) previous[next[i]] = i;
      consider(previous[i]);
      consider(i);
    }
    const ids: number[] = [];
    for (let i = 0; i < n; i = next[i]) ids.push(id[i]);
    return ids;
  }

  /** Where the rank of a pair is, or would be. */
  #slotOf(left: number, right: number): number {
    const last = this.#slots.length - 1;
    const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    let slot = (mixed ^ mixed >>> 15) & last;
    for (let rank = this.#slots[slot]; rank >= 0; rank = this.#slots[slot]) {
      if (this.#merges.left[rank] === left && this.#merges.right[rank] === right) break;
      slot = (slot + 1) & last;
    }
    return slot;
  }
}

/** Adds to a binary heap whose least element comes first. */
function pushLeast(heap: number[], value: number): void {
  let at = heap.push(value) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent] <= value) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = value;
}

/** Takes the least element of a heap that is not empty. */
function popLeast(heap: number[]): number {
  const least = heap[0];
  const value = heap.pop()!;
  const n = heap.length;
  if (n === 0) return least;
  let at = 0;
  for (let child = 1; child < n; child = 2 * at + 1) {
    if (child + 1 < n && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= value) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = value;
  return least;
}
