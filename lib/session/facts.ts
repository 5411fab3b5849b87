// What the data of a training holds, and what of it will be used.

import type { Task } from "../data/training/record.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { closeSources, openSources, recordsOf } from "./data.ts";
import { type CheckParts, checkSources, leaveOut } from "./data_check.ts";

/** A source in numbers. */
export interface SourceFacts {
  name: string;
  path: string;
  format: string;
  /** Records by task; tasks without any are absent. */
  records: Partial<Record<Task, number>>;
}

/**
 * Opens sources, checks them as a training does and counts what is left, by task.
 *
 * @returns `records`: of all training sources together
 * @throws {InputError} If one cannot be opened, or too many of its records are bad
 */
export async function dataFacts(
  data: TrainConfig["data"],
  parts: Omit<CheckParts, "run" | "comm"> = {},
): Promise<{
  sources: SourceFacts[];
  heldOut: SourceFacts[];
  records: Partial<Record<Task, number>>;
}> {
  const all = await openSources(data.sources);
  const held = await openSources(data.validation).catch((cause) => {
    closeSources(all);
    throw cause;
  });
  try {
    const check = await checkSources(data, all, held, parts);
    const own = leaveOut(all, check?.bad);
    const facts = (opened: typeof own) =>
      opened.map(({ source }) => {
        const { name, path, format } = source;
        return { name, path, format, records: recordsOf([{ source }]) };
      });
    return {
      sources: facts(own),
      heldOut: facts(leaveOut(held, check?.badHeldOut)),
      records: recordsOf(own),
    };
  } finally {
    closeSources([...all, ...held]);
  }
}
