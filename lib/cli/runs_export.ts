// `deno task runs export`: a table of a run as CSV, for spreadsheets and other programs.

import { csvCell } from "../show/export.ts";
import { flattenDeep } from "../study/config_diff.ts";
import type { Json } from "../study/config.ts";
import { readRun, type RunRecord } from "../study/read_run.ts";
import type { Flags } from "./flags.ts";
import type { Subcommand } from "./runs.ts";
import { namedRun, ROOT_FLAG, RUNS_EXITS, told } from "./runs_common.ts";
import { writeResult } from "./write_result.ts";

type Value = string | number | boolean | null | undefined;

/** A table's head and rows. */
interface Table {
  columns: readonly string[];
  rows: Iterable<readonly Value[]>;
}

/** What can be exported. */
const TABLES = {
  metrics: metricsTable,
  settings: ({ header }) => ({
    columns: ["path", "value", "origin"],
    rows: Object.entries(flattenDeep(header.config))
      .map(([path, value]) => [path, plain(value), header.origins[path]]),
  }),
  sessions: ({ sessions }) =>
    records(sessions, [
      "id",
      "started",
      "ended",
      "exitCode",
      "reason",
      "fromStep",
      "commit",
      "sourcesSha256",
      "adapter",
      "software",
    ]),
  events: ({ events }) => ({
    columns: ["session", "step", "ms", "kind", "detail"],
    rows: events.map((e) => [e.session, e.step, e.ms, e.kind, JSON.stringify(e.detail)]),
  }),
  checkpoints: ({ checkpoints }) =>
    records(checkpoints, ["step", "session", "path", "bytes", "sha256", "deleted"]),
  evaluations: ({ evaluations }) => records(evaluations, EVALUATION),
  items: ({ evaluations }) => ({
    columns: [
      "step",
      "benchmark",
      "split",
      "weights",
      "item",
      "answer",
      "target",
      "score",
      "error",
    ],
    rows: evaluations.flatMap(({ step, benchmark, split, weights, items }) =>
      items.map((
        i,
      ) => [step, benchmark, split, weights, i.item, i.answer, i.target, i.score, i.error])
    ),
  }),
  probes: ({ probes }) =>
    records(probes, [
      "site",
      "step",
      "target",
      "kind",
      "control",
      "split",
      "value",
      "low",
      "high",
      "n",
    ]),
} as const satisfies Record<string, (record: RunRecord) => Table>;

const EVALUATION = [
  "step",
  "session",
  "benchmark",
  "version",
  "scorer",
  "split",
  "weights",
  "n",
  "value",
  "low",
  "high",
] as const;

const NAMES = Object.keys(TABLES) as (keyof typeof TABLES)[];

const FLAGS = {
  ...ROOT_FLAG,
  out: { type: "string", unit: "FILE", help: "where to write (default: stdout)" },
  table: { type: "string", default: "metrics", choices: NAMES, help: "which table" },
} as const satisfies Flags;

/** `runs export`. */
export const exportRun: Subcommand<typeof FLAGS> = {
  spec: {
    name: "runs export",
    purpose:
      "Writes a table of a run as CSV: metrics as a row per step and a column per metric, or another table.",
    usage: "RUN [--out FILE] [flags]",
    flags: FLAGS,
    examples: [
      ["deno task runs export tiny-curriculum --out metrics.csv", "its curves"],
      ["deno task runs export joint/seed-0 --table items --out answers.csv", "its answers"],
    ],
    exitCodes: { ...RUNS_EXITS, 4: "the file cannot be written" },
    positionals: { min: 1, max: 1, names: ["RUN"] },
  },
  main: async ({ flags, args, print, emit, note }) => {
    const { name, dir } = namedRun(args[0], flags.root, note);
    const table = TABLES[flags.table as keyof typeof TABLES](readRun(dir));
    const rows = [...table.rows];
    const text = [table.columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
    if (flags.out === undefined) {
      print(text.trimEnd());
      for (const row of rows) {
        emit({
          event: "row",
          ...Object.fromEntries(table.columns.map((key, i) => [key, told(row[i] ?? null)])),
        });
      }
      return;
    }
    await writeResult(flags.out, text);
    emit({ event: "written", path: flags.out, run: name, table: flags.table, rows: rows.length });
    note(`wrote ${rows.length} rows of ${flags.table} to ${flags.out}`);
  },
};

/** A row per step; empty where a metric was not logged. */
function metricsTable({ metrics }: RunRecord): Table {
  const names = Object.keys(metrics).sort();
  const at = new Map<number, Value[]>();
  names.forEach((name, column) => {
    const { steps, values } = metrics[name];
    steps.forEach((step, i) => {
      const row = at.get(step) ?? [step, ...names.map(() => null)];
      row[column + 1] = values[i];
      at.set(step, row);
    });
  });
  const rows = [...at.keys()].sort((a, b) => a - b).map((step) => at.get(step)!);
  return { columns: ["step", ...names], rows };
}

function records<T extends object>(
  rows: readonly T[],
  columns: readonly (keyof T & string)[],
): Table {
  return { columns, rows: rows.map((row) => columns.map((key) => row[key] as Value)) };
}

const plain = (value: Json): Value =>
  typeof value === "object" && value !== null ? JSON.stringify(value) : value;

const cell = (value: Value): string =>
  csvCell(typeof value === "boolean" ? String(value) : value ?? null);
