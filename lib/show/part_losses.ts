// The figure of a part's training, the autoencoder's or the image encoder's: its loss by step with held-out points,
// and beside it what else is measured of held-out data.

import {
  escapeHtml,
  type Figure,
  FONT_SIZE,
  INK,
  type Series,
  textWidth,
  WIDTHS,
  wrapText,
} from "./figure.ts";
import { logTicks, rangeOf } from "./run_axes.ts";
import {
  addLine,
  addText,
  letteredPanel,
  openSheet,
  type Panel,
  type Sheet,
  trace,
} from "./sheet.ts";
import { centredMean, mean, windowOf } from "./centred_mean.ts";
import type { LossSeries } from "./stage_losses.ts";

/** Something measured of held-out data by step. */
export interface Measure {
  name: string;
  steps: readonly number[];
  values: readonly number[];
}

/** What the figure shows. */
export interface PartCourse {
  title: string;
  loss: LossSeries;
  /** What is measured beside the loss, all of one unit; empty: no second panel. */
  measures: readonly Measure[];
  /** Title of their panel and of its axis: "Reconstruction", "PSNR (dB)". */
  measured: { title: string; unit: string };
  /** What a blind choice reaches, in the measures' unit. */
  chance?: number;
  /** How the data was shared out, in words. */
  split?: string;
  /** Where it ran and on what: ends the caption. */
  provenance: string;
}

const COLORS = ["#0072B2", "#D55E00", "#009E73"] as const;
/** Losses that span more than this factor are drawn on a logarithmic axis. */
const LOG_SPAN = 30;
const PANEL = { left: 62, width: 246, gap: 76, top: 62, height: 140 };

/** Loss by step, and what was measured of held-out data. */
export function partFigure(course: PartCourse): Figure {
  const { loss, measures, title } = course;
  const measured = measures.filter(({ steps }) => steps.length > 0);
  const log = spanOf(loss) > LOG_SPAN;
  const caption = captionOf(course, measured, log);
  const lines = wrapText(caption, WIDTHS.page - 24, FONT_SIZE);
  const bottom = PANEL.top + PANEL.height + 46;
  const sheet = openSheet(WIDTHS.page, bottom + lines.length * FONT_SIZE * 1.35 + 8);
  addText(sheet.layout, `<b>${escapeHtml(title)}</b>`, { left: 10, top: 6 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  const last = Math.max(1, ...loss.steps, ...loss.heldOut.steps);
  const x = { title: "step", range: [0, 1.02 * last] as [number, number] };
  const wide = measured.length === 0;
  const box = { ...PANEL, width: wide ? 2 * PANEL.width + PANEL.gap : PANEL.width };
  drawLoss(sheet, box, loss, { x, log });
  if (!wide) {
    const left = PANEL.left + PANEL.width + PANEL.gap;
    drawMeasures(sheet, { ...PANEL, left }, measured, { ...course, x });
  }
  addText(sheet.layout, lines.map(escapeHtml).join("<br>"), { left: 12, top: bottom }, {
    yanchor: "top",
    font: { color: INK.axis },
  });
  return {
    title,
    data: sheet.data,
    layout: sheet.layout,
    caption,
    captionDrawn: true,
    alt: caption,
  };
}

type Box = Panel["box"];
type XAxis = { title: string; range: [number, number] };

/** Every step thin, their mean over it, held-out losses as rings. */
function drawLoss(
  sheet: Sheet,
  box: Box,
  { steps, values, heldOut }: LossSeries,
  { x, log }: { x: XAxis; log: boolean },
): void {
  const range = rangeOf([...values, ...heldOut.values].filter(Number.isFinite), log);
  const panel = letteredPanel(sheet, box, "Loss", {
    x,
    y: {
      title: "loss",
      grid: true,
      room: 44,
      range,
      log,
      ...(log ? { ticks: logTicks(range) } : {}),
    },
  });
  const [color] = COLORS;
  const window = windowOf(values.length);
  sheet.data.push(
    trace(panel, {
      name: "each step",
      mode: "lines",
      x: [...steps],
      y: [...values],
      line: { color, width: 0.6 },
      opacity: 0.35,
    }),
    trace(panel, {
      name: `centred mean of ${window}`,
      mode: "lines",
      x: [...steps],
      y: centredMean(values, window),
      line: { color, width: 1.5 },
    }),
    trace(panel, {
      name: "held out",
      mode: "markers",
      x: [...heldOut.steps],
      y: [...heldOut.values],
      marker: { symbol: "circle-open", color: INK.axis, size: 5, line: { width: 1.3 } },
    } as Series),
  );
}

function drawMeasures(
  sheet: Sheet,
  box: Box,
  measures: readonly Measure[],
  { measured: { title, unit }, chance, x }: PartCourse & { x: XAxis },
): void {
  const all = measures.flatMap(({ values }) => values).filter(Number.isFinite);
  const range = rangeOf(chance === undefined ? all : [...all, chance, 0], false);
  const panel = letteredPanel(sheet, box, title, {
    x,
    y: { title: unit, grid: true, room: 44, range },
  });
  if (chance !== undefined) {
    addLine(sheet.layout, panel, [0, chance], [x.range[1], chance], { dash: "dot" });
  }
  let left = box.left + 6;
  for (const [i, { name, steps, values }] of measures.entries()) {
    const color = COLORS[i % COLORS.length];
    sheet.data.push(trace(panel, {
      name,
      mode: "lines+markers",
      x: [...steps],
      y: [...values],
      // Where two lie on each other, both are seen.
      line: { color, width: i === 0 ? 2.4 : 1.2, dash: i === 0 ? "solid" : "dash" },
      marker: { color, symbol: i === 0 ? "circle" : "diamond-open", size: i === 0 ? 5 : 8 },
    }));
    if (measures.length === 1) continue;
    addText(sheet.layout, `<b>■</b> ${escapeHtml(name)}`, { left, top: box.top - 36 }, {
      font: { color },
    });
    left += textWidth(`■ ${name}`, FONT_SIZE) + 12;
  }
}

/** The largest loss over the smallest, 1 if one of them is not above 0. */
function spanOf({ values, heldOut }: LossSeries): number {
  let [low, high] = [Infinity, -Infinity];
  for (const value of [...values, ...heldOut.values].filter(Number.isFinite)) {
    [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return low > 0 && high >= low ? high / low : 1;
}

function captionOf(
  { loss, measured: { unit }, chance, split, provenance }: PartCourse,
  measures: readonly Measure[],
  log: boolean,
): string {
  const step = Math.max(0, ...loss.steps);
  const window = windowOf(loss.values.length);
  const ends = [
    ...(loss.values.length > 0
      ? [`loss ${short(mean(loss.values.slice(-window)))} (mean of the last ${window})`]
      : []),
    ...(loss.heldOut.values.length > 0 ? [`held out ${short(loss.heldOut.values.at(-1)!)}`] : []),
    ...measures.map(({ name, values }) => `${name} ${short(values.at(-1)!)}`),
  ];
  return [
    `Loss by step${
      log ? ", on a logarithmic axis" : ""
    }: thin every step, bold the centred mean of ${window}, ` +
    "rings held-out data; lower is better.",
    measures.length === 0 ? "" : `Held-out data, ${unit}: higher is better` +
      (chance === undefined ? "." : `, broken line a blind choice, ${short(chance)}.`),
    ends.length === 0 ? "" : `After step ${step}: ${ends.join(", ")}.`,
    split === undefined ? "" : `${split[0].toUpperCase()}${split.slice(1)}.`,
    provenance,
  ].filter(Boolean).join(" ");
}

const short = (value: number) => String(Number(value.toPrecision(3)));
