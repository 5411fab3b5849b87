// Names of stages over a plot, where no curve is. A name that is wider than its stage is a number there, and a key
// says what the numbers mean: no stage goes without a label.

import { escapeHtml, FONT_SIZE, INK, textWidth } from "./figure.ts";
import { addText, type Box, type Sheet } from "./sheet.ts";

/** A stage as a stretch of the steps that a plot shows. */
export interface StageSpan {
  name: string;
  /** Steps before it, and after its last one. */
  from: number;
  to: number;
}

/** CSS pixels over a plot that labels take. */
export const LABEL_ROOM = 15;

const GAP = 5; // CSS pixels between labels, and between a name and its borders

/**
 * What stands over each stage: its name, or its number from 1 where some name is too wide; "2 unified" where there are
 * numbers and the name has room.
 *
 * @param pixels CSS pixels per step
 */
export function stageLabels(stages: readonly StageSpan[], pixels: number): string[] {
  const fits = (text: string, { from, to }: StageSpan) =>
    textWidth(text, FONT_SIZE) + 2 * GAP <= (to - from) * pixels;
  if (stages.length < 2 || stages.every((stage) => fits(stage.name, stage))) {
    return stages.map(({ name }) => name);
  }
  return stages.map((stage, i) => {
    const both = `${i + 1} ${stage.name}`;
    return fits(both, stage) ? both : String(i + 1);
  });
}

/** `1 foundation, 2 instruction`: what the numbers mean, if there are any. */
export function stageKey(stages: readonly StageSpan[], labels: readonly string[]): string {
  if (stages.every(({ name }, i) => labels[i] === name)) return "";
  return stages.map(({ name }, i) => `${i + 1} ${name}`).join(", ");
}

/**
 * Writes labels over a plot, each in the middle of its stage, or beside its neighbour where that is taken.
 *
 * @param pixels CSS pixels per step
 */
export function drawStageLabels(
  sheet: Sheet,
  box: Box,
  stages: readonly StageSpan[],
  labels: readonly string[],
  pixels: number,
): void {
  const widths = labels.map((label) => textWidth(label, FONT_SIZE));
  const middles = stages.map(({ from, to }) => (from + to) / 2 * pixels);
  for (const [i, left] of placeLabels(middles, widths, box.width).entries()) {
    addText(sheet.layout, escapeHtml(labels[i]), {
      left: box.left + left + widths[i] / 2,
      top: box.top - 2,
    }, { xanchor: "center", font: { color: INK.faint } });
  }
}

/** Left edges of labels that do not touch, as near to their middles as that allows; they end at `width`. */
export function placeLabels(
  middles: readonly number[],
  widths: readonly number[],
  width: number,
): number[] {
  const lefts: number[] = [];
  for (const [i, middle] of middles.entries()) {
    const after = i === 0 ? 0 : lefts[i - 1] + widths[i - 1] + GAP;
    lefts.push(Math.max(after, middle - widths[i] / 2));
  }
  let most = width;
  for (let i = lefts.length - 1; i >= 0; i--) {
    lefts[i] = Math.min(lefts[i], most - widths[i]);
    most = lefts[i] - GAP;
  }
  return lefts;
}
