// The roofline: attainable rate over arithmetic intensity (Williams, Waterman and Patterson 2009), and where our
// kernels are.

import { type Figure, type Series, WIDTHS } from "../../lib/show/figure.ts";

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

const COLORS = { roof: "#333333", product: "#0072B2", other: "#D55E00", stream: "#009E73" };

/** Left: kernels with counted arithmetic under the roof. Right: streaming kernels as shares of the copy kernel. */
export function rooflineFigure(rows: readonly RooflineRow[], facts: RooflineFacts): Figure {
  const { gflops, gbps } = facts;
  const counted = rows.filter((row) => row.gflops > 0);
  const streaming = rows.filter((row) => row.bound === "copy");
  const ridge = gflops / gbps.copy;
  const most = Math.max(...counted.map(({ intensity }) => intensity)) * 2;
  const points = (kind: "arithmetic" | "matmul", name: string, color: string, symbol: string) => {
    const some = counted.filter(({ bound }) => bound === kind);
    return {
      type: "scatter",
      mode: "markers",
      name,
      meta: "roofline",
      x: some.map(({ intensity }) => intensity),
      y: some.map((row) => row.gflops),
      text: some.map((row) => `${row.name}: ${row.gflops.toFixed(1)} GFLOP/s`),
      hoverinfo: "text",
      marker: { color, symbol, size: 8 },
    } as Series;
  };
  const data: Series[] = [
    {
      type: "scatter",
      mode: "lines",
      name: "roof",
      meta: "roofline",
      x: [ridge / 8, ridge, most],
      y: [gflops / 8, gflops, gflops],
      line: { color: COLORS.roof, width: 1.5 },
    },
    points("arithmetic", "matrix products", COLORS.product, "circle"),
    points("matmul", "attention, convolution", COLORS.other, "diamond"),
    {
      type: "bar",
      orientation: "h",
      name: "streaming kernels",
      meta: "streams",
      showlegend: false,
      xaxis: "x2",
      yaxis: "y2",
      x: streaming.map(({ share }) => 100 * share).reverse(),
      y: streaming.map(({ name }) => name.replace(/ [\d× ]+$/, "")).reverse(),
      marker: { color: COLORS.stream },
    } as Series,
  ];
  const at = `${facts.adapter}, ${facts.date}, commit ${facts.commit}`;
  return {
    title: "How close the kernels come to the adapter",
    data,
    layout: {
      width: WIDTHS.page,
      height: 330,
      margin: { l: 56, r: 14, t: 14, b: 44 },
      legend: { x: 0.44, y: 0.03, xanchor: "right", yanchor: "bottom" },
      xaxis: {
        domain: [0, 0.44],
        type: "log",
        title: { text: "floating-point operations per byte" },
      },
      yaxis: {
        type: "log",
        title: { text: "GFLOP/s", standoff: 6 },
        tickvals: [1, 2, 5, 10, 20, 50, 100, 1000, 10000],
      },
      xaxis2: {
        domain: [0.7, 1],
        anchor: "y2",
        title: { text: "% of a copy kernel's GB/s" },
        rangemode: "tozero",
      },
      yaxis2: { anchor: "x2" },
      shapes: [{
        type: "line",
        xref: "x2",
        yref: "paper",
        x0: 70,
        x1: 70,
        y0: 0,
        y1: 1,
        line: { color: COLORS.roof, width: 1, dash: "dash" },
      }],
    },
    caption: `Roof: ${gflops.toFixed(0)} GFLOP/s of multiply-adds in registers and ` +
      `${gbps.copy.toFixed(1)} GB/s of a copy kernel. Dashed: 70 % of the copy. ${at}.`,
    alt: `Roofline on ${facts.adapter}: matrix products reach ` +
      counted.filter(({ bound }) => bound === "arithmetic")
        .map((row) => `${row.gflops.toFixed(0)}`).join(", ") +
      ` of ${gflops.toFixed(0)} GFLOP/s; streaming kernels ` +
      streaming.map((row) => `${row.name} ${(100 * row.share).toFixed(0)} %`).join(", ") +
      " of a copy kernel.",
  };
}
