// What the subcommands of `deno task checkpoint` share: sizes in words, tables, progress by bytes, free space.

import { statfsSync } from "node:fs";
import { type Progress, SILENT, terminalProgress } from "../show/progress.ts";

/** 29 214 520 256 → "29.2 GB". */
export function sizeText(bytes: number): string {
  const power = Math.min(3, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  if (power === 0) return `${bytes} bytes`;
  return `${(bytes / 1000 ** power).toPrecision(3)} ${["", "kB", "MB", "GB"][power]}`;
}

/** 14607260128 → "14,607,260,128". */
export function countText(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Lines with columns of equal width; the first column is left-aligned, as is the last, the others right. */
export function tableText(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => row[c].length)));
  const cell = (text: string, c: number) =>
    c === 0 || c === widths.length - 1 ? text.padEnd(widths[c]) : text.padStart(widths[c]);
  return rows.map((row) => row.map(cell).join("  ").trimEnd()).join("\n");
}

/** What progress needs of a command's context. */
export interface Output {
  flags: { quiet: boolean };
  terminal: boolean;
  emit(event: { event: string } & Record<string, unknown>): void;
}

/** Progress by bytes, on stderr and, once a second, as JSON lines. */
export class ByteProgress {
  readonly #progress: Progress;
  readonly #started = performance.now();
  #told = this.#started;

  constructor(private readonly output: Output, private readonly label: string) {
    const encoder = new TextEncoder();
    this.#progress = output.flags.quiet ? SILENT : terminalProgress({
      write: (text) => {
        let bytes = encoder.encode(text);
        while (bytes.length > 0) bytes = bytes.subarray(Deno.stderr.writeSync(bytes));
      },
      terminal: output.terminal,
      columns: () => output.terminal ? Deno.consoleSize().columns : 80,
      now: () => performance.now(),
    });
  }

  /** @param skipped bytes of `doneBytes` that were there before, and say nothing of the pace */
  update(doneBytes: number, totalBytes: number, what: string, skipped = 0): void {
    const now = performance.now();
    const perSecond = 1000 * (doneBytes - skipped) / Math.max(1, now - this.#started);
    const [unit, name] = totalBytes >= 1e8 ? [1e6, "MB"] : [1e3, "kB"];
    this.#progress.update({
      label: this.label,
      step: Math.round(doneBytes / unit),
      total: Math.round(totalBytes / unit),
      fields: { "": `${name}  ${sizeText(Math.round(perSecond))}/s  ${what}` },
    });
    if (now - this.#told < 1000) return;
    this.#told = now;
    this.output.emit({ event: "progress", bytes: doneBytes, totalBytes, what });
  }

  done(): void {
    this.#progress.done();
  }
}

/** Free bytes of the disk a path lies on, or undefined without the permission `--allow-sys=statfs`. */
export function freeBytes(path: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}
