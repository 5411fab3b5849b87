// Finds pictures that look alike without comparing each with each. Two hashes that differ in at most 7 of
// the 64 bits to search by differ in at most 1 bit of one of its four 16-bit bands (pigeonholes), so it
// suffices to look at those with the same band or one bit of it flipped (Norouzi et al. 2012): 68 of
// 262 144 lists, or one hash in 964 if they are spread evenly.

import { differingBits, HASH_WORDS } from "../perceptual_hash.ts";

const BANDS = 4;
const BAND_BITS = 16;
const NONE = 0xffffffff;

/** What is stored of a hash in one line of the processor's cache: the one before it in each band's list, … */
const STRIDE = 8;
/** … the words to search by, … */
const COARSE = BANDS;
/** … the search that looked at it last, and its number. */
const LOOKED_AT = COARSE + HASH_WORDS.coarse;
const ID = LOOKED_AT + 1;

/**
 * Most bits to search by in which two pictures that are found may differ; the bands guarantee 7, and
 * as half of the bits are set the number is always even.
 */
export const COARSE_BITS = 6;

/** Hashes of pictures, with numbers of the caller's. */
export class NearIndex {
  /** Hashes compared so far. */
  compared = 0;
  #count = 0;
  #searches = 0;
  readonly #entries: Uint32Array;
  readonly #fine: Uint32Array;
  /** The latest hash of each list. */
  readonly #heads = new Uint32Array(BANDS << BAND_BITS).fill(NONE);

  /** @param room most hashes that will be added */
  constructor(room: number) {
    this.#entries = new Uint32Array(STRIDE * room);
    this.#fine = new Uint32Array(HASH_WORDS.fine * room);
  }

  /** Adds a hash. @throws {RangeError} If there is no room */
  add(id: number, hash: Uint32Array): void {
    const at = this.#count;
    this.#fine.set(hash.subarray(HASH_WORDS.coarse), HASH_WORDS.fine * at);
    const entry = STRIDE * at;
    for (let band = 0; band < BANDS; band++) {
      const list = listOf(band, bandOf(hash, band));
      this.#entries[entry + band] = this.#heads[list];
      this.#heads[list] = at;
    }
    for (let i = 0; i < HASH_WORDS.coarse; i++) this.#entries[entry + COARSE + i] = hash[i];
    this.#entries[entry + ID] = id;
    this.#count++;
  }

  /**
   * Those added so far that look like a hash.
   *
   * @param bits most of the 256 bits to confirm that may differ
   */
  find(hash: Uint32Array, bits: number): { id: number; bits: number }[] {
    const search = ++this.#searches;
    const entries = this.#entries;
    const found: { id: number; bits: number }[] = [];
    for (let band = 0; band < BANDS; band++) {
      const value = bandOf(hash, band);
      for (let flip = -1; flip < BAND_BITS; flip++) {
        const list = listOf(band, flip < 0 ? value : value ^ (1 << flip));
        for (let at = this.#heads[list]; at !== NONE; at = entries[STRIDE * at + band]) {
          const entry = STRIDE * at;
          if (entries[entry + LOOKED_AT] === search) continue;
          entries[entry + LOOKED_AT] = search;
          this.compared++;
          const coarse = differingBits(entries[entry + COARSE], hash[0]) +
            differingBits(entries[entry + COARSE + 1], hash[1]);
          if (coarse > COARSE_BITS) continue;
          const differing = this.#differing(at, hash);
          if (differing <= bits) found.push({ id: entries[entry + ID], bits: differing });
        }
      }
    }
    return found;
  }

  #differing(at: number, hash: Uint32Array): number {
    let sum = 0;
    for (let i = 0; i < HASH_WORDS.fine; i++) {
      sum += differingBits(this.#fine[HASH_WORDS.fine * at + i], hash[HASH_WORDS.coarse + i]);
    }
    return sum;
  }
}

function bandOf(hash: Uint32Array, band: number): number {
  return (hash[band >> 1] >>> (BAND_BITS * (band & 1))) & 0xffff;
}

function listOf(band: number, value: number): number {
  return (band << BAND_BITS) | value;
}
