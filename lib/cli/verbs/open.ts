// Opening a model for a verb: device within a budget, folder, notes on both; and closing them, whatever happens.

import { UsageError } from "../../errors.ts";
import { type OpenModel, openModel } from "../../infer/open_model.ts";
import { compact } from "../../show/progress.ts";
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

/** Opens the model, works with it, closes it. */
export async function withModel<T>(
  { world, flags }: Desk & { flags: ModelFlagValues },
  dir: string,
  display: Display,
  work: (open: OpenModel) => Promise<T>,
): Promise<T> {
  const gpu = await openWithin(world, flags);
  try {
    const { name, software } = gpu.adapter;
    const { budgetBytes } = gpu.buffers;
    const budget = budgetBytes < 1e9
      ? `${compact(budgetBytes / 1e6)} MB`
      : `${compact(budgetBytes / 1e9)} GB`;
    display.note(`adapter ${name}${software ? " (software)" : ""}, budget ${budget}`);
    const open = await openModel(gpu, dir);
    try {
      for (const note of open.notes) display.note(note);
      const result = await work(open);
      display.done();
      return result;
    } finally {
      display.done();
      open.dispose();
    }
  } finally {
    world.closeGpu(gpu);
  }
}
