// The demo figure's panels of accuracy: planted world, natural world by question, paired differences with the
// gate's verdict.

import { type DemoResult, type Gate, verdict } from "./demo_result.ts";
import {
  ARM_STYLES,
  escapeHtml,
  type Estimate,
  FONT_SIZE,
  INK,
  plain,
  type Series,
} from "./figure.ts";
import {
  addLine,
  addText,
  type AxisOptions,
  type Box,
  letteredPanel,
  type Panel,
  points,
  type Sheet,
  trace,
} from "./sheet.ts";

/** The arms of each world, in the order they are drawn. */
export const PLANTED_ARMS = ["untrained", "und", "joint", "blocked"];
export const NATURAL_ARMS = ["untrained", "und", "joint"];

/** Shifts so that `n` arms stand side by side around a category. */
const shifts = (n: number, spread = 0.56) =>
  Array.from({ length: n }, (_, i) => n === 1 ? 0 : spread * (i / (n - 1) - 0.5));

const ACCURACY: AxisOptions = {
  title: "accuracy",
  room: 44,
  range: [0, 1.02],
  ticks: { at: [0, 0.25, 0.5, 0.75, 1], text: ["0 %", "25 %", "50 %", "75 %", "100 %"] },
  grid: true,
};

/** Accuracy on the planted world: the starved question beside the others, an arm a colour. */
export function plantedPanel(sheet: Sheet, { planted }: DemoResult, box: Box): void {
  if (!planted) return;
  const names = [`${planted.starved} (starved)`, "other questions"].map(escapeHtml);
  const panel = letteredPanel(sheet, box, "Planted world: transfer must happen", {
    x: { range: [-0.5, 1.5], ticks: { at: [0, 1], text: names } },
    y: ACCURACY,
  });
  const arms = PLANTED_ARMS.flatMap((arm) => planted.arms.filter((a) => a.arm === arm));
  const offsets = shifts(arms.length);
  for (const [i, { arm, starved, others }] of arms.entries()) {
    const x = [offsets[i], 1 + offsets[i]];
    sheet.data.push(points(panel, arm, x, [starved, others], names.map(plain)));
  }
  chanceMarks(sheet, panel, [planted.chance.starved, planted.chance.others]);
  missing(sheet, box, PLANTED_ARMS.filter((arm) => !arms.some((a) => a.arm === arm)));
}

/** Accuracy on the natural world or on real images, question by question. */
export function naturalPanel(sheet: Sheet, { natural }: DemoResult, box: Box): void {
  if (!natural) return;
  const { questions } = natural;
  const names = questions.map((q) => escapeHtml(q.name));
  const title = `${capital(escapeHtml(natural.name))}: accuracy by question`;
  const panel = letteredPanel(sheet, box, title, {
    x: {
      range: [-0.5, questions.length - 0.5],
      ticks: { at: questions.map((_, i) => i), text: names },
    },
    y: ACCURACY,
  });
  const offsets = shifts(NATURAL_ARMS.length, 0.44);
  for (const [i, arm] of NATURAL_ARMS.entries()) {
    const at = questions.flatMap((q, k) =>
      q.arms.filter((a) => a.arm === arm).map((a) => ({ k, accuracy: a.accuracy, name: q.name }))
    );
    if (at.length === 0) continue;
    const x = at.map(({ k }) => k + offsets[i]);
    sheet.data.push(
      points(panel, arm, x, at.map((p) => p.accuracy), at.map((p) => p.name)),
    );
  }
  chanceMarks(sheet, panel, questions.map((q) => q.chance));
  const seen = new Set(questions.flatMap((q) => q.arms.map((a) => a.arm)));
  missing(sheet, box, NATURAL_ARMS.filter((arm) => !seen.has(arm)));
}

/** One dashed mark per category, named once at the right edge. */
function chanceMarks(sheet: Sheet, panel: Panel, chances: number[]): void {
  sheet.data.push(trace(panel, {
    name: "chance",
    mode: "lines",
    x: chances.flatMap((_, i) => [i - 0.38, i + 0.38, null]) as number[],
    y: chances.flatMap((c) => [c, c, null]) as number[],
    line: { color: INK.faint, dash: "dot", width: 1.2 },
    connectgaps: false,
  }));
  const suffix = panel.index === 1 ? "" : String(panel.index);
  (sheet.layout.annotations as object[]).push({
    text: "chance",
    x: chances.length - 0.5,
    y: chances[chances.length - 1],
    xref: `x${suffix}`,
    yref: `y${suffix}`,
    xanchor: "right",
    yanchor: "top",
    showarrow: false,
    borderpad: 0,
    font: { color: INK.faint, size: FONT_SIZE * 0.9 },
  });
}

function missing(sheet: Sheet, box: Box, arms: string[]): void {
  if (arms.length === 0) return;
  const at = { left: box.left + 4, top: box.top + 12 };
  addText(sheet.layout, `missing: ${arms.join(", ")}`, at, { font: { color: INK.faint } });
}

/** One line of the difference panel. */
interface Difference {
  world: Gate["world"];
  label: string;
  estimate: Estimate;
}

/** The paired differences between arms that a result has, in the order they are drawn. */
export function differencesOf({ planted, natural }: DemoResult): Difference[] {
  const lines: Difference[] = [];
  if (planted) {
    const { starved, others } = planted.difference;
    lines.push({ world: "planted", label: `planted: ${planted.starved}`, estimate: starved });
    lines.push({ world: "planted", label: "planted: others", estimate: others });
  }
  for (const { name, difference } of natural?.questions ?? []) {
    if (difference) lines.push({ world: "natural", label: name, estimate: difference });
  }
  return lines;
}

/** The differences with their intervals, one line each, around zero. */
export function differencePanel(sheet: Sheet, result: DemoResult, box: Box): void {
  const lines = differencesOf(result);
  const rows = lines.map((_, i) => lines.length - 1 - i); // first line on top
  const ends = lines.flatMap(({ estimate: e }) => [e.mean, e.low ?? e.mean, e.high ?? e.mean]);
  const least = Math.min(-0.02, ...ends);
  const most = Math.max(0.02, ...ends);
  const room = 0.06 * (most - least);
  const range: [number, number] = [least - room, most + room];
  const panel = letteredPanel(sheet, box, "Paired difference, joint − und", {
    x: {
      title: "points of accuracy (right: joint is better)",
      range,
      ticks: differenceTicks(range),
      grid: true,
      zero: true,
    },
    y: {
      range: [-0.7, lines.length - 0.3],
      ticks: { at: rows, text: lines.map((l) => escapeHtml(l.label)) },
    },
  }, box.left - 84);
  for (const world of ["planted", "natural"] as const) {
    const chosen = lines.map((line, i) => ({ ...line, y: rows[i] })).filter((l) =>
      l.world === world
    );
    if (chosen.length === 0) continue;
    const conclusive = result.gates.some((g) => g.world === world && g.passed);
    const color = conclusive ? ARM_STYLES.joint.color : INK.faint;
    const bounded = chosen.some((l) => l.estimate.low !== undefined);
    sheet.data.push(trace(panel, {
      name: `joint − und, ${world}`,
      mode: "markers",
      x: chosen.map((l) => l.estimate.mean),
      y: chosen.map((l) => l.y),
      text: chosen.map((l) => l.label),
      marker: { color, symbol: conclusive ? "square" : "square-open", size: 6 },
      ...(bounded && {
        error_x: {
          type: "data",
          symmetric: false,
          array: chosen.map(({ estimate: e }) => (e.high ?? e.mean) - e.mean),
          arrayminus: chosen.map(({ estimate: e }) => e.mean - (e.low ?? e.mean)),
          color,
          thickness: 1.2,
          width: 2.5,
        },
      }),
    } as Series));
    const below = Math.min(...chosen.map((l) => l.y)) - 0.5;
    if (below > 0) {
      addLine(sheet.layout, panel, [range[0], below], [range[1], below], { dash: "dot" });
    }
    verdictText(sheet, result.gates, world, panel, chosen);
  }
}

/** At most seven round marks, in points with their sign. */
function differenceTicks([low, high]: [number, number]): { at: number[]; text: string[] } {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((s) => (high - low) / s < 7) ?? 1;
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  const at = Array.from({ length: count }, (_, i) => (first + i) * step);
  const signed = (v: number) => `${v < 0 ? "−" : v > 0 ? "+" : ""}${Math.round(Math.abs(v) * 100)}`;
  return { at, text: at.map(signed) };
}

/** Writes the gate's verdict beside the world's lines. */
function verdictText(
  sheet: Sheet,
  gates: readonly Gate[],
  world: Gate["world"],
  panel: Panel,
  lines: { y: number }[],
): void {
  const text = verdict(gates, world).replace(": ", ":<br>").replace("tion ", "tion<br>");
  (sheet.layout.annotations as object[]).push({
    text: `<i>${text}</i>`,
    x: (panel.box.left + panel.box.width + 6) / sheet.layout.width,
    y: (lines[0].y + lines[lines.length - 1].y) / 2,
    xref: "paper",
    yref: `y${panel.index}`,
    xanchor: "left",
    yanchor: "middle",
    align: "left",
    showarrow: false,
    borderpad: 0,
  });
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
