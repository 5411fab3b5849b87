// Draws a figure as SVG without a browser: Plotly inside jsdom, with the few measurements jsdom lacks computed from
// character widths, and a seeded Math.random so that the same figure gives the same bytes. Heatmaps cannot be drawn
// this way (they need a canvas).

import { JSDOM, VirtualConsole } from "jsdom";
import { type Figure, textWidth } from "./figure.ts";

const PLOTLY = new URL("../../node_modules/plotly.js-dist-min/plotly.min.js", import.meta.url);

/** The source text of plotly.min.js. */
export async function plotlySource(): Promise<string> {
  return await Deno.readTextFile(PLOTLY);
}

/** The part of the page's window that is used here. */
interface DrawingWindow {
  Math: { random: () => number };
  URL: { createObjectURL: () => string };
  Element: { prototype: object };
  SVGElement: { prototype: object };
  document: { getElementById(id: string): unknown };
  eval(code: string): void;
  close(): void;
  Plotly: {
    newPlot(element: unknown, data: unknown, layout: unknown, config: unknown): Promise<unknown>;
    toImage(element: unknown, options: object): Promise<string>;
    purge(element: unknown): void;
  };
}

let opened: Promise<DrawingWindow> | undefined;

/** One window per process: loading Plotly takes a second, drawing a tenth. */
function drawingWindow(): Promise<DrawingWindow> {
  return opened ??= (async () => {
    const source = await plotlySource();
    const page = '<!doctype html><html lang="en"><body><div id="figure"></div></body></html>';
    // No console: Plotly asks for a canvas while loading and goes on without one.
    const { window } = new JSDOM(page, {
      runScripts: "outside-only",
      virtualConsole: new VirtualConsole(),
    });
    const view = window as unknown as DrawingWindow;
    view.URL.createObjectURL = () => "blob:none";
    Object.assign(view.SVGElement.prototype, {
      getBBox: textBox,
      getComputedTextLength(this: Measured) {
        return textBox.call(this).width;
      },
    });
    Object.assign(view.Element.prototype, { getBoundingClientRect: textBox });
    view.eval(source);
    return view;
  })();
}

/** What is asked of an element to measure it. */
interface Measured {
  textContent: string | null;
  querySelectorAll?(selector: string): ArrayLike<{ textContent: string | null }>;
  closest?(selector: string): { getAttribute(name: string): string | null } | null;
}

const LINE = 1.3; // Plotly's line height, in font sizes

/** The box of an element's text: widest line × lines. */
function textBox(this: Measured) {
  const style = this.closest?.("[style*='font-size']")?.getAttribute("style") ?? "";
  const size = Number(/font-size:\s*([\d.]+)px/.exec(style)?.[1] ?? 12);
  const spans = Array.from(this.querySelectorAll?.("tspan.line") ?? []);
  const lines = spans.length > 0 ? spans.map((s) => s.textContent ?? "") : [this.textContent ?? ""];
  if (lines.every((line) => line === "")) return boxAt(0, 0, 0);
  const width = Math.max(...lines.map((line) => textWidth(line, size)));
  return boxAt(-0.93 * size, width, lines.length * size * LINE); // y = 0 is the first baseline
}

function boxAt(y: number, width: number, height: number) {
  return { x: 0, y, left: 0, top: y, right: width, bottom: y + height, width, height };
}

/**
 * Draws a figure as an SVG document; equal figures give equal text.
 *
 * @throws {RangeError} If it has a trace that needs a canvas or WebGL
 */
export async function renderSvg(figure: Figure): Promise<string> {
  for (const { type } of figure.data) {
    if (type !== undefined && type !== "scatter" && type !== "bar") {
      throw new RangeError(`Cannot draw a ${type} trace as SVG: use scatter or bar`);
    }
  }
  const view = await drawingWindow();
  const element = view.document.getElementById("figure");
  let state = 1;
  view.Math.random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const { width, height } = figure.layout;
  // Plotly writes into what it is given.
  const { data, layout } = structuredClone({ data: figure.data, layout: figure.layout });
  try {
    await view.Plotly.newPlot(element, data, layout, { staticPlot: true });
    const options = { format: "svg", imageDataOnly: true, width, height };
    const svg = await view.Plotly.toImage(element, options);
    return withAlt(svg, figure);
  } finally {
    view.Plotly.purge(element);
  }
}

/** Adds title and description, which screen readers use. */
function withAlt(svg: string, { title, alt }: Figure): string {
  const escape = (text: string) => text.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`);
  const words = `<title>${escape(title)}</title><desc>${escape(alt)}</desc>`;
  return svg.replace(/^(<svg[^>]*)>/, (_, head) => `${head} role="img">${words}`) + "\n";
}

/** Draws a figure as PNG, `scale` device pixels per CSS pixel. */
export async function renderPng(figure: Figure, scale = 2): Promise<Uint8Array<ArrayBuffer>> {
  return await rasterize(await renderSvg(figure), scale);
}

/** SVG text to PNG. Loads sharp on first use, so that those who only need SVG need no native code. */
export async function rasterize(svg: string, scale = 2): Promise<Uint8Array<ArrayBuffer>> {
  const { default: sharp } = await import("sharp");
  // Reading images blocks all decoders but its own, for the whole process; it tells files by their first
  // bytes, so SVG stays refused there.
  sharp.unblock({ operation: ["VipsForeignLoadSvg"] });
  const image = sharp(new TextEncoder().encode(svg), { density: 72 * scale });
  return new Uint8Array(await image.flatten({ background: "#ffffff" }).png().toBuffer());
}
