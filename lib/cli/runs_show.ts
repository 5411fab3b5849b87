// `deno task runs show`: one run in full, without its curves.

import { compact, duration } from "../show/progress.ts";
import { flattenDeep } from "../study/config_diff.ts";
import { readRun, type RunRecord } from "../study/read_run.ts";
import {
  isLocked,
  runState,
  type RunSummary,
  stagesOf,
  summarizeRun,
} from "../study/run_summary.ts";
import { sizeText } from "./checkpoint_text.ts";
import type { Flags } from "./flags.ts";
import type { Subcommand } from "./runs.ts";
import { clean, columnsText, namedRun, ROOT_FLAG, RUNS_EXITS, told } from "./runs_common.ts";

const FLAGS = {
  ...ROOT_FLAG,
  config: { type: "boolean", help: "every setting with its origin, and nothing else" },
  events: {
    type: "integer",
    default: 10,
    min: 0,
    unit: "events",
    help: "how many of the last events",
  },
} as const satisfies Flags;

/** `runs show`. */
export const showRun: Subcommand<typeof FLAGS> = {
  spec: {
    name: "runs show",
    purpose:
      "Shows one run: sessions, stages, metrics, evaluations, checkpoints and its last events.",
    usage: "RUN [flags]",
    flags: FLAGS,
    examples: [
      ["deno task runs show tiny-curriculum", "a run by a part of its name"],
      ["deno task runs show runs/demo/joint/seed-0 --config", "the settings of a folder"],
    ],
    exitCodes: RUNS_EXITS,
    positionals: { min: 1, max: 1, names: ["RUN"] },
  },
  main: ({ flags, args, print, emit, note }) => {
    const { name, dir } = namedRun(args[0], flags.root, note);
    const run = summarizeRun(dir);
    const state = runState(run, run.ended === null && isLocked(dir));
    const { config, origins } = run.header;
    if (flags.config) {
      const rows = Object.entries(flattenDeep(config));
      for (const [path, value] of rows) {
        emit({ event: "setting", path, value, origin: origins[path] ?? null });
      }
      print(columnsText(rows.map(([path, value]) => [
        path,
        clean(JSON.stringify(value)),
        `# ${clean(origins[path] ?? "unknown")}`,
      ])));
      return;
    }
    const record = readRun(dir);
    const events = flags.events === 0 ? [] : record.events.slice(-flags.events);
    const metrics = run.metrics.map((metric) => ({ ...metric, value: told(metric.value) }));
    emit({ event: "run", name, state, ...run, metrics, sessions: record.sessions, events });
    print([
      `${name}  ${state}`,
      "",
      ...facts(run, record),
      ...section("metrics", metricRows(run)),
      ...section("evaluations", evaluationRows(run)),
      ...section("checkpoints", checkpointRows(run)),
      ...section("events", eventRows(events)),
    ].join("\n"));
  },
};

function facts(run: RunSummary, record: RunRecord): string[] {
  const stages = stagesOf(run.header.config);
  const last = record.sessions.at(-1)!;
  const rows: [string, string][] = [
    ["steps", `${run.step}${run.steps === null ? "" : ` of ${run.steps}`}`],
    [
      "time",
      `${duration(1000 * run.seconds)} in ${run.sessions} session${run.sessions === 1 ? "" : "s"}`,
    ],
    ["started", run.started],
    [
      "ended",
      last.ended === null
        ? "no end recorded"
        : `${last.ended}, exit ${last.exitCode}: ${last.reason}`,
    ],
    ["adapter", `${run.adapter ?? "unknown"}${run.software ? " (software)" : ""}`],
    ["ranks", run.ranks === null ? "" : String(run.ranks)],
    ["commit", run.commit ?? "unknown"],
    ["sources", run.header.sourcesSha256],
    ["config", run.header.configSha256],
    ["data", run.header.dataSha256 ?? ""],
    ["stages", stages.map(({ name, steps }) => `${name} ${steps}`).join(", ")],
  ];
  return rows.filter(([, text]) => text !== "").map(([what, text]) =>
    `${what.padEnd(9)}${clean(text)}`
  );
}

const section = (title: string, rows: string[][]) =>
  rows.length < 2 ? [] : ["", title, ...columnsText(rows).split("\n").map((line) => `  ${line}`)];

function metricRows({ metrics }: RunSummary): string[][] {
  return [
    ["name", "logged", "last", "at step", "least", "at step"],
    ...metrics.map((m) => [
      m.name,
      String(m.rows),
      compact(m.value),
      String(m.step),
      m.least === null ? "none" : compact(m.least),
      m.leastStep === null ? "" : String(m.leastStep),
    ]),
  ];
}

function evaluationRows({ evaluations }: RunSummary): string[][] {
  return [
    ["step", "benchmark", "split", "weights", "n", "value", "95 % interval"],
    ...evaluations.map((e) => [
      String(e.step),
      `${clean(e.benchmark)} v${e.version}`,
      clean(e.split),
      e.weights,
      String(e.n),
      compact(e.value),
      `${compact(e.low)} to ${compact(e.high)}`,
    ]),
  ];
}

function checkpointRows({ checkpoints }: RunSummary): string[][] {
  return [
    ["step", "size", "path"],
    ...checkpoints.map(({ step, bytes, path }) => [String(step), sizeText(bytes), clean(path)]),
  ];
}

function eventRows(events: RunRecord["events"]): string[][] {
  return [
    ["session", "step", "kind", "detail"],
    ...events.map(({ session, step, kind, detail }) => [
      String(session),
      step === null ? "" : String(step),
      clean(kind),
      clean(JSON.stringify(detail)).slice(0, 100),
    ]),
  ];
}
