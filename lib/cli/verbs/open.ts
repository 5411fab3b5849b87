// Opening a model for a verb: device within a budget, folder, notes on both; and closing them, whatever happens.

import { UsageError } from "../../errors.ts";
import type { Gpu } from "../../gpu/device.ts";
import { type OpenModel, openModel } from "../../infer/open_model.ts";
import { compact } from "../../show/progress.ts";
import { profiled, traceBeside, traceFile } from "../profile_flag.ts";
import { openWithin } from "./budget.ts";
import type { Display } from "./display.ts";
import type { ModelFlagValues } from "./flag_groups.ts";
import type { Desk } from "./world.ts";

/** The folder of --model. @throws {UsageError} If it was not given */
export function modelOf(context: { flags: ModelFlagValues }, verb: string, example: string) {
  if (context.flags.model !== undefined) return context.flags.model;
  throw new UsageError(`Cannot ${verb} without a model: --model DIR is missing`, {
    help: `give the model folder, as in: ${example}`,
  });
}

/** Opens the model, works with it, closes it; with --profile tells where the time went. */
export async function withModel<T>(
  context: Desk & { flags: ModelFlagValues & { out?: string | undefined } },
  dir: string,
  display: Display,
  work: (open: OpenModel) => Promise<T>,
): Promise<T> {
  const { world, flags } = context;
  const { adapter, budget, lora } = flags;
  const trace = await traceFile(flags, traceBeside(flags.out));
  const gpu = await openWithin(world, { adapter, budget, profile: trace !== undefined });
  try {
    return await profiled(context, gpu, trace, () => workWith(gpu, [dir, lora], display, work));
  } finally {
    world.closeGpu(gpu);
  }
}

async function workWith<T>(
  gpu: Gpu,
  [dir, lora]: [dir: string, lora: string | undefined],
  display: Display,
  work: (open: OpenModel) => Promise<T>,
): Promise<T> {
  const { name, software } = gpu.adapter;
  const { budgetBytes } = gpu.buffers;
  const budget = budgetBytes < 1e9
    ? `${compact(budgetBytes / 1e6)} MB`
    : `${compact(budgetBytes / 1e9)} GB`;
  display.note(`adapter ${name}${software ? " (software)" : ""}, budget ${budget}`);
  const open = await openModel(gpu, dir, lora === undefined ? {} : { lora });
  try {
    for (const note of open.notes) display.note(note);
    return await work(open);
  } finally {
    display.done();
    open.dispose();
  }
}
