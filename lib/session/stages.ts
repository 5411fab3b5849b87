// Stages as spans of steps, and what begins with each: which parameters train, the decay of their average.

import { namePattern } from "../model/name_pattern.ts";
import { FROZEN } from "../model/weights.ts";
import type { Parameters } from "../nn/parameters.ts";
import { learningRateAt } from "../train/schedule.ts";
import type { StageConfig } from "../train/config/schema.ts";

/** A stage with its place among all steps. */
export interface StageSpan {
  index: number;
  stage: StageConfig;
  /** Steps before the stage, and after its last one. */
  from: number;
  to: number;
}

/** The spans of a curriculum, in order. */
export function spansOf(stages: readonly StageConfig[]): StageSpan[] {
  let from = 0;
  return stages.map((stage, index) => {
    const span = { index, stage, from, to: from + stage.steps };
    from = span.to;
    return span;
  });
}

/** The stage of the step that comes after `done` steps; the last one when all are done. */
export function stageAt(spans: readonly StageSpan[], done: number): StageSpan {
  return spans.find(({ to }) => done < to) ?? spans[spans.length - 1];
}

/** The learning rate of the step after `done` steps; a warm-up of w steps reaches the full rate with its w-th. */
export function rateAt({ stage, from }: StageSpan, done: number): number {
  const { learningRate, schedule: kind, warmup: warmupSteps, minLearningRate, steps } = stage;
  const at = done - from + 1; // a first step at rate 0 would be lost
  return learningRateAt(
    kind === "constant"
      ? { kind, learningRate, warmupSteps }
      : { kind, learningRate, warmupSteps, minLearningRate, totalSteps: steps },
    at,
  );
}

/** Whether a stage trains a parameter. */
export function trainsIn(stage: StageConfig): (name: string) => boolean {
  const frozen = stage.freeze.map(namePattern);
  return (name) => !FROZEN.has(name) && !frozen.some((matches) => matches(name));
}

/**
 * Marks the parameters that a stage trains, of those that may train at all.
 *
 * @param may parameters that are trainable in some stage
 */
export function enterStage(parameters: Parameters, stage: StageConfig, may: Set<string>): void {
  const trains = trainsIn(stage);
  for (const [name, tensor] of parameters.entries()) {
    tensor.requiresGrad = may.has(name) && trains(name);
  }
}
