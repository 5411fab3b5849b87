// `deno task runs [list]`: one line per run.

import { compact, duration } from "../show/progress.ts";
import { type IndexedRun, indexedRuns } from "../study/indexed_runs.ts";
import { lossNames } from "../study/run_metrics.ts";
import type { Flags } from "./flags.ts";
import type { Subcommand } from "./runs.ts";
import {
  clean,
  columnsText,
  indexOf,
  ROOT_FLAG,
  RUNS_EXITS,
  told,
  valuesText,
} from "./runs_common.ts";

const STATES = ["running", "finished", "interrupted", "failed", "damaged"] as const;

const FLAGS = {
  ...ROOT_FLAG,
  only: { type: "string", unit: "TEXT", help: "runs with this in their name" },
  state: { type: "list", choices: STATES, default: STATES, help: "runs that stand like this" },
} as const satisfies Flags;

/** `runs list`. */
export const listRuns: Subcommand<typeof FLAGS> = {
  spec: {
    name: "runs list",
    purpose:
      "Lists runs, oldest first: how far each got, its last losses, how it ended and where it ran.",
    usage: "[flags]",
    flags: FLAGS,
    examples: [
      ["deno task runs", "all runs in ./runs"],
      ["deno task runs list --state running,failed --json", "some of them, for programs"],
    ],
    exitCodes: RUNS_EXITS,
  },
  main: ({ flags, print, emit, note }) => {
    using index = indexOf(flags.root, note);
    const all = indexedRuns(index, flags.root);
    const runs = all.filter(({ name, state }) =>
      name.includes(flags.only ?? "") && flags.state.includes(state)
    );
    for (const { metrics, ...run } of runs) {
      const values = Object.entries(metrics).map(([name, value]) => [name, told(value)]);
      emit({ event: "run", ...run, metrics: Object.fromEntries(values) });
    }
    if (runs.length === 0) {
      note(
        all.length === 0 ? `no runs in ${flags.root}` : `none of ${all.length} runs is like that`,
      );
      return;
    }
    const head = ["run", "state", "steps", "losses", "time", "adapter", "commit"];
    print(columnsText([head, ...runs.map(rowOf)]));
    for (const { name, error } of runs) if (error !== null) note(`${name}: ${clean(error)}`);
  },
};

function rowOf(run: IndexedRun): string[] {
  if (run.state === "damaged") return [run.name, run.state, "", "", "", "", ""];
  const losses = lossNames(Object.keys(run.metrics));
  return [
    run.name,
    run.state,
    run.steps === null ? String(run.step) : `${run.step}/${run.steps}`,
    losses.length > 0
      ? valuesText(run.metrics, losses.slice(0, 3))
      : Object.entries(run.metrics).slice(0, 1).map(([k, v]) => `${k} ${compact(v)}`).join(),
    duration(1000 * run.seconds),
    clean((run.adapter ?? "").replace(/ \(.*$/, "")),
    (run.commit ?? "").slice(0, 7),
  ];
}
