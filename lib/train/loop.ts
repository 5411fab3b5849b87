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
  const seconds = () => (now() - start) / 1000;
  const pending: Pending[] = [];
  let lastRead = start;
  try {
    for (let step = 0; step < options.steps; step++) {
      const stopped = options.signal?.aborted ?? false;
      if (stopped) break;
      const objectives = options.objectives(step);
      const learningRate = options.learningRate(step);
      const after = pending.at(-1)?.metrics.get("finite");
      const metrics = trainStep(model, optimizer, objectives, {
        learningRate,
        ...(options.clip ? { clip: options.clip } : {}),
        ...(after ? { after } : {}),
      });
      const tokens = Object.fromEntries(
        objectives.map(({ name, inputs }) => [name, inputs.packed.sequenceLength]),
      );
      pending.push({ record: { number: step + 1, learningRate, tokens }, metrics });
      if (now() - lastRead < (options.readEveryMs ?? 250)) continue;
      yield* drain(pending, seconds);
      lastRead = now();
    }
    yield* drain(pending, seconds);
  } finally {
    release(pending);
  }
}

/** Reads what is pending; gives out every step up to one that was not finite. */
async function* drain(
  pending: Pending[],
  seconds: () => number,
): AsyncGenerator<StepRecord> {
  const values = await readAll(pending.flatMap(({ metrics }) => [...metrics.values()]));
  const steps = pending.map(({ record, metrics }) => ({ record, names: [...metrics.keys()] }));
  release(pending);
  let next = 0;
  for (const { record, names } of steps) {
    const metrics: Record<string, number> = {};
    for (const name of names) {
      const value = values[next++][0];
      if (!Number.isFinite(value)) throw notFinite(name, value, record.number);
      if (name.endsWith("norm2")) metrics[name.replace(/norm2$/, "norm")] = Math.sqrt(value);
      else if (name !== "finite") metrics[name] = value;
    }
    yield { ...record, metrics, seconds: seconds() };
  }
}

function notFinite(name: string, value: number, step: number): NumericsError {
  const shown = name.replace(/norm2$/, "norm");
  const what = name === "finite" ? "a loss is too large" : `${shown} is ${value}`;
  return new NumericsError(`Cannot go on: ${what} at step ${step}`, {
    help: "lower the learning rate",
  });
}

function release(pending: Pending[]): void {
  for (const { metrics } of pending) {
    for (const tensor of metrics.values()) tensor.dispose();
  }
  pending.length = 0;
}
