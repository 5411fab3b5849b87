// Shares of tasks by stage as bars, what was asked for beside what was drawn: a panel of a training's figure.

import { escapeHtml, FONT_SIZE, type Series, textWidth, WIDTHS } from "./figure.ts";
import { addText, letteredPanel, type Panel, type Sheet, trace } from "./sheet.ts";
import type { StageCourse } from "./stage_losses.ts";

const TASK_COLORS: Record<string, string> = {
  text: "#999999",
  i2t: "#0072B2",
  t2i: "#D55E00",
  interleaved: "#009E73",
};
const LEFT = 18; // CSS pixels before the title

/** CSS pixels of the panel without its ticks. */
export const mixHeight = (stages: readonly StageCourse[]) => 24 * stages.length;

/** Draws two bars a stage: the mix asked for above, the mix drawn below. @param top CSS pixels */
export function mixPanel(sheet: Sheet, stages: readonly StageCourse[], top: number): void {
  const names = Math.max(...stages.map(({ name }) => textWidth(`${name}, asked`, FONT_SIZE)));
  const left = Math.min(260, Math.max(100, names + 22));
  const box = { left, top, width: WIDTHS.page - left - 24, height: mixHeight(stages) };
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
    LEFT,
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
  let x = LEFT + 230;
  for (const task of tasks.filter((t) => stages.some((s) => (s.asked[t] ?? 0) > 0))) {
    addText(sheet.layout, `<b>■</b> ${task}`, { left: x, top: top - 10 }, {
      font: { color: TASK_COLORS[task] },
    });
    x += textWidth(`■ ${task}`, FONT_SIZE) + 16;
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
