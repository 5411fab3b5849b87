// Writes a figure for every use: a page to explore (html), vector (svg), pixels (png), the plotted numbers (csv) and
// the specification (json). The same figure gives the same bytes; a file has its name only once it is whole.

import { escapeHtml, type Figure, type Series } from "./figure.ts";
import { plotlySource, rasterize, renderSvg } from "./render.ts";
import { writeWhole } from "../write_whole.ts";

/** The formats `saveFigure` writes. */
export type FigureFormat = "html" | "svg" | "png" | "csv" | "json";

/** What to write. */
export interface SaveOptions {
  /** Default: all five. */
  formats?: readonly FigureFormat[];
  /** Kept in the json beside the specification: run folders, hashes. */
  sources?: Record<string, unknown>;
}

/**
 * Writes `<stem>.html .svg .png .csv .json` and returns their paths in that order.
 *
 * @param stem path without extension; its folder is created
 * @throws {RangeError} If the figure has a trace that cannot be drawn without a browser
 */
export async function saveFigure(
  figure: Figure,
  stem: string,
  options: SaveOptions = {},
): Promise<string[]> {
  const formats = options.formats ?? ["html", "svg", "png", "csv", "json"];
  const svg = formats.includes("svg") || formats.includes("png") ? await renderSvg(figure) : "";
  const folder = /^(.*)[\\/][^\\/]*$/.exec(stem)?.[1];
  if (folder) await Deno.mkdir(folder, { recursive: true });
  const paths: string[] = [];
  for (const format of formats) {
    const path = `${stem}.${format}`;
    await writeWhole(path, await contentOf(format, figure, svg, options));
    paths.push(path);
  }
  return paths;
}

async function contentOf(
  format: FigureFormat,
  figure: Figure,
  svg: string,
  options: SaveOptions,
): Promise<string | Uint8Array<ArrayBuffer>> {
  switch (format) {
    case "html":
      return figureHtml(figure, await plotlySource());
    case "svg":
      return svg;
    case "png":
      return await rasterize(svg);
    case "csv":
      return figureCsv(figure);
    case "json":
      return JSON.stringify({ ...figure, sources: options.sources ?? {} }, null, 1) + "\n";
  }
}

/** A page that needs nothing else: Plotly, the figure, its caption. */
export function figureHtml(figure: Figure, plotly: string): string {
  const { title, caption, captionDrawn, alt, data, layout } = figure;
  const spec = JSON.stringify({ data, layout }).replaceAll("<", "\\u003c");
  // A script ends at the first "</script", wherever it stands: also inside a string.
  const library = plotly.replaceAll(/<\/script/gi, "<\\/script");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
body { margin: 2rem auto; max-width: ${layout.width}px; padding: 0 1rem; background: #fff; color: #1a1a1a; }
body { font: 13px/1.5 Arial, Helvetica, "Liberation Sans", "DejaVu Sans", sans-serif; }
figure { margin: 0; }
figcaption { margin-top: 1rem; }
</style>
<figure>
<div id="figure" role="img" aria-label="${escapeHtml(alt)}"></div>
${captionDrawn ? "" : `<figcaption>${escapeHtml(caption)}</figcaption>\n`}</figure>
<script>${library}</script>
<script>
const { data, layout } = ${spec};
Plotly.newPlot("figure", data, layout, { displaylogo: false, responsive: false });
</script>
</html>
`;
}

/** The plotted numbers, one row per point: panel, series, label, x, y, and the interval where there is one. */
export function figureCsv(figure: Figure): string {
  const rows = ["panel,series,label,x,y,x_low,x_high,y_low,y_high"];
  for (const series of figure.data) {
    if (series.meta === undefined || series.meta === "") continue; // legends
    const { x, y, text } = series as { x: Cell[]; y: Cell[]; text?: string[] };
    for (let i = 0; i < x.length; i++) {
      if (x[i] === null || y[i] === null) continue;
      const cells = [
        series.meta,
        series.name ?? "",
        text?.[i] ?? "",
        x[i],
        y[i],
        ...boundsOf(series, "x", x[i], i),
        ...boundsOf(series, "y", y[i], i),
      ];
      rows.push(cells.map(csvCell).join(","));
    }
  }
  return rows.join("\n") + "\n";
}

type Cell = string | number | null;

/** The error bar of point i as two values, or two empty cells. */
function boundsOf(
  series: Series,
  axis: "x" | "y",
  value: Cell,
  i: number,
): [Cell, Cell] {
  const bar = series[`error_${axis}`] as { array?: number[]; arrayminus?: number[] } | undefined;
  if (!bar?.array || !bar.arrayminus || typeof value !== "number") return ["", ""];
  return [value - bar.arrayminus[i], value + bar.array[i]];
}

/** Quotes where CSV wants it; text that a spreadsheet would run as a formula gets an apostrophe. */
export function csvCell(value: string | number | null): string {
  if (typeof value === "number") return String(value);
  let text = value ?? "";
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
