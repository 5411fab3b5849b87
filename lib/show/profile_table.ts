// A profile as a table of text: what a command prints with --profile.

/** What a profile says of one kernel. */
export interface ProfileRow {
  label: string;
  calls: number;
  milliseconds: number;
  /** Of these, in first runs of pipelines, when software adapters compile; no part of the rates. */
  firstMilliseconds: number;
  /** 10⁹ floating-point operations per second; null where none are counted. */
  gflops: number | null;
  /** 10⁹ bytes per second, each byte of an operand counted once; null where none are counted. */
  gbps: number | null;
  /** Part of the time of all rows, 0 to 1. */
  share: number;
}

/** What stands above the table. */
export interface ProfileFacts {
  /** The adapter's name. */
  adapter: string;
  /** Seconds of the whole run, loading and host included. */
  seconds?: number;
}

const HEADS = ["kernel", "calls", "ms", "first runs", "GFLOP/s", "GB/s", "share"];

/** How the numbers came about, said above every table. */
export const PROFILE_NOTE =
  "Timed one by one, a pass per dispatch: slower than without a profile. A pipeline's first run may compile it;\n" +
  "GFLOP/s and GB/s are those of the other runs.";

/**
 * Rows as a table, as they come, under a line of totals and what must be known to read it. A rate that is not known
 * is a dash.
 */
export function profileTable(rows: readonly ProfileRow[], facts: ProfileFacts): string {
  const cells = rows.map((row) => [
    row.label,
    String(row.calls),
    row.milliseconds.toFixed(1),
    row.firstMilliseconds.toFixed(1),
    rateText(row.gflops),
    rateText(row.gbps),
    `${(100 * row.share).toFixed(1)} %`,
  ]);
  const widths = HEADS.map((head, c) =>
    Math.max(...[head, ...cells.map((r) => r[c])].map(lengthOf))
  );
  const lines = [HEADS, ...cells].map((line) =>
    line.map((cell, c) => c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c])).join("  ")
  );
  return [totals(rows, facts), PROFILE_NOTE, ...lines].join("\n");
}

/** One line: commands and time on the device, of how long a run, on which adapter. */
export function totals(rows: readonly ProfileRow[], { adapter, seconds }: ProfileFacts): string {
  const calls = rows.reduce((n, row) => n + row.calls, 0);
  const busy = rows.reduce((ms, row) => ms + row.milliseconds, 0) / 1000;
  const of = seconds === undefined ? "" : ` of ${seconds.toFixed(2)} s`;
  return `profile: ${calls} commands, ${busy.toFixed(2)} s${of} on ${adapter}`;
}

/** Three digits: 0.0123, 1.23, 123; a dash for what is not known. */
export function rateText(rate: number | null): string {
  if (rate === null) return "–";
  return rate >= 100 ? rate.toFixed(0) : rate.toPrecision(3);
}

const lengthOf = (text: string) => text.length;
