// Numbers digests in the order in which they come, and knows them again: about 50 bytes each. Of a SHA-256
// 128 bits are kept, enough for 10¹⁵ contents before two differing ones would be taken for one.

/** Words of 32 bits that are kept of a digest. */
const WORDS = 4;

/** Digests by number, from 0. */
export class DigestTable {
  /** Different digests so far. */
  count = 0;
  #keys: Uint32Array<ArrayBuffer>;
  /** One more than the number of the digest at a place; 0 where there is none. */
  #places: Uint32Array<ArrayBuffer>;

  /** @param room digests before it grows for the first time, a power of two */
  constructor(room = 1024) {
    this.#keys = new Uint32Array(WORDS * room);
    this.#places = new Uint32Array(2 * room);
  }

  /** The number of a digest of at least 16 bytes; a new one gets the next. */
  add(digest: Uint8Array): { id: number; isNew: boolean } {
    const key = keyOf(digest);
    const place = this.#find(key);
    const known = this.#places[place];
    if (known > 0) return { id: known - 1, isNew: false };
    const id = this.count++;
    this.#keys.set(key, WORDS * id);
    this.#places[place] = id + 1;
    if (2 * this.count === this.#places.length) this.#grow();
    return { id, isNew: true };
  }

  /** The number of a digest that was added, else undefined. */
  find(digest: Uint8Array): number | undefined {
    const known = this.#places[this.#find(keyOf(digest))];
    return known > 0 ? known - 1 : undefined;
  }

  /** Its place, or the free one where it belongs. */
  #find(key: Uint32Array): number {
    const mask = this.#places.length - 1;
    for (let place = key[0] & mask;; place = (place + 1) & mask) {
      const known = this.#places[place];
      if (known === 0) return place;
      const from = WORDS * (known - 1);
      if (key.every((word, i) => this.#keys[from + i] === word)) return place;
    }
  }

  #grow() {
    const keys = new Uint32Array(2 * this.#keys.length);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#places = new Uint32Array(2 * this.#places.length);
    for (let id = 0; id < this.count; id++) {
      const key = keys.subarray(WORDS * id, WORDS * (id + 1));
      this.#places[this.#find(key)] = id + 1;
    }
  }
}

function keyOf(digest: Uint8Array): Uint32Array {
  if (digest.length < 4 * WORDS) {
    throw new TypeError(`Cannot number a digest of ${digest.length} bytes: 16 are needed`);
  }
  // Not slice(): of a Buffer that is a view into a larger one.
  return new Uint32Array(Uint8Array.from(digest.subarray(0, 4 * WORDS)).buffer);
}
