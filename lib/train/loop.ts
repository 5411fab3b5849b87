// The training loop as an async iterator of step records. Losses stay on the device and are read a few
// steps at a time: a read-back waits about 11 ms in Deno, however small.

import { NumericsError } from "../errors.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { readAll } from "../tensor.ts";
import type { AdamW } from "./adamw.ts";
import type { Objective } from "./objective.ts";
import { type Clip, type StepMetrics, trainStep } from "./step.ts";

/** One step as it was. */
export interface StepRecord {
  /** Steps done, counted from 1. */
  number: number;
  learningRate: number;
  /** Losses before the update, and gradient norms before clipping as `<objective>/norm`. */
  metrics: Record<string, number>;
  /** Packed tokens of each objective. */
  tokens: Record<string, number>;
  /** Seconds since the loop began. */
  seconds: number;
}

/** What a loop runs. */
export interface LoopOptions {
  steps: number;
  /** The objectives of step `i`, counted from 0. */
  objectives: (step: number) => Objective[];
  /** Learning rate of step `i`, counted from 0. */
  learningRate: (step: number) => number;
  clip?: Clip;
  /** Aborted: the loop ends after the step in hand, with every record given out. */
  signal?: AbortSignal;
  /** Longest time between read-backs, in milliseconds. Default: 250. */
  readEveryMs?: number;
  /** Milliseconds since any fixed moment. Default: `performance.now`. */
  now?: () => number;
}

interface Pending {
  record: Omit<StepRecord, "metrics" | "seconds">;
  metrics: StepMetrics;
}

/**
 * Trains in place and gives a record per step.
 *
 * @throws {NumericsError} If a loss or gradient is not finite; the weights are those before that step
 */
export async function* trainLoop(
  model: UniMedVL,
  optimizer: AdamW,
  options: LoopOptions,
): AsyncGenerator<StepRecord> {
  const now = options.now ?? (() => performance.now());
  const start = now();
  let pending: Pending[] = [];
  let lastRead = start;
  for (let step = 0; step < options.steps; step++) {
    const stopped = options.signal?.aborted ?? false;
    if (stopped) break;
    const objectives = options.objectives(step);
    const learningRate = options.learningRate(step);
    const settings = options.clip ? { learningRate, clip: options.clip } : { learningRate };
    const metrics = trainStep(model, optimizer, objectives, settings);
    const tokens = Object.fromEntries(
      objectives.map(({ name, inputs }) => [name, inputs.packed.sequenceLength]),
    );
    pending.push({ record: { number: step + 1, learningRate, tokens }, metrics });
    if (now() - lastRead < (options.readEveryMs ?? 250)) continue;
    yield* await drain(pending, (now() - start) / 1000);
    pending = [];
    lastRead = now();
  }
  yield* await drain(pending, (now() - start) / 1000);
}

async function drain(pending: Pending[], seconds: number): Promise<StepRecord[]> {
  const tensors = pending.flatMap(({ metrics }) => [...metrics.values()]);
  const values = await readAll(tensors);
  for (const tensor of tensors) tensor.dispose();
  let next = 0;
  return pending.map(({ record, metrics }) => {
    const out: Record<string, number> = {};
    for (const name of metrics.keys()) {
      const value = values[next++][0];
      if (name.endsWith("norm2")) out[name.replace(/norm2$/, "norm")] = Math.sqrt(value);
      else out[name] = value;
      if (!Number.isFinite(value)) {
        throw new NumericsError(`Cannot go on: ${name} is ${value} at step ${record.number}`, {
          help: "lower the learning rate",
        });
      }
    }
    return { ...record, metrics: out, seconds };
  });
}
