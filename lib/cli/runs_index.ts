// `deno task runs index`: the index made anew from the run folders.

import type { Subcommand } from "./runs.ts";
import { clean, indexOf, ROOT_FLAG, RUNS_EXITS } from "./runs_common.ts";

/** `runs index`. */
export const indexRuns: Subcommand<typeof ROOT_FLAG> = {
  spec: {
    name: "runs index",
    purpose:
      "Reads every run folder again into index.sqlite, a cache that may be deleted at any time.",
    usage: "[flags]",
    flags: ROOT_FLAG,
    examples: [
      ["deno task runs index", "after folders were moved by hand"],
      ["deno task runs index --root results/demo/runs", "of another folder"],
    ],
    exitCodes: RUNS_EXITS,
  },
  main: ({ flags, print, emit, note }) => {
    using index = indexOf(flags.root, note, true);
    const { runs, damaged } = index.changes;
    emit({ event: "index", path: index.path, runs, damaged });
    print(`${runs} runs in ${index.path}${damaged > 0 ? `, ${damaged} of them damaged` : ""}`);
    const bad = index.db.prepare(
      "SELECT name, error FROM run WHERE error IS NOT NULL ORDER BY name",
    );
    for (const { name, error } of bad.all()) note(`${name}: ${clean(String(error))}`);
  },
};
