// The comparison as a table and as lines of JSON: medians, rates, ratios to the faster peer, and their means.

import { geometricMean, median } from "./measure.ts";
import type { Case } from "./peers_cases.ts";

/** What was measured of one case. */
export interface Row {
  name: string;
  group: Case["group"];
  flop: number;
  /** Milliseconds by engine, one per round. */
  samples: Record<string, number[]>;
  /** By engine, why its numbers do not count. */
  wrong: Record<string, string>;
}

/** What a reader must know to place the numbers. */
export interface Circumstances {
  adapter: string;
  runtime: string;
  date: string;
  commit: string;
  /** GFLOP/s of multiply-adds in registers. */
  ceiling: number;
  /** Ours first. */
  engines: { name: string; way: string }[];
}

/** Where results go: a command's context. */
export interface Output {
  print(text: string): void;
  emit(event: { event: string } & Record<string, unknown>): void;
}

const GROUPS = [
  { group: "matmul", title: "matrix products", wanted: 6 },
  { group: "norm", title: "softmax and RMSNorm", wanted: undefined },
  { group: "block", title: "transformer block", wanted: 8 },
] as const;
/** No shape may be below. */
const LEAST = 2;

/** GFLOP/s at the median time of an engine. */
export function rate(row: Row, name: string): number {
  return row.flop / median(row.samples[name] ?? []) / 1e6;
}

/** Marks what would be faster than arithmetic in registers. */
export function rejectAbove(rows: readonly Row[], ceiling: number): void {
  for (const row of rows) {
    for (const name of Object.keys(row.samples)) {
      const gflops = rate(row, name);
      if (gflops <= ceiling) continue;
      row.wrong[name] ??= `${gflops.toFixed(1)} GFLOP/s is above the ceiling of ${
        ceiling.toFixed(1)
      }`;
    }
  }
}

/** How often the faster peer's time is ours, by medians; undefined without a valid time of ours and of one peer. */
export function ratio(row: Row, ours: string): number | undefined {
  const valid = Object.keys(row.samples).filter((name) => row.wrong[name] === undefined);
  if (!valid.includes(ours) || valid.length < 2) return undefined;
  const peers = valid.filter((name) => name !== ours).map((name) => median(row.samples[name]));
  return Math.min(...peers) / median(row.samples[ours]);
}

/** Prints the table, the means and the circumstances; with `--json`, the same as events. */
export function report(output: Output, rows: readonly Row[], facts: Circumstances): void {
  const names = facts.engines.map(({ name }) => name);
  const ratios = rows.map((row) => ratio(row, names[0]));
  printTable(output, rows, names, ratios);
  rows.forEach((row, i) => {
    const engines = Object.fromEntries(
      Object.entries(row.samples).map((
        [name, ms],
      ) => [name, { ms: median(ms), gflops: rate(row, name) }]),
    );
    output.emit({ event: "case", ...row, engines, ratio: ratios[i] ?? null });
  });

  for (const { group, title, wanted } of GROUPS) {
    const found = ratios.filter((r, i): r is number => r !== undefined && rows[i].group === group);
    if (found.length === 0) continue;
    const mean = geometricMean(found);
    const aim = wanted === undefined ? "" : ` (wanted ${wanted}×)`;
    output.print(
      `${title}: ${times(mean)} the faster peer, geometric mean of ${found.length}${aim}`,
    );
    output.emit({ event: "mean", group, ratio: mean, cases: found.length, wanted: wanted ?? null });
  }
  const counted = ratios.filter((r) => r !== undefined);
  if (counted.length > 0) {
    const smallest = Math.min(...counted);
    const { name } = rows[ratios.indexOf(smallest)];
    output.print(`smallest: ${times(smallest)} at ${name} (wanted ${LEAST}×)`);
    output.emit({ event: "smallest", ratio: smallest, case: name, wanted: LEAST });
  }
  output.print(
    `\n${facts.adapter}, ${facts.runtime}, ${facts.date}, commit ${facts.commit}; ` +
      `multiply-adds in registers reach ${facts.ceiling.toFixed(1)} GFLOP/s`,
  );
  for (const { name, way } of facts.engines) output.print(`${name}: ${way}`);
  output.emit({ event: "circumstances", ...facts });
}

function printTable(
  output: Output,
  rows: readonly Row[],
  names: readonly string[],
  ratios: readonly (number | undefined)[],
): void {
  const head = ["case", ...names.map((n) => `${n} ms`), ...names.map((n) => `${n} GF/s`), "ratio"];
  const body = rows.map((row, i) => [
    row.name,
    ...names.map((n) => row.samples[n] ? digits(median(row.samples[n])) : "-"),
    ...names.map((n) => row.samples[n] && row.group !== "norm" ? digits(rate(row, n)) : "-"),
    ratios[i] === undefined ? "-" : times(ratios[i]),
  ]);
  const widths = head.map((h, c) => Math.max(h.length, ...body.map((cells) => cells[c].length)));
  const line = (cells: string[]) =>
    cells.map((cell, c) => c === 0 ? cell.padEnd(widths[c]) : cell.padStart(widths[c])).join("  ");
  output.print(line(head));
  rows.forEach((row, i) => {
    output.print(line(body[i]));
    for (const [name, reason] of Object.entries(row.wrong)) {
      output.print(`  rejected, ${name}: ${reason}`);
    }
  });
  output.print("");
}

/** A number with three digits. */
export function digits(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

const times = (value: number) => `${digits(value)}×`;
