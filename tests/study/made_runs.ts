// Small runs for tests of what reads run folders.

import { type Json, resolveConfig } from "../../lib/study/config.ts";
import { runFolder } from "../../lib/study/run_folder.ts";
import { openRun, type Run } from "../../lib/study/runs.ts";

/** A run to make. */
export interface MadeRun {
  study?: string;
  arm?: string;
  seed?: number;
  /** Beyond `steps` and `rate`. */
  config?: { [key: string]: Json };
  /** Steps that are logged. Default 4. */
  logged?: number;
  /** Metrics at a step. */
  metrics?: (step: number) => Record<string, number>;
  adapter?: string;
  /** How its session ends; null: it does not, and the run is given back open. Default: exit 0. */
  end?: { exitCode: number; reason: string } | null;
  /** Called before the session ends. */
  also?: (run: Run) => void;
}

/** The stages of the made runs that have some. */
export const STAGES = [
  { name: "foundation", steps: 4, learningRate: 1e-3 },
  { name: "unified", steps: 2, learningRate: 1e-4 },
];

/** Calls `test` with an empty folder for runs, and removes it. */
export async function withRuns(test: (root: string) => unknown): Promise<void> {
  const root = Deno.makeTempDirSync();
  try {
    Deno.mkdirSync(`${root}/sources/lib`, { recursive: true });
    Deno.writeTextFileSync(`${root}/sources/lib/a.ts`, "1");
    Deno.mkdirSync(`${root}/runs`);
    await test(`${root}/runs`);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
}

/** Makes a run below `root`; it is still open if it has no end. */
export function makeRun(root: string, made: MadeRun = {}): Run {
  const { study = "made", arm = "joint", seed = 0, logged = 4, end = DONE } = made;
  const values: { [key: string]: Json } = { steps: 4, rate: 1e-3, ...made.config };
  const run = openRun(runFolder(root, study, arm, seed), resolveConfig(values, []), {
    root: `${root}/../sources`,
    session: { adapter: made.adapter ?? "made adapter (0.1)", software: true },
  });
  const metrics = made.metrics ??
    ((step: number) => ({ text: 2 / step, "text/norm": 1, flow: 1 / step }));
  for (let step = 1; step <= logged; step++) run.metrics(step, metrics(step));
  made.also?.(run);
  if (end !== null) run.close(end);
  else run.flush();
  return run;
}

const DONE = { exitCode: 0, reason: "finished" };
