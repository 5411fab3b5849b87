// The roofline: attainable rate over arithmetic intensity (Williams, Waterman and Patterson 2009), and where our
// kernels are.

import { escapeHtml, type Figure, INK, type Series, WIDTHS } from "../../lib/show/figure.ts";
import {
  addLine,
  addText,
  type AxisOptions,
  letteredPanel,
  openSheet,
  trace,
} from "../../lib/show/sheet.ts";

/** A measured kernel. */
export interface RooflineRow {
  name: string;
  bound: "arithmetic" | "copy" | "matmul";
  wanted: number;
  /** Part of the bound that was reached. */
  share: number;
  ms: number;
  /** 0 where no arithmetic is counted. */
  gflops: number;
  gbps: number;
  /** Floating-point operations per byte. */
  intensity: number;
  /** What was wrong with its output. */
  wrong?: string;
}

/** Adapter and ceilings of a roofline. */
export interface RooflineFacts {
  adapter: string;
  date: string;
  commit: string;
  gflops: number;
  gbps: { copy: number };
}

const COLORS = { product: "#0072B2", other: "#D55E00", stream: "#009E73" };
const BAR = 18; // CSS pixels from bar to bar
/** What streaming kernels should reach of a copy, in percent. */
const WANTED = 70;

/** Left: kernels with counted arithmetic under the roof. Right: streaming kernels as shares of the copy kernel. */
export function rooflineFigure(rows: readonly RooflineRow[], facts: RooflineFacts): Figure {
  const { gflops, gbps } = facts;
  const counted = rows.filter((row) => row.gflops > 0);
  const streaming = rows.filter((row) => row.bound === "copy");
  const at = `${facts.adapter}, ${facts.date}, commit ${facts.commit}`;
  const height = Math.max(180, BAR * streaming.length);
  const sheet = openSheet(WIDTHS.page, 34 + height + 56);
  const box = { left: 52, top: 34, width: 270, height };

  const ridge = gflops / gbps.copy;
  const most = 2 * Math.max(ridge, ...counted.map(({ intensity }) => intensity));
  const least = Math.min(ridge, ...counted.map(({ intensity }) => intensity)) / 3;
  const low = Math.min(gflops / 10, ...counted.map((row) => row.gflops / 4));
  const roof = letteredPanel(sheet, box, "Rates under the roof", {
    x: logAxis("floating-point operations per byte", [least, most]),
    y: logAxis("GFLOP/s", [low, 1.5 * gflops]),
  });
  sheet.data.push(trace(roof, {
    mode: "lines",
    name: "roof",
    x: [low / gbps.copy, ridge, most],
    y: [low, gflops, gflops],
    line: { color: INK.axis, width: 1.5 },
    hoverinfo: "skip",
  }));
  const kinds = [
    ["arithmetic", "matrix products", COLORS.product, "circle"],
    ["matmul", "attention, convolution", COLORS.other, "diamond"],
  ] as const;
  kinds.forEach(([kind, name, color, symbol], i) => {
    const some = counted.filter(({ bound }) => bound === kind);
    sheet.data.push(trace(roof, {
      mode: "markers",
      name,
      x: some.map(({ intensity }) => intensity),
      y: some.map((row) => row.gflops),
      hovertext: some.map((row) => `${escapeHtml(row.name)}: ${row.gflops.toFixed(1)} GFLOP/s`),
      hoverinfo: "text",
      marker: { color, symbol, size: 8 },
    }));
    const top = box.top + height - 34 + 14 * i;
    const mark = kind === "arithmetic" ? "●" : "◆";
    const text = `<span style="color:${color}">${mark}</span> ${name}`;
    addText(sheet.layout, text, { left: box.left + box.width - 140, top });
  });

  const names = streaming.map(({ name }) => name.replace(/ [\d× ]+$/, ""));
  const slots = streaming.map((_, i) => streaming.length - 1 - i);
  const right = 128;
  const barBox = { left: 460, top: 34, width: WIDTHS.page - 460 - 14, height };
  const bars = letteredPanel(sheet, barBox, "Streaming kernels", {
    x: { title: "% of a copy kernel's GB/s", range: [0, Math.max(105, ...shares(streaming))] },
    y: { range: [-0.5, streaming.length - 0.5], ticks: { at: slots, text: names } },
  }, barBox.left - right + 20);
  addLine(sheet.layout, bars, [WANTED, -0.5], [WANTED, streaming.length - 0.5], { dash: "dash" });
  sheet.data.push(trace(bars, {
    type: "bar",
    orientation: "h",
    name: "streaming kernels",
    x: shares(streaming),
    y: slots,
    text: names,
    textposition: "none",
    width: 0.7,
    marker: { color: COLORS.stream },
  } as Series));

  return {
    title: "How close the kernels come to the adapter",
    data: sheet.data,
    layout: sheet.layout,
    caption: `Roof: ${gflops.toFixed(0)} GFLOP/s of multiply-adds in registers and ` +
      `${gbps.copy.toFixed(1)} GB/s of a copy kernel. Dashed: ${WANTED} % of the copy. ${at}.`,
    alt: `Roofline on ${facts.adapter}: matrix products reach ` +
      counted.filter(({ bound }) => bound === "arithmetic")
        .map((row) => `${row.gflops.toFixed(0)}`).join(", ") +
      ` of ${gflops.toFixed(0)} GFLOP/s; streaming kernels ` +
      streaming.map((row, i) => `${names[i]} ${(100 * row.share).toFixed(0)} %`).join(", ") +
      " of a copy kernel.",
  };
}

const shares = (rows: readonly RooflineRow[]) => rows.map(({ share }) => 100 * share);

/** A logarithmic axis with ticks at 1, 2 and 5 of every decade; from and to in its own units. */
function logAxis(title: string, [from, to]: readonly [number, number]): AxisOptions {
  const at: number[] = [];
  for (let decade = 10 ** Math.floor(Math.log10(from)); decade <= to; decade *= 10) {
    for (const step of [1, 2, 5]) {
      if (step * decade >= from && step * decade <= to) at.push(step * decade);
    }
  }
  return {
    title,
    log: true,
    grid: true,
    range: [Math.log10(from), Math.log10(to)],
    ticks: { at, text: at.map((v) => String(Number(v.toPrecision(3)))) },
  };
}
