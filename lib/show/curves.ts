// Loss curves of one training while it runs: the figure a notebook redraws, and the plot of a finished run.

import { type Figure, FONT_SIZE, WIDTHS } from "./figure.ts";
import { addText, curve, legend, letteredPanel, openSheet, solidFirst } from "./sheet.ts";

/** Losses of one arm so far; null where a step had none. */
export interface LossCurve {
  arm: string;
  steps: readonly number[];
  /** Cross-entropy, nats per answer token. */
  ce: readonly (number | null)[];
  /** Rectified-flow mean squared error; empty without generation. */
  flow?: readonly (number | null)[];
}

/**
 * Cross-entropy and flow loss by step, one panel each (no flow, one panel).
 *
 * @throws {RangeError} If an arm has no fixed look
 */
export function lossFigure(curves: readonly LossCurve[], title = "Training"): Figure {
  const flowing = curves.filter((c) => c.flow?.some((v) => v !== null));
  const sheet = openSheet(WIDTHS.page, 232);
  addText(sheet.layout, `<b>${title}</b>`, { left: 10, top: 6 }, {
    yanchor: "top",
    font: { size: FONT_SIZE * 1.25 },
  });
  const arms = curves.map((c) => c.arm);
  sheet.data.push(...legend(sheet.layout, ++sheet.axes, arms, { left: 12, top: 26 }));
  const width = flowing.length > 0 ? 256 : 564;
  const box = { left: 56, top: 72, width, height: 116 };
  const x = { title: "step" };
  const answers = letteredPanel(sheet, box, "Answers", {
    x,
    y: { title: "cross-entropy (nats)", grid: true, room: 38 },
  });
  for (const c of solidFirst(curves)) {
    sheet.data.push(curve(answers, c.arm, [...c.steps], [...c.ce]));
  }
  if (flowing.length > 0) {
    const flow = letteredPanel(sheet, { ...box, left: 56 + width + 60 }, "Generation", {
      x,
      y: { title: "flow MSE", grid: true, room: 38 },
    });
    for (const c of solidFirst(flowing)) {
      sheet.data.push(curve(flow, c.arm, [...c.steps], [...c.flow ?? []]));
    }
  }
  const latest = curves.map((c) => {
    const parts = [`cross-entropy ${last(c.ce)}`];
    if (c.flow && c.flow.length > 0) parts.push(`flow ${last(c.flow)}`);
    return `${c.arm} at step ${c.steps.at(-1) ?? 0}: ${parts.join(", ")}`;
  });
  const caption = `${latest.join("; ")}. Lower is better.`;
  return {
    title,
    data: sheet.data,
    layout: sheet.layout,
    caption,
    alt: `Losses by step. ${caption}`,
  };
}

function last(values: readonly (number | null)[]): string {
  return values.findLast((v) => v !== null)?.toFixed(3) ?? "none";
}
