// The rows of the index as plain records, with the state each run is in now: whether a run is being written is asked
// of its lock, never kept.

import type { RunIndex } from "./run_index.ts";
import { isLocked, NOT_FINITE, type RunState, runState } from "./run_summary.ts";

/** One run as the index knows it. */
export interface IndexedRun {
  /** Its folder, relative to the root. */
  name: string;
  state: RunState;
  /** Why it cannot be read; null if it can. */
  error: string | null;
  sessions: number;
  started: string | null;
  step: number;
  steps: number | null;
  seconds: number;
  adapter: string | null;
  software: boolean | null;
  commit: string | null;
  /** Last value of each metric. */
  metrics: Record<string, number>;
}

/** The runs of an index, oldest first, damaged ones last. */
export function indexedRuns({ db }: RunIndex, root: string): IndexedRun[] {
  const metrics = db.prepare("SELECT name, value, flag FROM metric WHERE run = ? ORDER BY name");
  return db.prepare("SELECT * FROM run ORDER BY started IS NULL, started, name").all().map(
    (row) => {
      const name = String(row.name);
      const error = row.error === null ? null : String(row.error);
      const ended = row.ended === null ? null : String(row.ended);
      const exitCode = row.exit_code === null ? null : Number(row.exit_code);
      return {
        name,
        state: error !== null
          ? "damaged"
          : runState({ ended, exitCode }, ended === null && isLocked(`${root}/${name}`)),
        error,
        sessions: Number(row.sessions),
        started: row.started === null ? null : String(row.started),
        step: Number(row.step),
        steps: row.steps === null ? null : Number(row.steps),
        seconds: Number(row.seconds),
        adapter: row.adapter === null ? null : String(row.adapter),
        software: row.software === null ? null : row.software === 1,
        commit: row.commit_hash === null ? null : String(row.commit_hash),
        metrics: Object.fromEntries(
          metrics.all(name).map((m) => [
            String(m.name),
            m.flag === null ? Number(m.value) : NOT_FINITE[String(m.flag)],
          ]),
        ),
      };
    },
  );
}
