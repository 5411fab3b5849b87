// What young generators do to a picture, done on purpose: blur, noise, flat blocks. The judge is fitted
// and tested on such copies. Images are (size, size, 3) in [-1, 1].

import type { Draws } from "../draws.ts";

/** Gaussian blur of the given deviation in pixels; borders repeat. */
export function blurred(image: Float32Array, sigma: number): Float32Array {
  const size = Math.sqrt(image.length / 3), reach = Math.ceil(3 * sigma);
  const weights = Float32Array.from({ length: 2 * reach + 1 }, (_, i) => {
    return Math.exp(-0.5 * ((i - reach) / sigma) ** 2);
  });
  const total = weights.reduce((a, b) => a + b, 0);
  const along = (from: Float32Array, stride: number, place: (i: number) => number) => {
    const to = new Float32Array(from.length);
    for (let i = 0; i < size * size; i++) {
      const at = place(i);
      for (let k = -reach; k <= reach; k++) {
        const step = Math.min(size - 1, Math.max(0, at + k)) - at;
        const w = weights[k + reach] / total, j = 3 * (i + stride * step);
        to[3 * i] += w * from[j];
        to[3 * i + 1] += w * from[j + 1];
        to[3 * i + 2] += w * from[j + 2];
      }
    }
    return to;
  };
  const rows = along(image, 1, (i) => i % size);
  return along(rows, size, (i) => Math.floor(i / size));
}

/** Adds Gaussian noise of the given deviation to every value; nothing is cut. */
export function noisy(image: Float32Array, sigma: number, draws: Draws): Float32Array {
  return image.map((x) => x + sigma * draws.normal());
}

/** Replaces each block × block square by its mean colour; block divides the size. */
export function blocky(image: Float32Array, block: number): Float32Array {
  const size = Math.sqrt(image.length / 3), n = size / block;
  const sums = new Float64Array(n * n * 3);
  const cellOf = (i: number) => {
    return 3 * (Math.floor(Math.floor(i / size) / block) * n + Math.floor(i % size / block));
  };
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) sums[cellOf(i) + c] += image[3 * i + c];
  }
  return Float32Array.from(image, (_, j) => {
    return sums[cellOf(Math.floor(j / 3)) + j % 3] / (block * block);
  });
}
