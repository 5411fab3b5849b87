// The figure of a staged training: both losses by step with the stages' borders, and below them the mix of tasks
// that was drawn beside the one that was asked for.

import {
  escapeHtml,
  type Figure,
  FONT_SIZE,
  INK,
  percent,
  type Series,
  textWidth,
  WIDTHS,
  wrapText,
} from "./figure.ts";
import {
  addLine,
  addText,
  hiddenPanel,
  letteredPanel,
  openSheet,
  type Panel,
  type Sheet,
  trace,
} from "./sheet.ts";
import { mixHeight, mixPanel } from "./task_mix.ts";
import { drawStageLabels, LABEL_ROOM, stageKey, stageLabels } from "./stage_labels.ts";
import { centredMean, mean, windowOf } from "./centred_mean.ts";

/** One loss by step, as logged and on the held-out batches. */
export interface LossSeries {
  steps: readonly number[];
  values: readonly number[];
  heldOut: { steps: readonly number[]; values: readonly number[] };
}

/** One stage of a curriculum as it ran. */
export interface StageCourse {
  name: string;
  /** Steps before it, and after its last one so far. */
  from: number;
  to: number;
  /** Shares of samples by task, each summing to 1; `drawn` is empty before the first step. */
  asked: Record<string, number>;
  drawn: Record<string, number>;
}

/** What the figure shows. */
export interface StagedCourse {
  title: string;
  text?: LossSeries;
  flow?: LossSeries;
  stages: readonly StageCourse[];
  /** Where it ran and on what: ends the caption. */
  provenance: string;
}

const TRAIN = { text: "#0072B2", flow: "#D55E00" } as const; // the und and the gen expert's colours
const PANEL = { left: 58, gap: 74, right: 16, height: 128 };
const LINE = 16; // CSS pixels of a line of text

/** A loss with what its panel says. */
interface LossPanel {
  series: LossSeries;
  color: string;
  title: string;
  unit: string;
}

/**
 * Losses per stage: a panel for each loss that the training has, and one for the mix of tasks.
 *
 * @throws {RangeError} If there is no stage
 */
export function stagedFigure(course: StagedCourse): Figure {
  const { stages } = course;
  if (stages.length === 0) throw new RangeError("Cannot draw a training without stages");
  const shown = panelsOf(course);
  const window = windowOf(Math.max(0, ...shown.map(({ series }) => series.values.length)));
  const last = Math.max(1, stages.at(-1)!.to);
  const width = (WIDTHS.page - PANEL.left - PANEL.right - (shown.length - 1) * PANEL.gap) /
    Math.max(1, shown.length);
  const pixels = width / (1.02 * last);
  const labels = stageLabels(stages, pixels);
  const key = shown.length > 0 ? stageKey(stages, labels) : "";
  const keyLines = key === "" ? [] : wrapText(`Stages: ${key}`, WIDTHS.page - 36, FONT_SIZE);
  const legendTop = 32;
  const keyTop = legendTop + (shown.length > 0 ? LINE : 0);
  const top = keyTop + keyLines.length * LINE + 26 + LABEL_ROOM;
  const mixTop = shown.length > 0 ? top + PANEL.height + 66 : 58;
  const sheet = openSheet(WIDTHS.page, mixTop + mixHeight(stages) + 30);
  addText(sheet.layout, `<b>${escapeHtml(course.title)}</b>`, { left: 10, top: 6 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  for (const [i, { series, color, title, unit }] of shown.entries()) {
    const left = PANEL.left + i * (width + PANEL.gap);
    const box = { left, top, width, height: PANEL.height };
    const high = topOf(series);
    const axes = {
      x: { title: "step", range: [0, 1.02 * last] as [number, number] },
      y: { title: unit, grid: true, room: 40, range: [0, high] as [number, number] },
    };
    const panel = letteredPanel(sheet, box, title, axes, left - 40, LABEL_ROOM + 6);
    for (const { from } of stages) {
      if (from > 0) addLine(sheet.layout, panel, [from, 0], [from, high], { dash: "dot" });
    }
    drawStageLabels(sheet, box, stages, labels, pixels);
    sheet.data.push(...lossTraces(panel, series, color, window));
    if (![...series.values, ...series.heldOut.values].some(Number.isFinite)) {
      addText(sheet.layout, "no finite value", {
        left: left + width / 2,
        top: top + PANEL.height / 2,
      }, { xanchor: "center", yanchor: "middle", font: { color: INK.faint } });
    }
  }
  if (shown.length > 0) lossLegend(sheet, shown, window, legendTop);
  addText(sheet.layout, keyLines.map(escapeHtml).join("<br>"), { left: 18, top: keyTop }, {
    yanchor: "top",
    font: { color: INK.axis },
  });
  mixPanel(sheet, stages, mixTop);
  const caption = captionOf(course, window);
  return { title: course.title, data: sheet.data, layout: sheet.layout, caption, alt: caption };
}

/** The losses that have a value, finite or not. */
function panelsOf({ text, flow }: StagedCourse): LossPanel[] {
  const all = [
    { series: text, color: TRAIN.text, title: "Text", unit: "cross-entropy (nats)" },
    { series: flow, color: TRAIN.flow, title: "Images", unit: "flow, squared error" },
  ];
  return all.flatMap(({ series, ...panel }) =>
    series && series.values.length + series.heldOut.values.length > 0 ? [{ ...panel, series }] : []
  );
}

/** A little over everything. */
function topOf(series: LossSeries): number {
  const all = [...series.values, ...series.heldOut.values].filter(Number.isFinite);
  return 1.05 * Math.max(0.01, ...all);
}

/** Every step thin, their mean over it, held-out losses as rings. */
function lossTraces(
  panel: Panel,
  { steps, values, heldOut }: LossSeries,
  color: string,
  window: number,
): Series[] {
  const mean = centredMean(values, window);
  return [
    trace(panel, { name: "each step", x: [...steps], y: [...values], ...look("each", color) }),
    trace(panel, { name: meanName(window), x: [...steps], y: mean, ...look("mean", color) }),
    trace(panel, {
      name: "held out",
      x: [...heldOut.steps],
      y: [...heldOut.values],
      ...look("held out", color),
    }),
  ];
}

/** How a series looks, in its panel and in the legend. */
function look(series: "each" | "mean" | "held out", color: string): Series {
  if (series === "each") return { mode: "lines", line: { color, width: 0.6 }, opacity: 0.35 };
  if (series === "mean") return { mode: "lines", line: { color, width: 1.5 } };
  const marker = { symbol: "circle-open", color: INK.axis, size: 5, line: { width: 1.3 } };
  return { mode: "markers", marker } as Series;
}

const meanName = (window: number) => `centred mean of ${window} logged steps`;

/** One row: a sample of each kind of line in the colours of the panels, and of a ring where there are some. */
function lossLegend(
  sheet: Sheet,
  shown: readonly LossPanel[],
  window: number,
  top: number,
): void {
  const rings = shown.some(({ series }) => series.heldOut.values.length > 0);
  const entries = [
    { series: "each", text: "each logged step" },
    { series: "mean", text: meanName(window) },
    ...(rings ? [{ series: "held out", text: "held-out data" }] : []),
  ] as { series: Parameters<typeof look>[0]; text: string }[];
  const panel = hiddenPanel(sheet.layout, ++sheet.axes, {
    left: 18,
    top,
    width: WIDTHS.page - 36,
    height: 12,
  });
  let x = 0;
  for (const { series, text } of entries) {
    const samples = series === "held out" ? shown.slice(0, 1) : shown;
    for (const { color } of samples) {
      const at = series === "held out" ? [x + 5] : [x, x + 20];
      sheet.data.push(
        {
          ...trace(panel, { x: at, y: at.map(() => 0.5), ...look(series, color) }),
          ...(series === "each" ? { opacity: 0.7 } : {}), // alone it would hardly be seen
          hoverinfo: "skip",
        } as Series,
      );
      x += series === "held out" ? 10 : 24;
    }
    addText(sheet.layout, text, { left: 18 + x + 4, top: top + 6 }, { yanchor: "middle" });
    x += textWidth(text, FONT_SIZE) + 20;
  }
}

function captionOf({ text, flow, stages, provenance }: StagedCourse, window: number): string {
  const parts = stages.map(({ name, from, to }) => `${name} (steps ${from + 1}–${to})`);
  const ends = [["cross-entropy", text], ["flow error", flow]] as const;
  const said = ends.filter(([, s]) => s !== undefined && s.values.length > 0).map(([name, s]) => {
    const held = s!.heldOut.values.at(-1);
    const heldText = held === undefined ? "" : `, held out ${held.toFixed(3)}`;
    return `${name} ${mean(s!.values.slice(-window)).toFixed(3)}${heldText}`;
  });
  const widest = Math.max(
    0,
    ...stages.flatMap(({ asked, drawn }) =>
      Object.keys(drawn).map((task) => Math.abs(drawn[task] - (asked[task] ?? 0)))
    ),
  );
  const ended = said.length === 0
    ? ""
    : `At the end (mean of the last ${window}) ${said.join("; ")}. Lower is better. `;
  return `Losses by step: thin each logged step, bold the ${meanName(window)}, ` +
    `rings held-out batches. Stages: ${parts.join(", ")}. ${ended}` +
    `Largest gap between mix asked and drawn: ${percent(widest)}. ${provenance}`;
}
