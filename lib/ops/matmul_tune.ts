// Measures which tiles of matmul are fastest on an adapter: per class of products a few candidates, each compared with
// the naive kernel once, then timed in turns, so that their ratios survive a busy machine.

import type { Gpu } from "../gpu/device.ts";
import { packRows, unpackRows } from "../packed_layout.ts";
import { type HostData, readAll, Tensor } from "../tensor.ts";
import { defaultTile, type MatmulSizes, withSplits } from "./matmul_config.ts";
import { product } from "./matmul_launch.ts";
import { matmulKernelsHash, type MatmulTable } from "./matmul_table.ts";
import {
  canRun,
  MATMUL_CLASSES,
  type MatmulClass,
  type MatmulTile,
  tileName,
} from "./matmul_tile.ts";

/** A candidate, measured. */
export interface MatmulRate {
  tile: MatmulTile;
  /** 10⁹ floating-point operations per second; 0 if its result is wrong. */
  gflops: number;
}

/** One class, measured. */
export interface MatmulTrial {
  name: MatmulClass;
  /** The product that stands for the class. */
  sizes: MatmulSizes;
  /** The default first. */
  rates: MatmulRate[];
  /** The tile to go by. */
  chosen: MatmulTile;
}

/** What a tile must gain on the default to replace it, and in which share of the rounds it must win: else it is noise. */
const GAIN = 1.05;
const WON = 0.75;
/** Relative to the largest value: sums of some thousand f32 terms in another order. */
const TOLERANCE = 1e-4;
const ROUNDS = 6;
const SAMPLE_MS = 30; // per sample: repeats make short products long enough to time
const LEAST_MS = 10; // from which a sample tells how many repeats that takes
const MOST_REPEATS = 4096;
/** A candidate this much slower than the best is not timed again. */
const HOPELESS = 2.5;

/** Options of {@link tuneMatmul}. */
export interface TuneOptions {
  /** The classes to measure. Default: all of them. */
  classes?: readonly MatmulClass[];
  /** What computes the products of the candidates. */
  multiply?: typeof product;
}

/** Measures class by class, `small` before `large`. Takes some 15 s on a software adapter. */
export async function* tuneMatmul(
  gpu: Gpu,
  { classes = MATMUL_CLASSES, multiply = product }: TuneOptions = {},
): AsyncGenerator<MatmulTrial> {
  const idleMs = await idle(gpu);
  const earlier = new Map<string, MatmulTrial>();
  for (const name of classes) {
    // Software spends its time on loads, small or large: what lost by far at the small product loses at the large one.
    const small = gpu.adapter.software ? earlier.get(`small ${name.slice(-2)}`) : undefined;
    const hopeless = small ? losersOf(small) : [];
    const trial = await tryClass(gpu, name, { idleMs, hopeless, multiply });
    earlier.set(name, trial);
    yield trial;
  }
}

function losersOf({ rates }: MatmulTrial): string[] {
  const best = Math.max(...rates.map(({ gflops }) => gflops));
  return rates.filter((r) => r.gflops < best / HOPELESS).map(({ tile }) => tileName(tile));
}

/** The tiles to go by after trials; classes whose default won are left to it. */
export function tableOf(trials: readonly MatmulTrial[]): MatmulTable {
  const changed = trials.filter(({ rates, chosen }) => chosen !== rates[0].tile)
    .map(({ name, chosen }) => [name, chosen]);
  return { kernels: matmulKernelsHash(), tiles: Object.fromEntries(changed) };
}

/** The product that stands for a class: sizes of transformers, with ragged edges where there is room. */
function sizesOf(gpu: Gpu, name: MatmulClass): MatmulSizes {
  const layout = { transposeA: name.endsWith("TN"), transposeB: name.endsWith("NT") };
  const sizes = ([rows, columns, inner]: number[]) => ({ rows, columns, inner, ...layout });
  if (name === "packed NT") return sizes([280, 1024, 512]);
  if (name.includes("few")) return sizes([1, 4096, 1024]);
  if (name.startsWith("small")) {
    return sizes(layout.transposeA ? [192, 288, 1000] : [500, 288, 192]);
  }
  return sizes(gpu.adapter.software ? [1000, 512, 512] : [2000, 2048, 1024]);
}

/** The tiles worth timing for a class, the default first. */
function candidates(gpu: Gpu, name: MatmulClass, first: MatmulTile): MatmulTile[] {
  const register = [[1, 1], [1, 2], [2, 2]].map(([rowBlocks, columnBlocks]): MatmulTile => ({
    kernel: "register",
    rowBlocks,
    columnBlocks,
  }));
  const few = (["few", "few_subgroup"] as const).map((kernel): MatmulTile => ({
    kernel,
    rowBlocks: 1,
    columnBlocks: 1,
  }));
  const subgroup = [4, 8].map((rowBlocks): MatmulTile => ({
    kernel: "subgroup",
    rowBlocks,
    columnBlocks: 1,
  }));
  const tiled = [[1, 1, 8], [2, 2, 8], [1, 1, 16], [2, 1, 16], [2, 2, 16]].map((
    [rowBlocks, columnBlocks, side],
  ): MatmulTile => ({ kernel: "tiled", rowBlocks, columnBlocks, side }));
  const all = name.includes("few")
    ? [...few, register[1]]
    : gpu.adapter.software
    ? [...subgroup, ...register, tiled[1]]
    : [...tiled, register[0], register[2], ...subgroup];
  const others = all.filter((tile) => tileName(tile) !== tileName(first) && canRun(gpu, tile));
  return [first, ...others];
}

/** What a trial is handed. */
interface Trying {
  idleMs: number;
  /** Names of tiles not to try. */
  hopeless: readonly string[];
  multiply: typeof product;
}

async function tryClass(
  gpu: Gpu,
  name: MatmulClass,
  { idleMs, hopeless, multiply }: Trying,
): Promise<MatmulTrial> {
  const sizes = sizesOf(gpu, name);
  const { a, b } = operands(gpu, name, sizes);
  const tiles = candidates(gpu, name, defaultTile(gpu, sizes, b.dtype))
    .filter((tile, i) => i === 0 || !hopeless.includes(tileName(tile)));
  const run = (tile: MatmulTile) =>
    multiply(a, b, { ...sizes, choice: withSplits(gpu, sizes, tile) });

  const right: MatmulTile[] = [];
  let first: HostData | undefined;
  for (const tile of await verified(gpu, name, tiles, multiply)) {
    const c = run(tile);
    const [got] = await readAll([c]);
    c.dispose();
    first ??= got;
    if (agree(got, first)) right.push(tile);
  }
  const flop = 2 * sizes.rows * sizes.columns * sizes.inner;
  const times = await timeInTurns(gpu, right.map((tile) => () => run(tile).dispose()), idleMs);
  for (const t of [a, b]) t.dispose();
  const rates = tiles.map((tile) => {
    const at = right.indexOf(tile);
    return { tile, gflops: at < 0 ? 0 : flop / median(times[at]) / 1e6 };
  });
  const fastest = rates.reduce((x, y) => y.gflops > x.gflops ? y : x);
  if (fastest.gflops === 0) {
    throw new Error(`internal: no matmul kernel computes ${name} right here`);
  }
  const [own, usual] = [times[right.indexOf(fastest.tile)], times[right.indexOf(tiles[0])]];
  const won = usual ? own.filter((ms, round) => ms < usual[round]).length / own.length : 1;
  const better = fastest.gflops > GAIN * rates[0].gflops && won >= WON;
  return { name, sizes, rates, chosen: better ? fastest.tile : tiles[0] };
}

/** The tiles whose result is that of the naive kernel, on a product that leaves a tail in every tile. */
async function verified(
  gpu: Gpu,
  name: MatmulClass,
  tiles: readonly MatmulTile[],
  multiply: typeof product,
): Promise<MatmulTile[]> {
  const layout = { transposeA: name.endsWith("TN"), transposeB: name.endsWith("NT") };
  const sizes = { rows: name.includes("few") ? 1 : 131, columns: 139, inner: 160, ...layout };
  const { a, b, plain } = operands(gpu, name, sizes);
  const naive: MatmulTile = { kernel: "naive", rowBlocks: 1, columnBlocks: 1 };
  const choice = (tile: MatmulTile) => withSplits(gpu, sizes, tile);
  const results = [
    product(a, plain, { ...sizes, choice: choice(naive) }),
    ...tiles.map((tile) => multiply(a, b, { ...sizes, choice: choice(tile) })),
  ];
  const [want, ...got] = await readAll(results);
  for (const t of new Set([a, b, plain, ...results])) t.dispose();
  return tiles.filter((_, i) => agree(got[i], want));
}

/** Operands of a class; `plain` is `b` with f32 values, for the naive kernel. */
function operands(gpu: Gpu, name: MatmulClass, sizes: MatmulSizes) {
  const { rows, columns, inner, transposeA, transposeB } = sizes;
  const a = Tensor.from(gpu, values(rows * inner, 1), transposeA ? [inner, rows] : [rows, inner]);
  const shape = transposeB ? [columns, inner] : [inner, columns];
  const weights = values(inner * columns, 2);
  if (!name.startsWith("packed")) {
    const b = Tensor.from(gpu, weights, shape);
    return { a, b, plain: b };
  }
  const bytes = packRows(weights, inner, "int4");
  const plain = Tensor.from(gpu, unpackRows(bytes, inner, "int4"), shape);
  return { a, b: Tensor.fromBytes(gpu, bytes, shape, "int4"), plain };
}

/** Values in [-1, 1) without a pattern that a tile could hide. */
function values(n: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

function agree(got: ArrayLike<number>, want: ArrayLike<number>): boolean {
  let [scale, worst] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    scale = Math.max(scale, Math.abs(want[i]));
    const error = Math.abs(got[i] - want[i]);
    if (!(error <= worst)) worst = error; // also NaN
  }
  return worst <= TOLERANCE * scale;
}

/** Milliseconds of one run of each, per round; the runs take turns. */
async function timeInTurns(
  gpu: Gpu,
  runs: readonly (() => void)[],
  idleMs: number,
): Promise<number[][]> {
  const sample = async (run: () => void, repeats: number) => {
    const ms = await timed(gpu, () => {
      for (let n = 0; n < repeats; n++) run();
    });
    return Math.max(ms - idleMs, 1e-3);
  };
  const repeats: number[] = [];
  for (const run of runs) {
    let [n, ms] = [1, await sample(run, 1)];
    while (ms < LEAST_MS && n < MOST_REPEATS) ms = await sample(run, n *= 4);
    repeats.push(Math.min(MOST_REPEATS, Math.max(1, Math.round(n * SAMPLE_MS / ms))));
  }
  const times = runs.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    const known = times.map(median);
    const least = Math.min(...known);
    for (const [i, run] of runs.entries()) {
      if (i > 0 && known[i] > HOPELESS * least) continue;
      times[i].push(await sample(run, repeats[i]) / repeats[i]);
    }
  }
  return times;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[Math.floor(sorted.length / 2)] ?? Infinity;
}

async function timed(gpu: Gpu, run: () => void): Promise<number> {
  await gpu.settle();
  const start = performance.now();
  run();
  await gpu.settle();
  return performance.now() - start;
}

/** What waiting costs when there is next to nothing to wait for; in Deno some 11 ms. */
async function idle(gpu: Gpu): Promise<number> {
  const tiny = Tensor.zeros(gpu, [4, 4]);
  const sizes = { rows: 4, columns: 4, inner: 4, transposeA: false, transposeB: false };
  let least = Infinity;
  for (let i = 0; i < 5; i++) {
    least = Math.min(least, await timed(gpu, () => product(tiny, tiny, sizes).dispose()));
  }
  tiny.dispose();
  return least;
}
