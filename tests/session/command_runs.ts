// Trainings as the command runs them, but in this process and on devices that a test opens: some are lost under it.

import { trainRun } from "../../lib/cli/train_run.ts";
import type { TrainFlags } from "../../lib/cli/train_flags.ts";
import { SOLO } from "../../lib/comm/communicator.ts";
import { type Gpu, type GpuOptions, openDevice } from "../../lib/gpu/device.ts";
import type { ResolvedTrainConfig } from "../../lib/train/config/resolve.ts";

/** Says whether the device goes at a submit; asked at each, which is counted from 1. */
export type Loss = (submit: number) => boolean;

/** What a training by the command said, and how it ended. */
export interface CommandRun {
  /** Numbers of the steps it told, in order. */
  steps: number[];
  /** What it threw, if it did. */
  error?: unknown;
  /** Submits on each device it opened. */
  submits: number[];
}

/** Opens a device that is destroyed just before the submit that `loss` names. */
export async function openLosing(
  loss: Loss,
  options: GpuOptions = {},
  onSubmit: () => void = () => {},
): Promise<Gpu> {
  const gpu = await openDevice({ ...options, tuned: false });
  const { queue } = gpu.device;
  const submit = queue.submit.bind(queue);
  let count = 0;
  queue.submit = (commands) => {
    onSubmit();
    if (loss(++count)) gpu.device.destroy();
    submit(commands);
  };
  return gpu;
}

/**
 * Trains through the command's path, quietly.
 *
 * @param losses of the devices, in the order in which they are opened; later ones stay
 */
export async function trainByCommand(
  settings: ResolvedTrainConfig,
  run: string,
  losses: readonly Loss[] = [],
  flags: Partial<TrainFlags> = {},
): Promise<CommandRun> {
  const result: CommandRun = { steps: [], submits: [] };
  const all = {
    resume: false,
    allowConfigChange: false,
    adapter: "any",
    budget: 2 ** 31,
    ...flags,
  };
  const plan = { settings, run, flags: all as TrainFlags, findings: [] };
  const context = {
    flags: { ...all, quiet: true } as Parameters<typeof trainRun>[2]["flags"],
    given: new Set<string>(),
    args: [],
    signal: new AbortController().signal,
    print: () => {},
    emit: ({ event, number }: { event: string; number?: unknown }) => {
      if (event === "step") result.steps.push(number as number);
    },
    note: () => {},
    warn: () => {},
    terminal: false,
  };
  try {
    await trainRun(plan, SOLO, context, (options) => {
      const device = result.submits.push(0) - 1;
      return openLosing(losses[device] ?? (() => false), options, () => result.submits[device]++);
    });
  } catch (error) {
    result.error = error;
  }
  return result;
}
