// The standard normal numbers that torch draws on a CPU for a seed, so that a seeded picture can be compared with one
// made by the reference: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) and two readings of
// Box and Muller 1958, one for fewer than sixteen numbers and one for more.

import { InputError } from "../errors.ts";

const WORDS = 624;
const TWO_PI = Math.fround(2 * Math.PI);
const { fround } = Math;

/**
 * n standard normals as `torch.manual_seed(seed); torch.randn(n)` gives them on a CPU in float32.
 *
 * @param n how many, whole and ≥ 0; the numbers of a tensor are in row-major order
 * @param seed whole, from 0 to 2⁵³ - 1; its low 32 bits count
 * @returns (n) numbers; fewer than 16 are torch's to the last bit, more are within 5e-7 where torch has AVX2 and
 * within 2e-6 where it has not and rounds the angle once less
 * @throws {InputError} If n or the seed is out of range
 */
export function torchNoise(n: number, seed: number): Float32Array {
  return new TorchGenerator(seed).randn(n);
}

/** A torch CPU generator: draws that follow each other continue one sequence, as after one `manual_seed`. */
export class TorchGenerator {
  readonly #state = new Uint32Array(WORDS);
  #used = WORDS;
  /** The second number of a pair that was drawn alone. */
  #spare: number | undefined;

  /**
   * @param seed whole, from 0 to 2⁵³ - 1; its low 32 bits count
   * @throws {InputError} If it is not
   */
  constructor(seed: number) {
    checkWhole("seed", seed);
    const state = this.#state;
    state[0] = seed % 2 ** 32;
    for (let i = 1; i < WORDS; i++) {
      const last = state[i - 1];
      state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
    }
  }

  /**
   * The next n standard normals. Fewer than 16 are drawn in pairs, in double precision; 16 or more in blocks of 16, in
   * single precision, and where 16 does not divide n, the last 16 are drawn anew. The two kinds share the bits only.
   *
   * @throws {InputError} If n is not whole and ≥ 0
   */
  randn(n: number): Float32Array {
    checkWhole("count", n);
    const out = new Float32Array(n);
    if (n < 16) {
      for (let i = 0; i < n; i++) out[i] = this.#normal();
      return out;
    }
    for (let i = 0; i < n; i++) out[i] = this.#uniform24();
    for (let from = 0; from + 16 <= n; from += 16) normalBlock(out.subarray(from, from + 16));
    if (n % 16 > 0) {
      const last = out.subarray(n - 16);
      for (let i = 0; i < 16; i++) last[i] = this.#uniform24();
      normalBlock(last);
    }
    return out;
  }

  /** One number of a pair in double precision; the other waits for the next call. */
  #normal(): number {
    if (this.#spare !== undefined) {
      const spare = this.#spare;
      this.#spare = undefined;
      return spare;
    }
    const angle = 2 * Math.PI * this.#uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Uniform in [0, 1): the low 24 bits of one word. */
  #uniform24(): number {
    return (this.#bits() & 0xffffff) / 2 ** 24;
  }

  /** Uniform in [0, 1): the low 53 bits of two words, the first above the second. */
  #uniform53(): number {
    const high = this.#bits() & 0x1fffff;
    return (high * 2 ** 32 + this.#bits()) / 2 ** 53;
  }

  /** The next 32 bits, as a whole number in [0, 2³²). */
  #bits(): number {
    if (this.#used === WORDS) this.#twist();
    let y = this.#state[this.#used++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < WORDS; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
      state[i] = state[(i + 397) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#used = 0;
  }
}

/** Sixteen uniforms in place to sixteen normals; number j and number j + 8 are a pair. Rounded as f32 arithmetic is. */
function normalBlock(block: Float32Array): void {
  for (let j = 0; j < 8; j++) {
    const radius = fround(Math.sqrt(-2 * fround(Math.log(1 - block[j]))));
    const angle = fround(TWO_PI * block[j + 8]);
    block[j] = radius * fround(Math.cos(angle));
    block[j + 8] = radius * fround(Math.sin(angle));
  }
}

function checkWhole(what: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new InputError(`Cannot draw torch noise: ${what} ${value} is not whole and ≥ 0`, {
    help: "Seeds and counts are whole numbers from 0 to 2⁵³ - 1",
  });
}
