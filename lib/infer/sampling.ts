// Choosing the next token from its logits.

import { Draws } from "../data/draws.ts";
import { UsageError } from "../errors.ts";

/** How tokens are chosen. */
export interface SamplingOptions {
  /** Logits are divided by it; 0 takes the most likely token (the reference divides by 0). Default: 0. */
  temperature?: number;
  /** Only the k most likely tokens; 0 for all. Default: 0. */
  topK?: number;
  /** Only the fewest tokens that together have this probability. Default: 1. */
  topP?: number;
  /** Key of the draws. Default: 0. */
  seed?: number;
}

/** @throws {UsageError} Naming the option that makes no sense */
export function checkSampling({ temperature = 0, topK = 0, topP = 1 }: SamplingOptions): void {
  const refuse = (option: string, value: number, help: string): never => {
    throw new UsageError(`Cannot sample with ${option} ${value}`, { help });
  };
  if (!(temperature >= 0 && Number.isFinite(temperature))) {
    refuse("temperature", temperature, "0 takes the most likely token, 1 the model's own odds");
  }
  if (!(Number.isInteger(topK) && topK >= 0)) refuse("topK", topK, "a whole number, 0 for all");
  if (!(topP > 0 && topP <= 1)) refuse("topP", topP, "above 0, at most 1");
}

/** Index of the largest of the first `count` values, the first of equal ones. */
export function argmax(logits: Float32Array, count = logits.length): number {
  let best = 0;
  for (let id = 1; id < count; id++) if (logits[id] > logits[best]) best = id;
  return best;
}

/**
 * The next token: `softmax(logits / T)` over the first `count` ids, cut to the `topK` most likely, then to the
 * fewest that hold `topP` of the rest (Holtzman et al. 2020), one of them drawn.
 *
 * @param step position in the answer: with the seed and `sequence` it decides the draw
 */
export function chooseToken(
  logits: Float32Array,
  count: number,
  options: SamplingOptions,
  step: number,
  sequence = 0,
): number {
  const { temperature = 0, topK = 0, topP = 1, seed = 0 } = options;
  if (temperature === 0 || topK === 1) return argmax(logits, count);
  const most = logits[argmax(logits, count)];
  const weights = new Float64Array(count);
  for (let id = 0; id < count; id++) weights[id] = Math.exp((logits[id] - most) / temperature);
  let ids: ArrayLike<number> = weights; // only its length is used while every id is in order
  let kept = count;
  const cut = topK > 0 && topK < count || topP < 1;
  if (cut) {
    const order = Int32Array.from({ length: count }, (_, id) => id)
      .sort((a, b) => weights[b] - weights[a] || a - b);
    if (topK > 0) kept = Math.min(kept, topK);
    if (topP < 1) {
      let total = 0;
      for (let i = 0; i < kept; i++) total += weights[order[i]];
      let [sum, i] = [0, 0];
      while (i < kept && sum < topP * total) sum += weights[order[i++]];
      kept = i;
    }
    ids = order;
  }
  const idAt = (i: number) => cut ? ids[i] : i;
  let total = 0;
  for (let i = 0; i < kept; i++) total += weights[idAt(i)];
  let left = new Draws("token", seed, sequence, step).uniform() * total;
  for (let i = 0; i < kept; i++) {
    left -= weights[idAt(i)];
    if (left < 0) return idAt(i);
  }
  return idAt(kept - 1); // rounding of the sums
}
