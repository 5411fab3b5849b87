// Steps whose numbers are still on the device, and what is counted of a window over all processes.

import type { Communicator } from "../comm/communicator.ts";
import type { LoadedBatch, LoaderState } from "../data/training/loader.ts";
import { TASKS } from "../data/training/record.ts";
import { readAll } from "../tensor.ts";
import { lossTotals, type Objective } from "../train/objective.ts";
import type { StepMetrics } from "../train/step.ts";
import type { Drawn } from "./snapshot.ts";
import type { TrainStep } from "./train.ts";

/** A step whose numbers are still on the device. */
export interface Pending {
  step: Pick<TrainStep, "number" | "total" | "stage" | "learningRate" | "tokens" | "leftOut">;
  /** In this stage, with this step. */
  drawn: Drawn;
  metrics: StepMetrics;
  /** What the state was before it, should it turn out to have changed nothing. */
  before: { updates: Record<string, number>; loader: LoaderState; drawn: Drawn; tokens: number };
  objectives: Objective[];
  samples: string[];
}

/** A step's numbers by name, and what is wrong with them. */
export interface ReadStep {
  entry: Pending;
  read: Map<string, number>;
  /** What is not finite, in words. */
  fault?: string;
}

/** Reads the numbers of steps back and frees them. */
export async function readPending(pending: readonly Pending[]): Promise<ReadStep[]> {
  try {
    const values = await readAll(pending.flatMap(({ metrics }) => [...metrics.values()]));
    let next = 0;
    return pending.map((entry) => {
      const read = new Map([...entry.metrics.keys()].map((name) => [name, values[next++][0]]));
      const fault = faultOf(read);
      return { entry, read, ...(fault === undefined ? {} : { fault }) };
    });
  } finally {
    releasePending(pending);
  }
}

/** Frees the numbers of steps. */
export function releasePending(pending: readonly Pending[]): void {
  for (const { metrics } of pending) {
    for (const tensor of metrics.values()) tensor.dispose();
  }
}

/** What is not finite in a step's numbers, in words. */
function faultOf(read: Map<string, number>): string | undefined {
  for (const [name, shown] of [["text", "the text loss"], ["flow", "the flow loss"]] as const) {
    const value = read.get(name);
    if (value !== undefined && !Number.isFinite(value)) return `${shown} is ${value}`;
  }
  const norm2 = read.get("norm2")!;
  if (!Number.isFinite(norm2)) return `the gradient's norm is ${Math.sqrt(norm2)}`;
  return Number.isFinite(read.get("finite")!) ? undefined : "a loss is too large";
}

/** Denominators of the losses, tokens and draws of a window; whether any process was asked to stop. */
export interface WindowTotals {
  text: number;
  flow: number;
  tokens: number;
  /** With what was drawn before. */
  drawn: Drawn;
  stop: boolean;
}

/**
 * Adds a window up over all processes.
 *
 * @param own what was drawn before the window; whether this process was asked to stop
 */
export async function sumWindow(
  comm: Communicator,
  batches: readonly LoadedBatch[],
  reweightText: boolean,
  own: { drawn: Drawn; stop: boolean },
): Promise<WindowTotals> {
  const numbers = [0, 0, 0, ...TASKS.flatMap(() => [0, 0]), own.stop ? 1 : 0];
  for (const { packed, samples } of batches) {
    const { text, flow } = lossTotals(packed, reweightText);
    numbers[0] += text;
    numbers[1] += flow;
    numbers[2] += packed.sequenceLength;
    for (const { task, tokens } of samples) {
      const at = 3 + 2 * TASKS.indexOf(task);
      numbers[at] += 1;
      numbers[at + 1] += tokens;
    }
  }
  const [text, flow, tokens, ...byTask] = await comm.sumNumbers(numbers);
  const drawn = Object.fromEntries(TASKS.map((task, i) => [task, {
    samples: own.drawn[task].samples + byTask[2 * i],
    tokens: own.drawn[task].tokens + byTask[2 * i + 1],
  }])) as Drawn;
  return { text, flow, tokens, drawn, stop: byTask.at(-1)! > 0 };
}

/** Nothing drawn yet. */
export const noneDrawn = (): Drawn =>
  Object.fromEntries(TASKS.map((task) => [task, { samples: 0, tokens: 0 }])) as Drawn;
