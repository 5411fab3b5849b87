// Showing things in a notebook, and what makes a notebook dependable: an interrupt that stops loops rather than the
// kernel, and output that is not lost. The kernel may report a cell as finished before its last messages are out, so
// `show` waits a moment. Outside a notebook `show` prints a line of text.

import { escapeHtml, type Figure } from "./figure.ts";
import { encodePng, type Picture, strip } from "./png.ts";
import { notebookProgress, type Progress } from "./progress.ts";
import { rasterize, renderSvg } from "./render.ts";

/** Rows of a table; every row has the same keys. */
export type TableRows = readonly Record<string, string | number | boolean | null>[];

/** A picture as readers and verbs give it, (h, w, 3) bytes. */
export interface RawImage {
  width: number;
  height: number;
  data: Uint8Array;
}

/** What `show` can show. */
export type Showable =
  | Figure
  | Picture
  | RawImage
  | readonly (Picture | RawImage)[]
  | TableRows
  | { html: string; text: string };

/** A display message: MIME type → content. */
export type Bundle = Record<string, string | object>;

/** What is needed of the Deno kernel. */
export interface Kernel {
  broadcast(type: string, content: Record<string, unknown>): Promise<void>;
}

/** The kernel this code runs in, or undefined. Deno.jupyter throws on access outside of it. */
export function notebookKernel(): Kernel | undefined {
  if (!Deno.mainModule.includes("jupyter")) return undefined;
  return Deno.jupyter as unknown as Kernel;
}

const SETTLE_MS = 30; // measured: 20 to 40 ms let the last message out in 80 of 80 cells

/**
 * Shows a figure, a picture or several, a table, or html.
 *
 * Figures are shown as static images, so that a committed notebook is small and visible everywhere; with
 * `interactive` the Plotly specification goes along for front ends that render it.
 *
 * @throws {TypeError} If the value is none of them
 */
export async function show(
  value: Showable,
  options: { interactive?: boolean; id?: string; update?: boolean; kernel?: Kernel } = {},
): Promise<void> {
  const kernel = options.kernel ?? notebookKernel();
  if (!kernel) {
    console.log(textOf(value));
    return;
  }
  const data = await bundleOf(value, options.interactive ?? false);
  const transient = options.id ? { display_id: options.id } : {};
  const type = options.update ? "update_display_data" : "display_data";
  await kernel.broadcast(type, { data, metadata: {}, transient });
  await new Promise((done) => setTimeout(done, SETTLE_MS));
}

/** The display bundle of a value. */
export async function bundleOf(value: Showable, interactive = false): Promise<Bundle> {
  const text = textOf(value);
  if (isFigure(value)) {
    const png = await rasterize(await renderSvg(value), 1.5);
    return {
      "image/png": png.toBase64(),
      "text/plain": text,
      ...(interactive && {
        "application/vnd.plotly.v1+json": { data: value.data, layout: value.layout },
      }),
    };
  }
  const pictures = picturesOf(value);
  if (pictures) {
    const sheet = strip([pictures], { cell: 128 });
    return { "image/png": encodePng(sheet).toBase64(), "text/plain": text };
  }
  if ("html" in value && typeof value.html === "string") {
    return { "text/html": value.html, "text/plain": text };
  }
  return { "text/html": tableHtml(value as TableRows), "text/plain": text };
}

/** One line, or a plain table, for where there is no notebook. */
export function textOf(value: Showable): string {
  if (isFigure(value)) return `${value.title}. ${value.caption}`;
  const pictures = picturesOf(value);
  if (pictures) {
    const sizes = [...new Set(pictures.map((p) => `${p.width} × ${p.height}`))].join(", ");
    return `${pictures.length} picture${pictures.length === 1 ? "" : "s"}, ${sizes}`;
  }
  if (Array.isArray(value)) return tableText(value as TableRows);
  if ("html" in value && typeof value.text === "string") return value.text;
  throw new TypeError(
    `Cannot show ${
      Object.prototype.toString.call(value)
    }: expected a figure, pictures, rows or html`,
  );
}

const isFigure = (value: Showable): value is Figure =>
  typeof value === "object" && value !== null && "layout" in value && "caption" in value;

function picturesOf(value: Showable): readonly Picture[] | undefined {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const pictures = list.map((p) => {
    const { width, height, rgb, data } = (p ?? {}) as Partial<Picture & RawImage>;
    const bytes = rgb ?? data;
    if (!(bytes instanceof Uint8Array) || !width || !height) return undefined;
    return bytes.length === 3 * width * height ? { width, height, rgb: bytes } : undefined;
  });
  return list.length > 0 && pictures.every((p) => p) ? pictures as Picture[] : undefined;
}

/** Rows as an html table; every cell is escaped. */
export function tableHtml(rows: TableRows): string {
  const names = Object.keys(rows[0] ?? {});
  const cells = (tag: string, values: unknown[]) =>
    values.map((v) => `<${tag}>${escapeHtml(String(v ?? ""))}</${tag}>`).join("");
  const body = rows.map((row) => `<tr>${cells("td", names.map((n) => row[n]))}</tr>`).join("");
  return `<table><thead><tr>${cells("th", names)}</tr></thead><tbody>${body}</tbody></table>`;
}

/** Rows as text in columns, numbers to the right. */
export function tableText(rows: TableRows): string {
  const names = Object.keys(rows[0] ?? {});
  const texts = [names, ...rows.map((row) => names.map((n) => String(row[n] ?? "")))];
  const widths = names.map((_, c) => Math.max(...texts.map((row) => row[c].length)));
  const right = names.map((n) => rows.every((row) => typeof row[n] === "number"));
  return texts.map((row) =>
    row.map((cell, c) => right[c] ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))
      .join("  ").trimEnd()
  ).join("\n");
}

let displays = 0;

/** Progress as one display that is updated. */
export function showProgress(options: { kernel?: Kernel; everyMs?: number } = {}): Progress {
  const kernel = options.kernel ?? notebookKernel();
  if (!kernel) throw new TypeError("Cannot show progress here: this is not a notebook");
  const id = `oka-progress-${++displays}`;
  let sent = Promise.resolve(); // messages keep their order
  return notebookProgress({
    now: () => performance.now(),
    ...(options.everyMs !== undefined && { everyMs: options.everyMs }),
    display(html, text, update) {
      const data = { "text/html": html, "text/plain": text };
      const type = update ? "update_display_data" : "display_data";
      sent = sent.then(() =>
        kernel.broadcast(type, { data, metadata: {}, transient: { display_id: id } })
      );
    },
  });
}

/** A figure or picture that is shown again in place: `live(it)` as often as wanted, `everyMs` apart at least. */
export function liveFigure(
  options: { everyMs?: number; kernel?: Kernel } = {},
): (value: Showable, last?: boolean) => Promise<void> {
  const everyMs = options.everyMs ?? 1000;
  const kernel = options.kernel ?? notebookKernel();
  const id = `oka-figure-${++displays}`;
  let shownAt = -Infinity;
  let first = true;
  return async (value, last = false) => {
    const now = performance.now();
    if (!last && (now - shownAt < everyMs || !kernel)) return;
    await show(value, { id, update: !first, ...(kernel && { kernel }) });
    first = false;
    shownAt = performance.now();
  };
}

let stop: AbortController | undefined;
let listening = false;

/**
 * A signal that the notebook's interrupt button aborts; each call gives a fresh one. Without it an interrupt
 * ends the kernel and everything in it.
 */
export function interruptSignal(): AbortSignal {
  stop = new AbortController();
  if (!listening) {
    listening = true;
    Deno.addSignalListener("SIGINT", () => {
      stop?.abort(new DOMException("Stopped by the interrupt button", "AbortError"));
    });
  }
  return stop.signal;
}

/**
 * Prepares a notebook; call it in the first cell. Console lines of one turn leave as one message (single ones get
 * lost), an interrupt stops loops rather than the kernel, and an error that nobody awaits is printed.
 */
export function prepareNotebook(): void {
  if (!notebookKernel() || listening) return;
  interruptSignal();
  for (const name of ["log", "info", "warn", "error"] as const) {
    console[name] = batched(console[name].bind(console));
  }
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    console.error("error: nobody awaited this:", event.reason);
  });
}

/** Joins the lines of one turn of the event loop. */
export function batched(write: (text: string) => void): (...values: unknown[]) => void {
  let lines: string[] = [];
  return (...values) => {
    if (lines.length === 0) {
      queueMicrotask(() => {
        const text = lines.join("\n");
        lines = [];
        write(text);
      });
    }
    lines.push(values.map((v) => typeof v === "string" ? v : Deno.inspect(v)).join(" "));
  };
}
