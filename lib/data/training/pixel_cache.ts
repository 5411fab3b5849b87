// Pixels that were decoded and resized before: where a data set is small, or asks much about one image, a file is
// read once and not for every record. Bounded by bytes; what was used longest ago goes first.

import type { Pixels } from "../transforms.ts";

/** Pixels by name. */
export class PixelCache {
  readonly #kept = new Map<string, Pixels>(); // in order of use
  #bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** A copy of what is kept: whoever takes it may give it away. */
  get(key: string): Pixels | undefined {
    const pixels = this.#kept.get(key);
    if (!pixels) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, pixels);
    return copyOf(pixels);
  }

  /** Keeps a copy. */
  set(key: string, pixels: Pixels): void {
    const { byteLength } = pixels.data;
    if (byteLength > this.maxBytes || this.#kept.has(key)) return;
    this.#kept.set(key, copyOf(pixels));
    this.#bytes += byteLength;
    for (const [oldest, { data }] of this.#kept) {
      if (this.#bytes <= this.maxBytes) return;
      this.#kept.delete(oldest);
      this.#bytes -= data.byteLength;
    }
  }
}

function copyOf(pixels: Pixels): Pixels {
  return { ...pixels, data: pixels.data.slice() };
}
