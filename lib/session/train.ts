// A training from its settings to its last checkpoint, as an async iterator of steps: stages, windows of
// micro-batches, guards, looks at held-out data, checkpoints, the run record. Whoever leaves the loop, by `break` or
// by an aborted signal, leaves a checkpoint of the last step behind.

import type { Communicator } from "../comm/communicator.ts";
import type { Gpu } from "../gpu/device.ts";
import type { ResolvedConfig } from "../study/config.ts";
import type { Files } from "../train/checkpoint/files.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import type { Validation } from "./validate.ts";
import { Session } from "./session.ts";

/** How a training is run. */
export interface TrainOptions {
  /** Folder of the run, `…/<study>/<arm>/seed-<n>`. */
  run: string;
  /** Go on from the newest valid checkpoint; a new run is started if there is none. Default: false. */
  resume?: boolean;
  /** The step to resume from, instead of the newest. */
  step?: number;
  /** Resume though settings differ; the differences are recorded. Default: false. */
  allowConfigChange?: boolean;
  /** The other processes of a data-parallel training. Default: none. */
  comm?: Communicator;
  /** Aborted: the step in hand is finished and saved, then the loop ends. */
  signal?: AbortSignal;
  /** What the user should know. */
  onNote?: (text: string) => void;
  /** What is being done between steps: "compiling kernels", "saving step 100". */
  onStage?: (text: string) => void;
  /** Where checkpoints are written: the disk, or what a test puts in its place. */
  files?: Files;
  /** The command line, for the record. */
  argv?: readonly string[];
}

/** One step as it was. */
export interface TrainStep {
  /** Updates made, from 1. */
  number: number;
  /** Updates of the whole curriculum. */
  total: number;
  stage: string;
  /** Mean losses of the window, before the update; a loss that nothing in the window has is absent. */
  text?: number;
  flow?: number;
  /** L2 norm of the gradient before clipping. */
  norm: number;
  learningRate: number;
  /** Packed tokens of the window, over all processes. */
  tokens: number;
  /** Records that this process could not use since the first step: bad ones and those too long. */
  leftOut: number;
  /** Seconds since the session began. */
  seconds: number;
  /** Packed tokens per second of the session so far. */
  tokensPerSecond: number;
  /** Share of the session's time that was spent waiting for data. */
  waiting: number;
  /** True if the update was skipped because a number was not finite. */
  skipped: boolean;
  /** After this step, if it was due. */
  validation?: Validation;
  /** Folder of the checkpoint made after this step, relative to the run. */
  checkpoint?: string;
}

/**
 * Trains. The loop ends after the last step, or early when `signal` is aborted; both leave a checkpoint.
 *
 * @param gpu an open device, which stays open
 * @param settings resolved config: see `resolveTrainConfig`
 * @throws {UsageError} If the run exists and `resume` is not set, or settings differ
 * @throws {NumericsError} If a loss or gradient is not finite; the message names the saved batch
 * @throws {ResourceError} If memory, disk or the device give out
 * @throws {InputError} If data or a checkpoint cannot be read
 */
export async function* train(
  gpu: Gpu,
  settings: ResolvedConfig<TrainConfig>,
  options: TrainOptions,
): AsyncGenerator<TrainStep, void> {
  const session = await Session.open(gpu, settings, options);
  let failure: unknown;
  try {
    while (!session.done && !session.stopped) {
      try {
        yield* session.step();
      } catch (cause) {
        failure = cause;
        throw cause;
      }
    }
    yield* session.rest();
  } catch (cause) {
    failure ??= cause;
    throw cause;
  } finally {
    await session.close(failure);
  }
}

/** Trains to the end and gives the last step. */
export async function trainToEnd(
  gpu: Gpu,
  settings: ResolvedConfig<TrainConfig>,
  options: TrainOptions,
): Promise<TrainStep | undefined> {
  let last: TrainStep | undefined;
  for await (const step of train(gpu, settings, options)) last = step;
  return last;
}
