// How close our kernels come to what the adapter can do. Ceilings and kernels are measured in one run and take turns:
// products against multiply-adds in registers, streaming kernels against a copy kernel over as many bytes, attention
// and convolution against our own matrix product. Outputs are checked.

import { type CommandSpec, type Context, runCommand } from "../../lib/cli/command.ts";
import type { Flags } from "../../lib/cli/flags.ts";
import { EXIT, UsageError } from "../../lib/errors.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { saveFigure } from "../../lib/show/export.ts";
import { readCommit } from "../../lib/study/provenance.ts";
import { Tensor } from "../../lib/tensor.ts";
import { copyValues, refresh, streams } from "./ceilings.ts";
import {
  elapsed,
  fixedWait,
  fmaCeiling,
  fmaWork,
  median,
  repeatsFor,
  takeTurns,
} from "./measure.ts";
import { matmulCase, type RooflineCase, rooflineCases } from "./roofline_cases.ts";
import { rooflineFigure, type RooflineRow } from "./roofline_figure.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const SAMPLE_MS = 60;
const MOST_REPEATS = 500;
/** Values whose streams are the ceilings: 16 MiB. */
const STREAM_VALUES = 2 ** 22;
/** Results looked at, of each case. */
const LOOKED_AT = 64;

const FLAGS = {
  quick: { type: "boolean", help: "fewer shapes and 3 rounds" },
  only: { type: "string", unit: "TEXT", help: "only kernels whose name holds TEXT" },
  figure: { type: "string", unit: "PATH", help: "write the roofline to PATH.png, .svg, .html, …" },
} as const satisfies Flags;

const SPEC = {
  name: "bench:roofline",
  purpose: "Prints each kernel's share of what bounds it on this adapter.",
  usage: "[flags]",
  flags: FLAGS,
  examples: [
    ["deno task bench:roofline", "all kernels, five rounds"],
    ["deno task bench:roofline --figure results/roofline", "and the plot"],
  ],
  exitCodes: { 1: "an output was wrong" },
} as const satisfies CommandSpec<typeof FLAGS>;

async function main(context: Context<typeof FLAGS>): Promise<number> {
  const { flags, print, emit, note, signal } = context;
  const rounds = flags.quick ? 3 : 5;
  if (flags.figure) await requireWritable(flags.figure);
  const gpu = await openDevice();
  const before = await fmaCeiling(gpu, rounds);
  const variant = Object.entries(before.variants).reduce((a, b) => b[1] > a[1] ? b : a)[0];
  const memory = await streams(gpu, STREAM_VALUES, rounds);
  note(
    `${gpu.adapter.name}: ${before.gflops.toFixed(1)} GFLOP/s, copy ${memory.copy.toFixed(2)} GB/s`,
  );
  const rows: RooflineRow[] = [];
  for (const make of rooflineCases(flags.quick)) {
    signal.throwIfAborted();
    const test = make(gpu);
    if (flags.only && !test.name.includes(flags.only)) {
      test.dispose();
      continue;
    }
    const row = await measure(gpu, test, rounds, variant);
    note(`${row.name}: ${(100 * row.share).toFixed(0)} % of ${row.bound}`);
    rows.push(row);
  }
  if (rows.length === 0) {
    throw new UsageError(`Cannot find a kernel whose name holds "${flags.only}"`, {
      help: "leave --only out to see their names",
    });
  }
  const after = await fmaCeiling(gpu, rounds);
  const ceiling = Math.max(before.gflops, after.gflops);
  const facts = {
    adapter: gpu.adapter.name,
    date: new Date().toISOString().slice(0, 10),
    commit: readCommit(ROOT)?.slice(0, 7) ?? "unknown",
    gflops: ceiling,
    gbps: memory,
  };
  gpu.close();
  printTable(print, rows, facts);
  for (const row of rows) emit({ event: "kernel", ...row });
  emit({ event: "circumstances", ...facts });
  if (flags.figure) {
    const paths = await saveFigure(rooflineFigure(rows, facts), flags.figure);
    print(paths[0]);
  }
  return rows.every(({ wrong }) => wrong === undefined) ? EXIT.done : EXIT.fault;
}

/** @throws {UsageError} If a figure could not be written there at the end */
async function requireWritable(path: string): Promise<void> {
  const { state } = await Deno.permissions.query({ name: "write", path });
  if (state === "granted") return;
  throw new UsageError(`Cannot write a figure to ${path}: not below results/ or experiments/`, {
    help: "give a path there, such as results/roofline",
  });
}

/** Times a case in turns with what bounds it. */
async function measure(
  gpu: Gpu,
  test: RooflineCase,
  rounds: number,
  fmaVariant: string,
): Promise<RooflineRow> {
  const settle = () => gpu.settle();
  const waitMs = await fixedWait(settle);
  const launch = () => {
    test.inputs.forEach(refresh);
    for (const t of test.run()) t.dispose();
  };
  const wrong = await check(test);
  const own = { launch, settle, work: test.bound === "copy" ? test.bytes : test.flop };
  const contenders = [own];
  let release = () => {};
  if (test.bound === "copy") {
    const values = 256 * Math.ceil(test.bytes / 8 / 256);
    const [x, y] = [Tensor.zeros(gpu, [values]), Tensor.empty(gpu, [values])];
    const copy = () => {
      refresh(x);
      copyValues(x, y);
    };
    contenders.push({ launch: copy, settle, work: 8 * values });
    release = () => [x, y].forEach((t) => t.dispose());
  } else if (test.bound === "arithmetic") {
    const fma = fmaWork(gpu, fmaVariant, test.flop);
    contenders.push({ launch: fma.launch, settle, work: fma.flop });
    release = fma.dispose;
  } else {
    const reference = matmulCase("NT", 512)(gpu);
    const multiply = () => {
      reference.inputs.forEach(refresh);
      for (const t of reference.run()) t.dispose();
    };
    contenders.push({ launch: multiply, settle, work: reference.flop });
    release = reference.dispose;
  }
  const repeats: number[] = [];
  for (const c of contenders) {
    c.launch();
    repeats.push(await repeatsFor(c, waitMs, SAMPLE_MS, MOST_REPEATS));
  }
  const samples = await takeTurns([...contenders.keys()], rounds, async (i) => {
    return await elapsed(contenders[i], repeats[i], waitMs) / repeats[i];
  });
  test.dispose();
  release();
  const [ms, bound] = samples.map(median);
  const share = own.work / ms / (contenders[1].work / bound);
  return {
    name: test.name,
    bound: test.bound,
    wanted: test.wanted,
    share,
    ms,
    gflops: test.flop / ms / 1e6,
    gbps: test.bytes / ms / 1e6,
    intensity: test.flop / test.bytes,
    ...(wrong === undefined ? {} : { wrong }),
  };
}

/** What is wrong with a case's first result, if anything is. */
async function check(test: RooflineCase): Promise<string | undefined> {
  const results = test.run();
  const values = await results[0].floats();
  for (const t of results) t.dispose();
  const places = Array.from(
    { length: Math.min(LOOKED_AT, values.length) },
    (_, i) => Math.floor((i + 0.5) * values.length / Math.min(LOOKED_AT, values.length)),
  );
  const expected = places.map(test.expected);
  const scale = Math.max(...expected.map(Math.abs));
  const worst = places.findIndex((at, i) =>
    !(Math.abs(values[at] - expected[i]) <= test.tolerance * scale)
  );
  if (worst < 0) return undefined;
  return `value ${places[worst]} is ${values[places[worst]]}, expected ${expected[worst]}`;
}

interface Facts {
  adapter: string;
  date: string;
  commit: string;
  gflops: number;
  gbps: { load: number; store: number; copy: number };
}

function printTable(print: (text: string) => void, rows: RooflineRow[], facts: Facts): void {
  const { gflops, gbps } = facts;
  print(`multiply-adds in registers ${gflops.toFixed(1)} GFLOP/s`);
  print(
    `loads ${gbps.load.toFixed(2)}, stores ${gbps.store.toFixed(2)}, copy kernel ` +
      `${gbps.copy.toFixed(2)} GB/s (read and written)\n`,
  );
  const width = Math.max(...rows.map(({ name }) => name.length));
  print(`${"kernel".padEnd(width)}      ms  GFLOP/s    GB/s       share of bound  wanted`);
  for (const row of rows) {
    const cells = [
      row.ms.toFixed(2).padStart(8),
      (row.gflops > 0 ? row.gflops.toFixed(1) : "-").padStart(9),
      row.gbps.toFixed(2).padStart(8),
      `${(100 * row.share).toFixed(0)} % of ${row.bound}`.padStart(21),
      `${(100 * row.wanted).toFixed(0)} %${row.share >= row.wanted ? "       " : " missed"}`
        .padStart(14),
    ];
    print(row.name.padEnd(width) + cells.join(""));
    if (row.wrong) print(`  wrong: ${row.wrong}`);
  }
  print(`\n${facts.adapter}, ${facts.date}, commit ${facts.commit}`);
}

if (import.meta.main) await runCommand(SPEC, main);
