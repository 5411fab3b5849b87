// Planted features for the tests of this room.

import assert from "node:assert/strict";
import { type Random, seededRandom } from "../../lib/study/random.ts";

/** Fails unless |actual − expected| ≤ tolerance, and says by how much. */
export function near(actual: number, expected: number, tolerance: number, what = "value"): void {
  const error = Math.abs(actual - expected);
  assert.ok(error <= tolerance, `${what}: ${actual}, expected ${expected}, off by ${error}`);
}

/** One standard normal number (Box–Muller). */
export function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

/** (rows, columns) standard normal features. */
export function noise(rows: number, columns: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: rows * columns }, () => gaussian(random));
}
