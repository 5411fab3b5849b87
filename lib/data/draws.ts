// Random numbers without state outside their key: draw n of a key is a hash of (key, n), so an item
// is the same whoever asks for it, in whatever order.

import { InputError } from "../errors.ts";

/** Scrambles 32 bits so that each input bit moves about half of the output bits. */
function scramble(x: number): number {
  x ^= x >>> 16;
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x846ca68b);
  return x ^ (x >>> 16);
}

/** A stream of draws; the n-th depends on the key and n alone. */
export class Draws {
  readonly #low: number;
  readonly #high: number;
  #count = 0;

  /**
   * @param key what the stream is for: whole numbers ≥ 0 and words, in order
   * @throws {InputError} If a number in the key is negative or not whole
   */
  constructor(...key: (number | string)[]) {
    let low = 0x9e3779b9, high = 0x243f6a88;
    const absorb = (word: number) => {
      low = scramble(low ^ word);
      high = scramble((high + low) ^ Math.imul(word, 0x85ebca6b));
    };
    for (const part of key) {
      if (typeof part === "string") {
        for (let i = 0; i < part.length; i++) absorb(part.charCodeAt(i));
        absorb(0x10000 + part.length);
      } else {
        if (!Number.isSafeInteger(part) || part < 0) {
          throw new InputError(
            `Cannot draw random numbers: key part ${part} is not whole and ≥ 0`,
            {
              help: "Seeds and indices are whole numbers from 0 up",
            },
          );
        }
        absorb(part >>> 0);
        absorb(0x20000 + Math.floor(part / 2 ** 32));
      }
    }
    this.#low = low;
    this.#high = high;
  }

  /** 32 uniform bits, as a whole number in [0, 2³²). */
  bits(): number {
    const n = this.#count++;
    return scramble(scramble((n + this.#low) | 0) ^ this.#high) >>> 0;
  }

  /** Uniform in [from, to). */
  uniform(from = 0, to = 1): number {
    return from + (to - from) * (this.bits() / 2 ** 32);
  }

  /** Uniform whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** One of the choices, each equally likely. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  /** A position in `weights`, with probability in proportion to its weight. */
  weighted(weights: readonly number[]): number {
    let left = this.uniform() * weights.reduce((sum, w) => sum + w, 0);
    for (let i = 0; i < weights.length - 1; i++) {
      left -= weights[i];
      if (left < 0) return i;
    }
    return weights.length - 1;
  }

  /** Mean 0, deviation 1, bell-shaped, within ±3.46: the sum of four bytes. One draw, for pixels. */
  grain(): number {
    const b = this.bits();
    const sum = (b & 255) + ((b >>> 8) & 255) + ((b >>> 16) & 255) + (b >>> 24);
    return (sum - 510) * (1 / 147.8016); // sd of a byte: √((256² - 1) / 12); of four: twice that
  }

  /** A standard normal number (Box and Muller 1958). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** The numbers 0 … n-1 in random order (Fisher and Yates). */
  order(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  /** A random order of 0 … n-1 in which no number keeps its place, for n ≥ 2 (Sattolo 1986). */
  derangement(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

/** Slot → one of n items: endless passes, each in its own order; passes share nothing but the key. */
export function endlessOrder(n: number, ...key: (number | string)[]): (slot: number) => number {
  let known = -1;
  let order: Uint32Array = new Uint32Array(0);
  return (slot) => {
    const pass = Math.floor(slot / n);
    if (pass !== known) [known, order] = [pass, new Draws("order", ...key, pass).order(n)];
    return order[slot % n];
  };
}
