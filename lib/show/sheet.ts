// A page of panels: axes, lines, points and text placed in CSS pixels from the top left corner. Plotly's own
// titles and legend are placed by measuring text, which only a browser can do, so this page places them itself.

import type { Annotations, Shape } from "plotly.js";
import {
  armStyle,
  escapeHtml,
  type Estimate,
  type Figure,
  FONT,
  FONT_SIZE,
  INK,
  plain,
  type Series,
  textWidth,
} from "./figure.ts";

/** Plotly's layout with a size. */
export type PageLayout = Figure["layout"];

/** A figure being put together. */
export interface Sheet {
  layout: PageLayout;
  data: Series[];
  /** Pairs of axes used so far. */
  axes: number;
  /** Panels lettered so far. */
  letters: number;
}

/** An empty sheet of `width` × `height` CSS pixels. */
export function openSheet(width: number, height: number): Sheet {
  return { layout: page(width, height), data: [], axes: 0, letters: 0 };
}

/** The next panel letter with its brackets: "(a)". */
export function nextLetter(sheet: Sheet): string {
  return `(${String.fromCharCode(97 + sheet.letters++)})`;
}

/** A white page at 8 pt with no margins of its own: panels place themselves. */
function page(width: number, height: number): PageLayout {
  return {
    width,
    height,
    autosize: false,
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    font: { family: FONT, size: FONT_SIZE, color: "#1a1a1a" },
    margin: { l: 0, r: 0, t: 0, b: 0, pad: 0 },
    showlegend: false,
    hovermode: "closest",
    annotations: [],
    shapes: [],
    images: [],
  };
}

/** A rectangle of the page in CSS pixels from its top left corner. */
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** One pair of axes on a page. */
export interface Panel {
  /** 1, 2, …: Plotly's number of both axes. */
  index: number;
  box: Box;
  /** What the panel shows; the csv names rows by it. */
  title: string;
}

/** Axis settings a panel may have. */
export interface AxisOptions {
  title?: string;
  range?: [number, number];
  ticks?: { at: number[]; text: string[] };
  tickFormat?: string;
  grid?: boolean;
  /** Draw a line at zero. */
  zero?: boolean;
  log?: boolean;
  /** CSS pixels from the axis to the middle of a vertical title. Default: 36. */
  room?: number;
}

/** Adds a pair of axes with their titles to a layout; the panel's own title is the caller's. */
export function addAxes(
  layout: PageLayout,
  panel: Panel,
  axes: { x: AxisOptions; y: AxisOptions },
): void {
  const { left, top, width, height } = panel.box;
  const suffix = panel.index === 1 ? "" : String(panel.index);
  const common = {
    showline: true,
    linecolor: INK.axis,
    linewidth: 1,
    ticks: "outside" as const,
    ticklen: 3,
    tickcolor: INK.axis,
    gridcolor: INK.grid,
    automargin: false,
    tickangle: 0,
    nticks: width < 160 ? 4 : 7,
    ticklabeloverflow: "allow" as const, // measured in a browser only
    fixedrange: false,
  };
  const axis = (o: AxisOptions) => ({
    ...common,
    showgrid: o.grid ?? false,
    zeroline: o.zero ?? false,
    zerolinecolor: INK.axis,
    zerolinewidth: 1.2,
    ...(o.range && { range: o.range }),
    ...(o.ticks && { tickmode: "array" as const, tickvals: o.ticks.at, ticktext: o.ticks.text }),
    ...(o.tickFormat && { tickformat: o.tickFormat }),
    ...(o.log && { type: "log" as const }),
  });
  const settings = layout as Record<string, unknown>;
  settings[`xaxis${suffix}`] = {
    ...axis(axes.x),
    domain: [left / layout.width, (left + width) / layout.width],
    anchor: `y${suffix}`,
  };
  settings[`yaxis${suffix}`] = {
    ...axis(axes.y),
    domain: [1 - (top + height) / layout.height, 1 - top / layout.height],
    anchor: `x${suffix}`,
  };
  if (axes.x.title) {
    addText(layout, axes.x.title, { left: left + width / 2, top: top + height + 19 }, {
      xanchor: "center",
      yanchor: "top",
    });
  }
  if (axes.y.title) {
    addText(layout, axes.y.title, { left: left - (axes.y.room ?? 36), top: top + height / 2 }, {
      xanchor: "center",
      yanchor: "middle",
      textangle: "-90",
    });
  }
}

/** Adds the next panel: letter and title in bold, `above` CSS pixels over its axes. */
export function letteredPanel(
  sheet: Sheet,
  box: Box,
  title: string,
  axes: { x: AxisOptions; y: AxisOptions },
  titleLeft = box.left - 40,
  above = 10,
): Panel {
  const panel = { index: ++sheet.axes, box, title: `${nextLetter(sheet)} ${title}` };
  addAxes(sheet.layout, panel, axes);
  addText(sheet.layout, `<b>${panel.title}</b>`, { left: titleLeft, top: box.top - above });
  return panel;
}

/** Text on the page; `left`, `top` in CSS pixels, anchored at its bottom left unless told. */
export function addText(
  layout: PageLayout,
  text: string,
  at: { left: number; top: number },
  options: Partial<Annotations> = {},
): void {
  (layout.annotations as Partial<Annotations>[]).push({
    text,
    xref: "paper",
    yref: "paper",
    x: at.left / layout.width,
    y: 1 - at.top / layout.height,
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
    align: "left",
    borderpad: 0,
    ...options,
  });
}

/** A line in a panel's own coordinates. */
export function addLine(
  layout: PageLayout,
  panel: Panel,
  from: [number, number],
  to: [number, number],
  line: Partial<Shape["line"]>,
): void {
  const suffix = panel.index === 1 ? "" : String(panel.index);
  (layout.shapes as Partial<Shape>[]).push({
    type: "line",
    xref: `x${suffix}` as Shape["xref"],
    yref: `y${suffix}` as Shape["yref"],
    x0: from[0],
    y0: from[1],
    x1: to[0],
    y1: to[1],
    line: { color: INK.faint, width: 1, ...line },
    layer: "below",
  });
}

/** A trace bound to a panel; the meta field names the panel in the csv. */
export function trace(panel: Panel, data: Series): Series {
  const suffix = panel.index === 1 ? "" : String(panel.index);
  return {
    type: "scatter",
    xaxis: `x${suffix}`,
    yaxis: `y${suffix}`,
    meta: plain(panel.title),
    ...data,
  } as Series;
}

/** Points with 95 % brackets in an arm's look, at given places of the x axis. */
export function points(
  panel: Panel,
  arm: string,
  x: number[],
  estimates: Estimate[],
  labels: string[] = [],
): Series {
  const { color, symbol } = armStyle(arm);
  const bounded = estimates.some((e) => e.low !== undefined && e.high !== undefined);
  return trace(panel, {
    name: arm,
    mode: "markers",
    x,
    y: estimates.map((e) => e.mean),
    ...(labels.length > 0 && { text: labels }),
    marker: { color, symbol, size: 4.5, line: { color, width: 1.2 } },
    ...(bounded && {
      error_y: {
        type: "data",
        symmetric: false,
        array: estimates.map((e) => (e.high ?? e.mean) - e.mean),
        arrayminus: estimates.map((e) => e.mean - (e.low ?? e.mean)),
        color,
        thickness: 1.2,
        width: 3.5,
      },
    }),
  } as Series);
}

/** A curve in an arm's look. */
export function curve(
  panel: Panel,
  arm: string,
  x: number[],
  y: (number | null)[],
  options: { markers?: boolean; faint?: boolean } = {},
): Series {
  const { color, symbol, dash } = armStyle(arm);
  return trace(panel, {
    name: arm,
    mode: options.markers ? "lines+markers" : "lines",
    x,
    y: y as number[],
    line: { color, dash, width: options.faint ? 0.8 : 1.4 },
    ...(options.markers && { marker: { color, symbol, size: 5, line: { color, width: 1.2 } } }),
  } as Series);
}

/** A panel without visible axes, for samples of lines and markers; x runs over its CSS pixels, y from 0 to 1. */
export function hiddenPanel(layout: PageLayout, index: number, box: Box): Panel {
  const panel: Panel = { index, title: "", box };
  addAxes(layout, panel, { x: { range: [0, box.width] }, y: { range: [0, 1] } });
  const settings = layout as unknown as Record<string, object>;
  for (const axis of ["xaxis", "yaxis"]) {
    const key = `${axis}${index === 1 ? "" : index}`;
    settings[key] = { ...settings[key], visible: false, fixedrange: true };
  }
  return panel;
}

/**
 * A legend of arms in one row, drawn with the arms' own markers and dashes on invisible axes.
 * Returns the traces to add to the figure's data.
 */
export function legend(
  layout: PageLayout,
  index: number,
  arms: readonly string[],
  at: { left: number; top: number },
): Series[] {
  const sample = 26; // CSS pixels of line before each name
  const widths = arms.map((arm) => sample + 4 + textWidth(arm, FONT_SIZE) + 14);
  const width = widths.reduce((n, w) => n + w, 0);
  const panel = hiddenPanel(layout, index, { ...at, width, height: 12 });
  let x = 0;
  return arms.map((arm, i) => {
    const entry = curve(panel, arm, [x, x + sample / 2, x + sample], [0.5, 0.5, 0.5], {
      markers: true,
    });
    const marker = { ...entry.marker, size: 6, opacity: [0, 1, 0] };
    addText(layout, escapeHtml(arm), { left: at.left + x + sample + 4, top: at.top + 6 }, {
      yanchor: "middle",
    });
    x += widths[i];
    return { ...entry, marker, hoverinfo: "skip" } as Series;
  });
}

/** Curves in drawing order: solid ones first, so that dashes over them stay visible where arms agree. */
export function solidFirst<T extends { arm: string }>(curves: readonly T[]): T[] {
  const rank = (arm: string) => armStyle(arm).dash === "solid" ? 0 : 1;
  return curves.toSorted((a, b) => rank(a.arm) - rank(b.arm));
}
