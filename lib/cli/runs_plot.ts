// `deno task runs plot`: metrics of some runs as one figure.

import { fileReason } from "../data/jsonl.ts";
import { ResourceError, UsageError } from "../errors.ts";
import { type FigureFormat, saveFigure } from "../show/export.ts";
import { type RunCurves, runFigure } from "../show/run_curves.ts";
import type { MetricColumns } from "../study/read_run.ts";
import {
  lossNames,
  metricLike,
  noMetric,
  readMetrics,
  smoothed,
  thinned,
} from "../study/run_metrics.ts";
import {
  isLocked,
  runState,
  type RunSummary,
  stagesOf,
  summarizeRun,
} from "../study/run_summary.ts";
import type { Flags } from "./flags.ts";
import type { Subcommand } from "./runs.ts";
import { namedRun, ROOT_FLAG, RUNS_EXITS } from "./runs_common.ts";

const FORMATS = ["svg", "png", "html", "csv", "json"] as const satisfies readonly FigureFormat[];

/** Points of a line beyond which it is thinned. */
const MOST_POINTS = 2000;

const FLAGS = {
  ...ROOT_FLAG,
  metric: {
    type: "list",
    unit: "NAME",
    help: "metrics to draw, a panel each (default: the losses of the first run)",
  },
  out: {
    type: "string",
    unit: "FILE",
    help: `where to write, by its ending: ${FORMATS.join(", ")}`,
  },
  smooth: {
    type: "integer",
    default: 1,
    min: 1,
    unit: "rows",
    help: "logged rows that each point averages; what was logged stays as a faint line",
  },
  log: { type: "boolean", help: "logarithmic values" },
} as const satisfies Flags;

/** `runs plot`. */
export const plotRuns: Subcommand<typeof FLAGS> = {
  spec: {
    name: "runs plot",
    purpose:
      "Draws metrics by step: a panel per metric, a thin line per run, borders where the stages change.",
    usage: "RUN… --out FILE [flags]",
    flags: FLAGS,
    examples: [
      [
        "deno task runs plot tiny-curriculum --metric text,flow --out losses.png --smooth 10",
        "one run",
      ],
      ["deno task runs plot und/seed-0 joint/seed-0 --out arms.svg", "two runs"],
    ],
    exitCodes: { ...RUNS_EXITS, 4: "the figure cannot be written" },
    positionals: { min: 1, max: 64, names: ["RUN"] },
  },
  main: async ({ flags, args, print, emit, note }) => {
    const { stem, format } = target(flags.out);
    const found = args.map((text) => namedRun(text, flags.root, note));
    const twice = found.find(({ dir }, i) => found.findIndex((other) => other.dir === dir) !== i);
    if (twice) throw new UsageError(`Cannot draw ${twice.name} twice`);
    const runs = found.map(({ name, dir }) => ({ name, dir, run: summarizeRun(dir) }));
    const metrics = chosen(flags.metric, runs);
    const curves = runs.map(({ name, dir, run }) =>
      curvesOf(name, dir, run, metrics, flags.smooth)
    );
    const figure = runFigure(curves, {
      metrics,
      stages: sharedStages(runs.map(({ run }) => run)),
      window: flags.smooth,
      log: flags.log,
      made: made(runs.map(({ run }) => run)),
    });
    try {
      const sources = {
        runs: runs.map(({ name, run }) => ({ name, config: run.header.configSha256 })),
      };
      await saveFigure(figure, stem, { formats: [format], sources });
    } catch (cause) {
      if (cause instanceof RangeError) throw cause;
      throw new ResourceError(`Cannot write ${flags.out}: ${fileReason(cause)}`, {
        cause,
        help: "give a file in a folder that can be written",
      });
    }
    const path = `${stem}.${format}`;
    emit({
      event: "figure",
      path,
      metrics,
      runs: runs.map(({ name }) => name),
      caption: figure.caption,
    });
    print(path);
    note(figure.caption);
  },
};

function target(out: string | undefined): { stem: string; format: FigureFormat } {
  const ending = /^(.*[^/\\])\.([a-z]+)$/i.exec(out ?? "");
  const format = FORMATS.find((name) => name === ending?.[2].toLowerCase());
  if (!ending || !format) {
    throw new UsageError(
      out === undefined ? "Cannot draw: --out is missing" : `Cannot draw to ${out}: no such format`,
      { help: `give a file by --out that ends in ${FORMATS.map((name) => `.${name}`).join(", ")}` },
    );
  }
  return { stem: ending[1], format };
}

/** The metrics to draw: those asked for, or the losses of the first run. */
function chosen(
  asked: string[] | undefined,
  runs: readonly { name: string; run: RunSummary }[],
): string[] {
  const names = (run: RunSummary) => run.metrics.map(({ name }) => name);
  const metrics = asked ?? lossNames(names(runs[0].run));
  if (metrics.length === 0) {
    throw new UsageError(`Cannot choose metrics: ${runs[0].name} has logged no loss`, {
      help: names(runs[0].run).length === 0
        ? "it has logged nothing yet"
        : `give --metric, such as --metric ${names(runs[0].run)[0]}`,
    });
  }
  for (const metric of metrics) { // it must be in some run; a run without it has no line
    if (runs.some(({ run }) => metricLike(metric, names(run)) !== undefined)) continue;
    throw noMetric(metric, names(runs[0].run), runs[0].name);
  }
  return metrics;
}

function curvesOf(
  name: string,
  dir: string,
  run: RunSummary,
  metrics: readonly string[],
  window: number,
): RunCurves {
  const names = run.metrics.map((metric) => metric.name);
  const whole = new Map<string, string>();
  for (const metric of metrics) {
    const own = metricLike(metric, names);
    if (own !== undefined) whole.set(metric, own);
  }
  const read = readMetrics(dir, [...whole.values()]);
  const curves: RunCurves["curves"] = {};
  const raw: RunCurves["curves"] = {};
  for (const [metric, own] of whole) {
    const logged = read[own];
    raw[metric] = plotted(logged);
    curves[metric] = plotted({ steps: logged.steps, values: smoothed(logged.values, window) });
  }
  const finished = runState(run, run.ended === null && isLocked(dir)) === "finished";
  const { study, arm } = run.header;
  return {
    run: name,
    group: `${study}/${arm}`,
    arm,
    finished,
    curves,
    ...(window > 1 ? { raw } : {}),
  };
}

function plotted(columns: MetricColumns): RunCurves["curves"][string] {
  const { steps, values } = thinned(columns, MOST_POINTS);
  return { steps, values: values.map((v) => Number.isFinite(v) ? v : null) };
}

/** The stages of all runs, if they have the same. */
function sharedStages(runs: readonly RunSummary[]): { name: string; steps: number }[] {
  const all = runs.map((run) => JSON.stringify(stagesOf(run.header.config)));
  return new Set(all).size === 1 ? stagesOf(runs[0].header.config) : [];
}

/** Adapters and commits, for the caption. */
function made(runs: readonly RunSummary[]): string {
  const adapters = [...new Set(runs.map((run) => run.adapter ?? "unknown adapter"))];
  const commits = [...new Set(runs.map((run) => run.commit?.slice(0, 7) ?? "unknown"))];
  return `${adapters.join("; ")}, commit ${commits.join(", ")}`;
}
