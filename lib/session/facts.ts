// What data sources hold, without reading their records.

import { TASKS } from "../data/training/record.ts";
import type { SourceConfig } from "../train/config/schema.ts";
import { closeSources, openSources } from "./data.ts";

/** A source in numbers. */
export interface SourceFacts {
  name: string;
  path: string;
  format: string;
  /** Records by task; tasks without any are absent. */
  records: Record<string, number>;
}

/**
 * Opens sources and counts their records by task.
 *
 * @throws {InputError} If one cannot be opened
 */
export async function dataFacts(configs: readonly SourceConfig[]): Promise<SourceFacts[]> {
  const sources = await openSources(configs);
  try {
    return sources.map(({ source: { name, path, format, tasks } }) => {
      const records: Record<string, number> = {};
      for (const task of tasks) records[TASKS[task]] = (records[TASKS[task]] ?? 0) + 1;
      return { name, path, format, records };
    });
  } finally {
    closeSources(sources);
  }
}
