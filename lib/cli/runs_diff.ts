// `deno task runs diff`: what makes two runs different.

import { compact } from "../show/progress.ts";
import { configDifferences } from "../study/config_diff.ts";
import type { Json } from "../study/config.ts";
import { type RunSummary, summarizeRun } from "../study/run_summary.ts";
import type { Subcommand } from "./runs.ts";
import { clean, columnsText, namedRun, ROOT_FLAG, RUNS_EXITS, told } from "./runs_common.ts";

/** `runs diff`. */
export const diffRuns: Subcommand<typeof ROOT_FLAG> = {
  spec: {
    name: "runs diff",
    purpose:
      "Says how two runs differ: settings, sources, data, machine, and their last metrics side by side.",
    usage: "A B [flags]",
    flags: ROOT_FLAG,
    examples: [
      ["deno task runs diff joint/seed-0 joint/seed-1", "two seeds"],
      [
        "deno task runs diff runs/a/und/seed-0 old/a/und/seed-0 --json",
        "two folders, for programs",
      ],
    ],
    exitCodes: RUNS_EXITS,
    positionals: { min: 2, max: 2, names: ["A", "B"] },
  },
  main: ({ flags, args, print, emit, note }) => {
    const [a, b] = args.map((text) => namedRun(text, flags.root, note));
    const [before, after] = [summarizeRun(a.dir), summarizeRun(b.dir)];
    const settings = configDifferences(before.header.config, after.header.config);
    const identity = identityDifferences(before, after);
    const metrics = metricPairs(before, after);
    const values = metrics.map(({ name, a, b }) => ({
      name,
      a: a && pointOf(a),
      b: b && pointOf(b),
    }));
    emit({ event: "diff", a: a.name, b: b.name, settings, identity, metrics: values });
    print([
      `a  ${a.name}`,
      `b  ${b.name}`,
      ...part(
        "settings",
        settings.map(({ path, before, after }) => [path, shown(before), shown(after)]),
      ),
      ...part(
        "sources, data and machine",
        identity.map(({ what, a, b }) => [what, clean(a), clean(b)]),
      ),
      ...part(
        "last metrics",
        metrics.map(({ name, a, b }) => [name, valueAt(a), valueAt(b)]),
        "neither has logged any",
      ),
    ].join("\n"));
  },
};

const shown = (value: Json | undefined) =>
  value === undefined ? "absent" : clean(JSON.stringify(value));

function part(title: string, rows: string[][], none = "the same"): string[] {
  if (rows.length === 0) return ["", `${title}: ${none}`];
  return [
    "",
    title,
    ...columnsText([["", "a", "b"], ...rows]).split("\n").map((line) => `  ${line}`),
  ];
}

function identityDifferences(
  a: RunSummary,
  b: RunSummary,
): { what: string; a: string; b: string }[] {
  const rows: [string, (run: RunSummary) => string | number | null][] = [
    ["study", (run) => run.header.study],
    ["arm", (run) => run.header.arm],
    ["seed", (run) => run.header.seed],
    ["commit", (run) => run.commit?.slice(0, 12) ?? null],
    ["sources", (run) => run.header.sourcesSha256.slice(0, 12)],
    ["data", (run) => run.header.dataSha256?.slice(0, 12) ?? null],
    ["adapter", (run) => run.adapter],
    ["ranks", (run) => run.ranks],
    ["sessions", (run) => run.sessions],
  ];
  return rows.map(([what, of]) => ({
    what,
    a: String(of(a) ?? "unknown"),
    b: String(of(b) ?? "unknown"),
  }))
    .filter((row) => row.a !== row.b);
}

interface Point {
  value: number;
  step: number;
}

function metricPairs(
  a: RunSummary,
  b: RunSummary,
): { name: string; a: Point | null; b: Point | null }[] {
  const of = (run: RunSummary, name: string): Point | null => {
    const found = run.metrics.find((metric) => metric.name === name);
    return found ? { value: found.value, step: found.step } : null;
  };
  const names = [...new Set([...a.metrics, ...b.metrics].map(({ name }) => name))];
  return names.map((name) => ({ name, a: of(a, name), b: of(b, name) }));
}

const pointOf = ({ value, step }: Point) => ({ value: told(value), step });

const valueAt = (point: Point | null) =>
  point === null ? "absent" : `${compact(point.value)} at step ${point.step}`;
