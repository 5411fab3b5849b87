// Metrics of runs by step: a panel per metric, a thin line per run, runs of one arm alike, borders of the stages.
// Takes plain records, as every figure.

import {
  type Arm,
  ARM_STYLES,
  type ArmStyle,
  escapeHtml,
  type Figure,
  FONT_SIZE,
  INK,
  inTwoLines,
  type Series,
  textWidth,
  WIDTHS,
  wrapText,
} from "./figure.ts";
import { axisWords, logTicks, rangeOf } from "./run_axes.ts";
import {
  addLine,
  addText,
  hiddenPanel,
  letteredPanel,
  openSheet,
  type Sheet,
  trace,
} from "./sheet.ts";
import { drawStageLabels, LABEL_ROOM, stageLabels, type StageSpan } from "./stage_labels.ts";

/** One run in such a figure. */
export interface RunCurves {
  /** Its name, as in the list of runs. */
  run: string;
  /** Runs of one group look alike: study and arm. */
  group: string;
  arm: string;
  /** False while it runs, or if it ended early. */
  finished: boolean;
  /** Metric → its curve; null where a value is not finite. */
  curves: Record<string, { steps: readonly number[]; values: readonly (number | null)[] }>;
  /** The same before smoothing, drawn faintly; absent if nothing is smoothed. */
  raw?: RunCurves["curves"];
}

/** What is drawn. */
export interface RunFigureOptions {
  metrics: readonly string[];
  /** Stages that all runs share, in order; none draws no borders. */
  stages?: readonly { name: string; steps: number }[];
  /** Logged steps that each point averages. Default 1. */
  window?: number;
  /** Logarithmic values. */
  log?: boolean;
  /** Adapters and commits of the runs, for the caption. */
  made?: string;
}

/** Looks of groups whose arms have none of their own. */
const COLORS = [
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#000000",
] as const;
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"] as const;

const CAPTION_SIZE = FONT_SIZE * 0.95;
const [LEFT, TOP, HEIGHT, GAP] = [66, 30, 130, 84];

/**
 * The figure of some metrics of some runs.
 *
 * @throws {RangeError} If there is no run or no metric
 */
export function runFigure(runs: readonly RunCurves[], options: RunFigureOptions): Figure {
  const { metrics, stages = [], window = 1, log = false } = options;
  if (runs.length === 0 || metrics.length === 0) {
    throw new RangeError(`Cannot draw ${metrics.length} metrics of ${runs.length} runs`);
  }
  const groups = [...new Set(runs.map(({ group }) => group))];
  const styles = stylesOf(runs, groups);
  const rows = Math.ceil(metrics.length / 2);
  const legendRows = placeLegend(groups.map((group) => groupText(group, runs)));
  const top = TOP + 18 * (legendRows.at(-1)!.row + 1) + 22 + LABEL_ROOM;
  const unfinished = runs.filter(({ finished }) => !finished).length;
  const caption = captionOf(runs, options, unfinished, window);
  const lines = wrapText(caption, WIDTHS.page - 24, CAPTION_SIZE);
  const bottom = top + rows * (HEIGHT + GAP) - 18 - LABEL_ROOM;
  const sheet = openSheet(WIDTHS.page, bottom + lines.length * CAPTION_SIZE * 1.35 + 10);
  const named = `${metrics.join(", ")} by step`;
  const fits = 1.1 * textWidth(named, FONT_SIZE * 1.25) <= WIDTHS.page - 20; // bold
  const title = fits ? named : `${metrics.length} metrics by step`;
  addText(sheet.layout, `<b>${escapeHtml(title)}</b>`, { left: 10, top: 6 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  groups.forEach((group, i) =>
    drawLegend(sheet, legendRows[i], groupText(group, runs), styles.get(group)!)
  );
  const width = metrics.length === 1 ? WIDTHS.page - LEFT - 20 : (WIDTHS.page - 2 * LEFT - 20) / 2;
  metrics.forEach((metric, i) => {
    const box = {
      left: LEFT + (i % 2) * (width + LEFT),
      top: top + Math.floor(i / 2) * (HEIGHT + GAP),
      width,
      height: HEIGHT,
    };
    drawMetric(sheet, metric, box, runs, styles, { stages, log });
  });
  if (unfinished > 0) stamp(sheet);
  addText(sheet.layout, lines.map(escapeHtml).join("<br>"), { left: 12, top: bottom }, {
    yanchor: "top",
    font: { size: CAPTION_SIZE, color: INK.axis },
  });
  return {
    title,
    data: sheet.data,
    layout: sheet.layout,
    caption,
    captionDrawn: true,
    alt: `Curves by step. ${caption}`,
  };
}

function stylesOf(runs: readonly RunCurves[], groups: readonly string[]): Map<string, ArmStyle> {
  const armOf = new Map(runs.map(({ group, arm }) => [group, arm]));
  const known = groups.every((group) => Object.hasOwn(ARM_STYLES, armOf.get(group)!));
  const distinct = new Set(armOf.values()).size === groups.length;
  return new Map(groups.map((group, i) => [
    group,
    known && distinct ? ARM_STYLES[armOf.get(group) as Arm] : {
      color: COLORS[i % COLORS.length],
      symbol: "circle",
      dash: DASHES[(i + Math.floor(i / COLORS.length)) % DASHES.length],
    },
  ]));
}

/** The name of a group in the legend, with how many runs it has. */
function groupText(group: string, runs: readonly RunCurves[]): string {
  const members = runs.filter((run) => run.group === group);
  return members.length === 1 ? members[0].run : `${group}, ${members.length} runs`;
}

const SAMPLE = 24; // CSS pixels of line before each name

/** Where each name of the legend goes, in as many rows as they need. */
function placeLegend(texts: readonly string[]): { row: number; left: number; width: number }[] {
  let [row, left] = [0, 12];
  return texts.map((text) => {
    const width = SAMPLE + 4 + textWidth(text, FONT_SIZE) + 14;
    if (left > 12 && left + width > WIDTHS.page) [row, left] = [row + 1, 12];
    const place = { row, left, width };
    left += width;
    return place;
  });
}

function drawLegend(
  sheet: Sheet,
  { row, left }: { row: number; left: number },
  text: string,
  { color, dash }: ArmStyle,
): void {
  const top = TOP + 18 * row;
  const panel = hiddenPanel(sheet.layout, ++sheet.axes, { left, top, width: SAMPLE, height: 12 });
  sheet.data.push({
    ...trace(panel, {
      mode: "lines",
      x: [0, SAMPLE],
      y: [0.5, 0.5],
      line: { color, dash, width: 1.4 },
    }),
    hoverinfo: "skip",
  } as Series);
  addText(sheet.layout, escapeHtml(text), { left: left + SAMPLE + 4, top: top + 6 }, {
    yanchor: "middle",
  });
}

function drawMetric(
  sheet: Sheet,
  metric: string,
  box: { left: number; top: number; width: number; height: number },
  runs: readonly RunCurves[],
  styles: ReadonlyMap<string, ArmStyle>,
  { stages, log }: { stages: readonly { name: string; steps: number }[]; log: boolean },
): void {
  const having = runs.filter(({ curves }) => Object.hasOwn(curves, metric));
  const last = Math.max(1, ...having.map(({ curves }) => curves[metric].steps.at(-1) ?? 0));
  const values = having.flatMap(({ curves, raw }) => [
    ...curves[metric].values,
    ...(raw?.[metric]?.values ?? []),
  ]).filter((v): v is number => v !== null && (!log || v > 0));
  const y = rangeOf(values, log);
  const words = inTwoLines(axisWords(metric), HEIGHT, FONT_SIZE).map(escapeHtml).join("<br>");
  const small = Math.max(...y.map(Math.abs)) < 0.01; // written out, ticks would reach the words
  const axes = {
    x: { title: "step", range: [0, last] as [number, number] },
    y: {
      title: words,
      grid: true,
      room: 48,
      range: y,
      ...(log ? { log, ticks: logTicks(y) } : small ? { tickFormat: "~e" } : {}),
    },
  };
  const title = escapeHtml(metric);
  const panel = letteredPanel(sheet, box, title, axes, box.left - 48, LABEL_ROOM + 6);
  const edge = (v: number) => log ? 10 ** v : v;
  const spans = spansOf(stages, last);
  for (const { from } of spans.slice(1)) {
    addLine(sheet.layout, panel, [from, edge(y[0])], [from, edge(y[1])], { dash: "dot" });
  }
  const pixels = box.width / last;
  drawStageLabels(sheet, box, spans, stageLabels(spans, pixels), pixels);
  const line = (run: RunCurves, curves: RunCurves["curves"], look: object, name: string) => {
    const { steps, values } = curves[metric];
    const { color, dash } = styles.get(run.group)!;
    return trace(panel, {
      name,
      mode: "lines",
      x: [...steps],
      y: values.map((v) => v !== null && log && v <= 0 ? null : v) as number[],
      line: { color, dash, width: 0.9, ...look },
    } as Series);
  };
  for (const run of having) {
    if (!run.raw?.[metric]) continue;
    sheet.data.push({
      ...line(run, run.raw, { dash: "solid", width: 0.6 }, `${run.run} as logged`),
      opacity: 0.25,
    });
  }
  for (const run of having) sheet.data.push(line(run, run.curves, {}, run.run));
  if (values.length > 0) return;
  addText(sheet.layout, "no finite value", {
    left: box.left + box.width / 2,
    top: box.top + box.height / 2,
  }, { xanchor: "center", yanchor: "middle", font: { color: INK.faint } });
}

/** The stages that began before step `last`. */
function spansOf(stages: readonly { name: string; steps: number }[], last: number): StageSpan[] {
  let from = 0;
  return stages.map(({ name, steps }) => {
    const span = { name, from, to: Math.min(last, from + steps) };
    from += steps;
    return span;
  }).filter((span) => span.from < last);
}

/** Says across the figure that it is not final. */
function stamp({ layout }: Sheet): void {
  addText(layout, "DRAFT", { left: layout.width / 2, top: layout.height / 2 }, {
    xanchor: "center",
    yanchor: "middle",
    textangle: "-20",
    font: { size: 64, color: "rgba(138,138,138,0.18)" },
  });
}

function captionOf(
  runs: readonly RunCurves[],
  { metrics, stages = [], made = "", log = false }: RunFigureOptions,
  unfinished: number,
  window: number,
): string {
  const parts = runs.length <= 6
    ? runs.map(({ run, curves }) => {
      const ends = metrics.map((metric) => {
        if (!Object.hasOwn(curves, metric)) return `no ${metric}`;
        const { steps, values } = curves[metric];
        const i = values.findLastIndex((v) => v !== null);
        return i < 0
          ? `${metric} never finite`
          : `${metric} ${values[i]!.toPrecision(4)} at step ${steps[i]}`;
      });
      return `${run}: ${ends.join(", ")}`;
    })
    : [`${runs.length} runs`];
  if (window > 1) {
    parts.push(
      `Each point is the mean of the last ${window} logged steps, the faint line every one`,
    );
  }
  if (stages.length > 1) {
    const names = stages.map(({ name }, i) => `${i + 1} ${name}`).join(", ");
    parts.push(`Dashed lines: borders of the stages ${names}`);
  }
  if (unfinished > 0) parts.push(`Draft: ${unfinished} of ${runs.length} runs are not finished`);
  if (log) parts.push("Vertical axes are logarithmic");
  if (made !== "") parts.push(`Trained on ${made}`);
  return `${parts.join(". ")}.`;
}
