// Standard normal noise by key: the same key gives the same noise, whatever else was drawn.

import { Draws } from "./draws.ts";

/**
 * n standard normals (Box and Muller 1958, both of each pair used).
 *
 * @param key what the noise is for: whole numbers ≥ 0 and words
 */
export function normalNoise(n: number, ...key: (number | string)[]): Float32Array {
  const draws = new Draws("noise", ...key);
  const out = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - draws.uniform()));
    const angle = 2 * Math.PI * draws.uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < n) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}
