// The demo's figure: planted world, paired differences with the gate's verdict, natural world by question, probes by
// depth, training curves, pictures. Each part is a function that fills a rectangle; the page stacks them.

import {
  differencePanel,
  differencesOf,
  NATURAL_ARMS,
  naturalPanel,
  PLANTED_ARMS,
  plantedPanel,
} from "./demo_accuracy.ts";
import { demoAlt, demoCaption } from "./demo_caption.ts";
import { curvePanels, LABELS, probePanels, samplePanel } from "./demo_course.ts";
import type { DemoResult } from "./demo_result.ts";
import { escapeHtml, type Figure, FONT_SIZE, WIDTHS, wrapText } from "./figure.ts";
import { addText, legend, openSheet, type Sheet } from "./sheet.ts";

const LEFT = 52; // room for a y axis
const RIGHT = WIDTHS.page - 16;
const SPAN = { left: LEFT, right: RIGHT };
const HEAD = 72; // title, legend, first panel titles
const TITLE = "Does learning to generate improve understanding?";
const CAPTION_SIZE = FONT_SIZE * 0.9; // lines of it are 13 px apart
const CAPTION_PITCH = 13;
const GAP = 62; // between the end of one row's axes and the next row's: tick labels, axis title, panel title

/**
 * Draws a demo's result.
 *
 * @throws {RangeError} If an arm has no fixed look
 */
export function demoFigure(result: DemoResult): Figure {
  const rows = rowsOf(result);
  const body = rows.reduce((sum, row) => sum + row.height + GAP, HEAD) - GAP + 30;
  // How many panels there are is known once they are drawn; the caption's height depends on it.
  const { letters } = drawPage(result, rows, body);
  const caption = demoCaption(result, letters);
  const lines = wrapText(caption, WIDTHS.page - 24, CAPTION_SIZE);
  const sheet = drawPage(result, rows, body + lines.length * CAPTION_PITCH + 12);
  for (const [i, line] of lines.entries()) {
    const at = { left: 12, top: body + i * CAPTION_PITCH };
    addText(sheet.layout, escapeHtml(line), at, { yanchor: "top", font: { size: CAPTION_SIZE } });
  }
  const { data, layout } = sheet;
  return { title: TITLE, data, layout, caption, captionDrawn: true, alt: demoAlt(result) };
}

/** Everything but the caption, on a page of the given height. */
function drawPage(result: DemoResult, rows: Row[], height: number): Sheet {
  const sheet = openSheet(WIDTHS.page, height);
  addText(sheet.layout, `<b>${TITLE}</b>`, { left: 10, top: 8 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  const arms = [...PLANTED_ARMS, ...NATURAL_ARMS, ...result.curves.map((c) => c.arm)];
  const drawn = [...new Set(arms)].filter((arm) => armsIn(result).has(arm));
  sheet.data.push(...legend(sheet.layout, ++sheet.axes, drawn, { left: 12, top: 26 }));

  let top = HEAD;
  for (const row of rows) {
    row.draw(sheet, top);
    top += row.height + GAP;
  }
  if (result.draft) {
    addText(sheet.layout, "DRAFT", { left: sheet.layout.width / 2, top: height / 2 }, {
      xanchor: "center",
      yanchor: "middle",
      textangle: "-30",
      font: { size: 120, color: "rgba(0,0,0,0.12)" },
    });
  }
  return sheet;
}

interface Row {
  height: number;
  draw(sheet: Sheet, top: number): void;
}

function rowsOf(result: DemoResult): Row[] {
  const rows: Row[] = [];
  const lines = differencesOf(result).length;
  if (result.planted || lines > 0) {
    const height = Math.max(120, 13 * lines + 10);
    rows.push({
      height,
      draw(sheet, top) {
        const split = result.planted ? LEFT + 236 : LEFT - 60;
        if (result.planted) plantedPanel(sheet, result, { left: LEFT, top, width: 224, height });
        if (lines === 0) return;
        const left = split + 118;
        differencePanel(sheet, result, { left, top, width: RIGHT - 78 - left, height });
      },
    });
  }
  if (result.natural) {
    const box = { left: LEFT, width: RIGHT - LEFT, height: 120 };
    rows.push({ height: 120, draw: (sheet, top) => naturalPanel(sheet, result, { ...box, top }) });
  }
  if (result.probes.length > 0) {
    rows.push({ height: 110, draw: (sheet, top) => probePanels(sheet, result, SPAN, top, 110) });
  }
  if (result.curves.length > 0) {
    rows.push({ height: 100, draw: (sheet, top) => curvePanels(sheet, result, SPAN, top, 100) });
  }
  const samples = result.samples;
  if (samples) {
    const cell = Math.min(64, (RIGHT - LABELS) / samples.prompts.length);
    const height = Math.round(cell * samples.rows.length + 14);
    rows.push({ height, draw: (sheet, top) => samplePanel(sheet, samples, top, cell) });
  }
  return rows;
}

function armsIn(result: DemoResult): Set<string> {
  return new Set([
    ...(result.planted?.arms ?? []).map((a) => a.arm),
    ...(result.natural?.questions ?? []).flatMap((q) => q.arms.map((a) => a.arm)),
    ...result.probes.flatMap((p) => p.arms.map((a) => a.arm)),
    ...result.curves.map((c) => c.arm),
  ]);
}
