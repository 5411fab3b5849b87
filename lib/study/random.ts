// Seeded random numbers for resampling and shuffling: xoshiro128** seeded through splitmix64
// (Blackman & Vigna 2021, "Scrambled linear pseudorandom number generators").

/** A stream of random numbers that depends on its seed alone. */
export interface Random {
  /** An integer in [0, 2³²). */
  uint32(): number;
  /** An integer in [0, n), without modulo bias; n up to 2³². */
  below(n: number): number;
  /** A number in [0, 1) with 32 random bits. */
  uniform(): number;
  /** Shuffles in place (Fisher–Yates) and returns the same array. */
  shuffle<T extends { length: number; [index: number]: unknown }>(array: T): T;
}

const rotate = (x: number, k: number) => (x << k) | (x >>> (32 - k));

/** Four 32-bit words from one seed by splitmix64. */
function splitmix(seed: number): Uint32Array {
  const mask = (1n << 64n) - 1n;
  const words = new Uint32Array(4);
  let state = BigInt(seed);
  for (let i = 0; i < 4; i += 2) {
    state = (state + 0x9e3779b97f4a7c15n) & mask;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
    z ^= z >> 31n;
    words[i] = Number(z & 0xffffffffn);
    words[i + 1] = Number(z >> 32n);
  }
  return words;
}

/**
 * A xoshiro128** stream.
 *
 * @param seed An integer ≥ 0, or the generator's four state words, not all zero
 * @throws {RangeError} If the seed is not a safe integer ≥ 0, or the state is all zero
 */
export function seededRandom(seed: number | Uint32Array): Random {
  if (typeof seed === "number" && !(Number.isSafeInteger(seed) && seed >= 0)) {
    throw new RangeError(`Cannot seed random numbers with ${seed}: not an integer ≥ 0`);
  }
  const s = typeof seed === "number" ? splitmix(seed) : seed.slice();
  if (s.length !== 4 || s.every((word) => word === 0)) {
    throw new RangeError(`Cannot seed random numbers with the state [${s}]`);
  }

  function uint32(): number {
    const result = Math.imul(rotate(Math.imul(s[1], 5), 7), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
  }

  function below(n: number): number {
    const limit = 2 ** 32 - (2 ** 32 % n); // numbers from here on would favour small results
    let x = uint32();
    while (x >= limit) x = uint32();
    return x % n;
  }

  return {
    uint32,
    below,
    uniform: () => uint32() / 2 ** 32,
    shuffle(array) {
      for (let i = array.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [array[i], array[j]] = [array[j], array[i]];
      }
      return array;
    },
  };
}
