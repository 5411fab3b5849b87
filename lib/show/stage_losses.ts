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
} from "./figure.ts";
import {
  addLine,
  addText,
  letteredPanel,
  openSheet,
  type Panel,
  type Sheet,
  trace,
} from "./sheet.ts";

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
const TASK_COLORS: Record<string, string> = {
  text: "#999999",
  i2t: "#0072B2",
  t2i: "#D55E00",
  interleaved: "#009E73",
};
const PANEL = { left: 58, width: 250, gap: 74, top: 62, height: 128 };

/**
 * Losses per stage.
 *
 * @throws {RangeError} If there is no stage
 */
export function stagedFigure(course: StagedCourse): Figure {
  const { stages } = course;
  if (stages.length === 0) throw new RangeError("Cannot draw a training without stages");
  const sheet = openSheet(WIDTHS.page, 348);
  const last = stages.at(-1)!.to;
  addText(sheet.layout, `<b>${escapeHtml(course.title)}</b>`, { left: 10, top: 6 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  const panels = [
    { series: course.text, color: TRAIN.text, title: "Text", unit: "cross-entropy (nats)" },
    { series: course.flow, color: TRAIN.flow, title: "Images", unit: "flow MSE" },
  ];
  for (const [i, { series, color, title, unit }] of panels.entries()) {
    const left = PANEL.left + i * (PANEL.width + PANEL.gap);
    const box = { left, top: PANEL.top, width: PANEL.width, height: PANEL.height };
    const high = topOf(series);
    const panel = letteredPanel(sheet, box, title, {
      x: { title: "step", range: [0, 1.02 * Math.max(1, last)] },
      y: { title: unit, grid: true, room: 40, range: [0, high] },
    });
    borders(sheet, panel, stages, last, high);
    if (series) sheet.data.push(...lossTraces(panel, series, color));
  }
  mixPanel(sheet, stages);
  const caption = captionOf(course);
  return { title: course.title, data: sheet.data, layout: sheet.layout, caption, alt: caption };
}

/** A little over what lies above the first tenth of the steps, or over everything where that is less. */
function topOf(series: LossSeries | undefined): number {
  const all = [...series?.values ?? [], ...series?.heldOut.values ?? []].filter(Number.isFinite);
  return 1.05 * Math.max(0.01, ...all);
}

function borders(
  sheet: Sheet,
  panel: Panel,
  stages: readonly StageCourse[],
  last: number,
  high: number,
): void {
  const { left, width, top } = panel.box;
  for (const { name, from, to } of stages) {
    if (from > 0) addLine(sheet.layout, panel, [from, 0], [from, high], { dash: "dot" });
    const middle = left + width * (from + to) / 2 / (1.02 * Math.max(1, last));
    const room = width * (to - from) / Math.max(1, last);
    if (textWidth(name, FONT_SIZE) > room) continue; // the caption names it all the same
    addText(sheet.layout, escapeHtml(name), { left: middle, top: top + 2 }, {
      xanchor: "center",
      yanchor: "top",
      font: { color: INK.faint },
    });
  }
}

/** Every step thin, their running mean over it, held-out losses as rings. */
function lossTraces(panel: Panel, { steps, values, heldOut }: LossSeries, color: string): Series[] {
  const faint = { color, width: 0.6 };
  return [
    trace(panel, {
      name: "each step",
      mode: "lines",
      x: [...steps],
      y: [...values],
      line: faint,
      opacity: 0.35,
    }),
    trace(panel, {
      name: "running mean",
      mode: "lines",
      x: [...steps],
      y: runningMean(values),
      line: { color, width: 1.5 },
    }),
    trace(panel, {
      name: "held out",
      mode: "markers",
      x: [...heldOut.steps],
      y: [...heldOut.values],
      marker: { symbol: "circle-open", color: INK.axis, size: 5, line: { width: 1.3 } },
    }),
  ] as Series[];
}

/** Exponential, over about ten steps, without the pull of its start. */
export function runningMean(values: readonly number[]): number[] {
  const keep = 0.9;
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    if (Number.isFinite(value)) {
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
    }
    return weight > 0 ? sum / weight : NaN;
  });
}

/** Two bars a stage: the mix asked for above, the mix drawn below. */
function mixPanel(sheet: Sheet, stages: readonly StageCourse[]): void {
  const top = PANEL.top + PANEL.height + 66;
  const box = { left: 128, top, width: 500, height: Math.min(62, 24 * stages.length) };
  const rows = stages.flatMap(({ name, asked, drawn }) => [
    { label: `${name}, asked`, shares: asked },
    { label: "drawn", shares: drawn },
  ]);
  const at = rows.map((_, i) => rows.length - 1 - i);
  const panel = letteredPanel(
    sheet,
    box,
    "Mix of tasks, by samples",
    {
      x: { range: [0, 1], tickFormat: ".0%" },
      y: {
        range: [-0.6, rows.length - 0.4],
        ticks: { at, text: rows.map(({ label }) => escapeHtml(label)) },
      },
    },
    PANEL.left - 40,
  );
  const tasks = Object.keys(TASK_COLORS);
  for (const [row, { shares }] of rows.entries()) {
    let from = 0;
    for (const task of tasks) {
      const share = shares[task] ?? 0;
      if (share === 0) continue;
      sheet.data.push(bar(panel, task, from, from + share, at[row]));
      from += share;
    }
  }
  let left = box.left + 130;
  for (const task of tasks.filter((t) => stages.some((s) => (s.asked[t] ?? 0) > 0))) {
    addText(sheet.layout, `<b>■</b> ${task}`, { left, top: top - 10 }, {
      font: { color: TASK_COLORS[task] },
    });
    left += textWidth(`■ ${task}`, FONT_SIZE) + 16;
  }
}

/** A horizontal bar as a thick line, so that figures need one kind of trace. */
function bar(panel: Panel, task: string, from: number, to: number, y: number): Series {
  return trace(panel, {
    name: task,
    mode: "lines",
    x: [from, to],
    y: [y, y],
    line: { color: TASK_COLORS[task], width: 7 },
  } as Series);
}

function captionOf({ text, flow, stages, provenance }: StagedCourse): string {
  const parts = stages.map(({ name, from, to }) => `${name} (steps ${from + 1}–${to})`);
  const ends = [["cross-entropy", text], ["flow error", flow]] as const;
  const said = ends.filter(([, s]) => s !== undefined && s.values.length > 0).map(([name, s]) => {
    const held = s!.heldOut.values.at(-1);
    const heldText = held === undefined ? "" : `, held out ${held.toFixed(3)}`;
    return `${name} ${runningMean(s!.values).at(-1)!.toFixed(3)}${heldText}`;
  });
  const widest = Math.max(
    0,
    ...stages.flatMap(({ asked, drawn }) =>
      Object.keys(drawn).map((task) => Math.abs(drawn[task] - (asked[task] ?? 0)))
    ),
  );
  return `Losses by step: thin every step, bold their running mean, rings held-out batches. ` +
    `Stages: ${parts.join(", ")}. At the end ${said.join("; ")}. Lower is better. ` +
    `Largest gap between mix asked and drawn: ${percent(widest)}. ${provenance}`;
}
