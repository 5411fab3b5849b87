// The demo figure's panels of what happened inside: probes by depth, training curves, pictures.

import type { Layout } from "plotly.js";
import type { DemoResult, SampleResult } from "./demo_result.ts";
import { escapeHtml, FONT_SIZE, type Series, textWidth } from "./figure.ts";
import { pngAddress, strip } from "./png.ts";
import {
  addLine,
  addText,
  curve,
  letteredPanel,
  nextLetter,
  points,
  type Sheet,
  solidFirst,
} from "./sheet.ts";

/** Room for the names of picture rows, in CSS pixels. */
export const LABELS = 78;

/** The horizontal space panels share, in CSS pixels. */
export interface Span {
  left: number;
  right: number;
}

/** Accuracy of linear probes layer by layer, a panel per probed factor. */
export function probePanels(
  sheet: Sheet,
  { probes }: DemoResult,
  span: Span,
  top: number,
  height: number,
): void {
  for (const [i, probe] of probes.entries()) {
    const box = { ...column(span, i, probes.length), top, height };
    const every = Math.ceil(probe.sites.length * 44 / box.width); // px per label
    const at = probe.sites.map((_, k) => k).filter((k) => k % every === 0);
    const panel = letteredPanel(sheet, box, `Probe: ${escapeHtml(probe.target)}`, {
      x: {
        title: "depth",
        range: [-0.3, probe.sites.length - 0.7],
        ticks: { at, text: at.map((k) => siteLabel(probe.sites[k])) },
      },
      y: { ...spanOf(probe), title: escapeHtml(probe.metric), grid: true, room: 34 },
    });
    for (const { arm, values } of probe.arms) {
      const x = values.map((_, k) => k);
      const line = curve(panel, arm, x, values.map((v) => v.mean), { markers: true });
      const dots = points(panel, arm, x, values, [...probe.sites]);
      const errors = (dots as Record<string, unknown>).error_y;
      sheet.data.push(
        {
          ...line,
          text: [...probe.sites],
          ...(errors !== undefined && { error_y: errors }),
        } as Series,
      );
    }
    const end = probe.sites.length - 0.7;
    addLine(sheet.layout, panel, [-0.3, probe.chance], [end, probe.chance], { dash: "dot" });
  }
}

/** `und.layers.2.out` → "und 2", `connector.out` → "conn.". */
function siteLabel(site: string): string {
  const layer = /^(\w+)\.layers\.(\d+)\.out$/.exec(site);
  if (layer) return `${layer[1]} ${layer[2]}`;
  return escapeHtml(site.replace(/\.out$/, "").replace("connector", "conn."));
}

/** From chance or the lowest value to the highest, with room. */
function spanOf(probe: DemoResult["probes"][number]): { range: [number, number] } {
  const all = probe.arms.flatMap((a) =>
    a.values.flatMap((v) => [v.low ?? v.mean, v.high ?? v.mean])
  );
  const low = Math.min(probe.chance, ...all);
  const high = Math.max(probe.chance, ...all);
  const room = Math.max(0.02, 0.08 * (high - low));
  return { range: [low - room, high + room] };
}

/** Losses over training steps, a panel per objective and world. */
export function curvePanels(
  sheet: Sheet,
  { curves }: DemoResult,
  span: Span,
  top: number,
  height: number,
): void {
  const worlds = [...new Set(curves.map((c) => c.world))];
  const charts = (["ce", "flow"] as const).flatMap((kind) =>
    worlds.map((world) => ({
      kind,
      world,
      lines: curves.filter((c) => c.world === world && c[kind].some((v) => v !== null)),
    }))
  ).filter((chart) => chart.lines.length > 0);
  for (const [i, { kind, world, lines }] of charts.entries()) {
    const box = { ...column(span, i, charts.length), top, height };
    const name = kind === "ce" ? "answers" : "flow";
    const short = capital(escapeHtml(world.replace(/ world$/, "")));
    const panel = letteredPanel(sheet, box, `${short}: ${name}`, {
      x: { title: "step" },
      y: { title: kind === "ce" ? "cross-entropy (nats)" : "flow MSE", grid: true, room: 34 },
    });
    for (const c of solidFirst(lines)) sheet.data.push(curve(panel, c.arm, c.steps, c[kind]));
  }
}

/** The i-th of n equal columns, each with room for its y axis. */
function column({ left, right }: Span, i: number, n: number): { left: number; width: number } {
  const between = 52;
  const width = (right - left - (n - 1) * between) / n;
  return { left: left + i * (width + between), width };
}

/** Generated pictures beside real ones of the same prompt, a row per arm. */
export function samplePanel(sheet: Sheet, samples: SampleResult, top: number, pitch: number): void {
  const { layout } = sheet;
  const title = `${nextLetter(sheet)} Pictures for the same prompts`;
  addText(layout, `<b>${title}</b>`, { left: 12, top: top - 10 });
  // Stored at about twice the size shown; the gap is part of the pitch.
  const image = strip(samples.rows.map((row) => row.pictures), { cell: 96, gap: 4 });
  const scale = pitch * samples.prompts.length / (image.width + 4);
  (layout.images as Partial<NonNullable<Layout["images"]>[number]>[]).push({
    source: pngAddress(image),
    xref: "paper",
    yref: "paper",
    x: LABELS / layout.width,
    y: 1 - (top + 14) / layout.height,
    sizex: image.width * scale / layout.width,
    sizey: image.height * scale / layout.height,
    sizing: "stretch",
    xanchor: "left",
    yanchor: "top",
    layer: "above",
  });
  for (const [i, row] of samples.rows.entries()) {
    const at = { left: LABELS - 6, top: top + 14 + (i + 0.5) * pitch };
    addText(layout, escapeHtml(row.label), at, { xanchor: "right", yanchor: "middle" });
  }
  for (const [i, prompt] of samples.prompts.entries()) {
    const at = { left: LABELS + (i + 0.5) * pitch - 2 * scale, top: top + 12 };
    addText(layout, escapeHtml(shorten(prompt, pitch - 4)), at, { xanchor: "center" });
  }
}

function shorten(text: string, width: number): string {
  let short = text;
  while (short.length > 1 && textWidth(short, FONT_SIZE) > width) {
    short = `${short.replace(/…$/, "").slice(0, -1)}…`;
  }
  return short;
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
