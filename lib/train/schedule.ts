// Learning rates over the course of a run, with a linear warm-up from 0: functions of the number of
// updates already made, so the first update of a warm-up has rate 0.

import { UsageError } from "../errors.ts";

/** A learning-rate schedule. */
export interface Schedule {
  /** How the rate goes on after the warm-up. */
  kind: "constant" | "cosine" | "linear";
  /** The rate after the warm-up. */
  learningRate: number;
  /** Updates during which the rate rises from 0. Default: 0. */
  warmupSteps?: number;
  /** `cosine` and `linear`: the update at which the lowest rate is reached. */
  totalSteps?: number;
  /** `cosine` and `linear`: the lowest rate. Default: 0. */
  minLearningRate?: number;
}

/**
 * The learning rate of update `step`, counted from 0. With k = step, w the warm-up and
 * p = (k - w) / (total - w):
 * - warm-up: `lr k / w`
 * - `constant`: `lr`
 * - `cosine`: `min + (lr - min) ½ (1 + cos πp)`; climbs again when a run goes on past `totalSteps`
 * - `linear`: `min + (lr - min) (1 - p)`; stays at `min` past `totalSteps`
 *
 * @throws {UsageError} If the schedule lacks `totalSteps`, or ends before its warm-up does
 */
export function learningRateAt(schedule: Schedule, step: number): number {
  const { kind, learningRate, warmupSteps = 0, totalSteps, minLearningRate = 0 } = schedule;
  if (kind !== "constant" && !(totalSteps !== undefined && totalSteps > warmupSteps)) {
    throw new UsageError(
      `Cannot plan a ${kind} schedule: ${
        totalSteps ?? "no"
      } total steps, ${warmupSteps} of warm-up`,
      { help: "give more total steps than warm-up steps" },
    );
  }
  if (step < warmupSteps) return learningRate * step / warmupSteps;
  if (kind === "constant") return learningRate;
  const progress = (step - warmupSteps) / (totalSteps! - warmupSteps);
  const share = kind === "cosine"
    ? (1 + Math.cos(Math.PI * progress)) / 2
    : Math.max(0, 1 - progress);
  return minLearningRate + (learningRate - minLearningRate) * share;
}
