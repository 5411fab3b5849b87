// The validity gate: an effect of generation on understanding has a verdict only if generation was
// learned at all. Without it, the null of an untrained generator reads like evidence.

import type { Effect } from "./effect.ts";
import { type Interval, proportionDifference, wilsonInterval } from "./statistics.ts";

/** What {@linkcode gate} needs about the generation task on held-out prompts. */
export interface GateInput {
  /** Share of generated images that match their own prompt, in [0, 1]. */
  score: number;
  /** The same images matched against shuffled prompts. */
  shuffled: number;
  /** Share that would match by chance. */
  chance: number;
  /** Share that the lower bound must exceed; at least chance. */
  threshold: number;
  /** Held-out prompts, one image each. */
  n: number;
  /** The factor that was judged, as in "modality". */
  learnedWhat: string;
}

/** Whether generation was learned, and why. */
export interface Gate {
  learned: boolean;
  /** Wilson's 95 % interval of the score. */
  interval: Interval;
  /** Newcombe's 95 % interval of score − shuffled. */
  aboveShuffled: Interval;
  text: string;
}

/**
 * Validity gate: generation counts as learned only if the lower 95 % bound of the conditional match
 * exceeds the threshold, and the match beats shuffled prompts (lower 95 % bound of the difference above
 * 0, the two taken as independent, which is conservative for the same images).
 *
 * @throws {RangeError} If a share is outside [0, 1], n is not a positive integer, or threshold < chance
 */
export function gate(input: GateInput): Gate {
  const { score, shuffled, chance, threshold, n, learnedWhat } = input;
  for (const [name, share] of Object.entries({ score, shuffled, chance, threshold })) {
    if (!(share >= 0 && share <= 1)) {
      throw new RangeError(`Cannot judge generation of ${learnedWhat}: ${name} is ${share}`);
    }
  }
  if (!(Number.isInteger(n) && n > 0)) {
    throw new RangeError(`Cannot judge generation of ${learnedWhat} on ${n} prompts`);
  }
  if (threshold < chance) {
    throw new RangeError(
      `Cannot judge generation of ${learnedWhat}: threshold ${threshold} is below chance ${chance}`,
    );
  }
  const interval = wilsonInterval(score * n, n);
  const { low, high } = proportionDifference(score * n, n, shuffled * n, n);
  const failures: string[] = [];
  if (!(interval.low > threshold)) {
    failures.push(`lower bound not above the threshold ${percent(threshold)}`);
  }
  if (!(low > 0)) failures.push(`not above shuffled prompts (${percent(shuffled)})`);
  const learned = failures.length === 0;
  const numbers = `${learnedWhat} of generated images matches the prompt in ${percent(score)} ` +
    `[${percent(interval.low)}, ${percent(interval.high)}] of ${n} held-out prompts ` +
    `(chance ${percent(chance)}, shuffled prompts ${percent(shuffled)})`;
  return {
    learned,
    interval,
    aboveShuffled: { low, high },
    text: learned
      ? `generation learned: ${numbers}`
      : `generation not learned: ${numbers}; ${failures.join("; ")}`,
  };
}

/** The line a report prints for an effect of generation: no verdict unless the gate is passed. */
export function effectText(effect: Effect, judged: Gate): string {
  return judged.learned ? effect.verdict : "inconclusive: generation not learned";
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
