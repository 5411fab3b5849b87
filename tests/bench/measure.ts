// What benches share: medians, contenders that take turns, Deno's fixed wait, and the most that arithmetic in
// registers reaches on an adapter. A rate above that ceiling is a broken measurement, not a fast kernel.

import type { Gpu } from "../../lib/gpu/device.ts";
import { Kernel } from "../../lib/gpu/kernel.ts";
import { Tensor } from "../../lib/tensor.ts";

/** The middle value; of an even number, the mean of the two in the middle. NaN without values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}

/** `(Π values)^(1/n)`. NaN without values. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
}

/** Slope of the least-squares line through (log x, log y). */
export function logSlope(points: readonly (readonly [number, number])[]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)]);
  const mean = (axis: number) => logs.reduce((sum, p) => sum + p[axis], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  const along = logs.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0);
  return along / logs.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
}

/** Work that can be repeated and waited for. */
export interface Timed {
  /** Records or submits the work once. */
  launch(): void;
  /** Resolves when all that was launched has run. */
  settle(): Promise<void>;
}

/**
 * Milliseconds that waiting takes when there is nothing to wait for. Deno polls: each wait ends about 11 ms after the
 * work does. Median of 7.
 */
export async function fixedWait(settle: () => Promise<void>): Promise<number> {
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    const start = performance.now();
    await settle();
    if (i > 0) waits.push(performance.now() - start); // the first one may compile something
  }
  return median(waits);
}

/** Milliseconds of `repeats` launches and the wait for them, less the fixed wait; never below 1 µs. */
export async function elapsed(work: Timed, repeats: number, waitMs: number): Promise<number> {
  await work.settle();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) work.launch();
  await work.settle();
  return Math.max(performance.now() - start - waitMs, 1e-3);
}

/** How often work is launched per sample so that the sample takes about `targetMs`, and at most `most` times. */
export async function repeatsFor(
  work: Timed,
  waitMs: number,
  targetMs: number,
  most: number,
): Promise<number> {
  let repeats = 1;
  while (repeats < most) {
    const ms = await elapsed(work, repeats, waitMs);
    if (ms >= targetMs / 2) break;
    const factor = Math.min(targetMs / Math.max(ms, 1), 50);
    repeats = Math.min(most, Math.max(2 * repeats, Math.ceil(repeats * factor)));
  }
  return repeats;
}

/**
 * Samples contenders in turns, so that what else the machine does meets all of them alike; every round starts with
 * another one.
 *
 * @param sample takes one sample of one contender
 * @returns for each contender its samples, in order
 */
export async function takeTurns<T, S>(
  contenders: readonly T[],
  rounds: number,
  sample: (contender: T, round: number) => Promise<S>,
): Promise<S[][]> {
  const samples: S[][] = contenders.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const i = (turn + round) % contenders.length;
      samples[i].push(await sample(contenders[i], round));
    }
  }
  return samples;
}

/** Multiply-adds in registers: `chains` independent ones of one type, so that latency is hidden. */
interface FmaVariant {
  type: "f32" | "vec4f";
  chains: number;
  /** Multiply-adds of a chain per turn of the loop. */
  unroll: number;
  /** Threads of a workgroup. */
  block: number;
}

/** None is best everywhere: few chains wait for results, many spill registers. */
const VARIANTS: readonly FmaVariant[] = [
  { type: "f32", chains: 4, unroll: 32, block: 64 },
  { type: "f32", chains: 8, unroll: 32, block: 64 },
  { type: "f32", chains: 8, unroll: 8, block: 8 },
  { type: "f32", chains: 12, unroll: 8, block: 8 },
  { type: "f32", chains: 12, unroll: 8, block: 64 },
  { type: "f32", chains: 16, unroll: 8, block: 64 },
  { type: "vec4f", chains: 2, unroll: 16, block: 64 },
  { type: "vec4f", chains: 3, unroll: 8, block: 8 },
  { type: "vec4f", chains: 4, unroll: 32, block: 64 },
];

const THREADS = 2 ** 17;
const SAMPLE_MS = 60;

/**
 * x ← a x + b in every chain, `loops` × unroll times; y is the sum of a thread's chains. Chains, components and
 * threads start at different values (see `startSum`): a compiler merges what is alike.
 */
function fmaCode({ type, chains, unroll, block }: FmaVariant): string {
  const names = Array.from({ length: chains }, (_, i) => `x${i}`);
  const step = names.map((x) => `${x} = fma(${x}, a, b);`).join(" ");
  const starts = names.map((x, i) =>
    type === "f32"
      ? `var ${x} = own + ${i}.0;`
      : `var ${x} = own + vec4f(${[0, 1, 2, 3].map((c) => `${4 * i + c}.0`).join(", ")});`
  );
  const total = `(${names.join(" + ")})`;
  return `struct Params { a: f32, b: f32, loops: u32 }
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;
@compute @workgroup_size(${block})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = ${type}(params.a);
  let b = ${type}(params.b);
  let own = 2.0 + f32(id.x & 7u) / 8.0;
  ${starts.join("\n  ")}
  for (var i = 0u; i < params.loops; i++) {
${`    ${step}\n`.repeat(unroll)}  }
  y[id.x] = ${type === "f32" ? total : `dot(${total}, vec4f(1.0))`};
}
`;
}

const kernels = VARIANTS.map((v) =>
  new Kernel(`fma_${v.type}_${v.chains}_${v.unroll}_${v.block}`, { main: fmaCode(v) })
);

/** The most multiply-adds per second seen. */
export interface Ceiling {
  /** GFLOP/s of the best variant; a multiply-add counts as two. */
  gflops: number;
  /** GFLOP/s of each variant, by name. */
  variants: Record<string, number>;
}

/**
 * GFLOP/s of f32 multiply-adds that touch no memory: the best of several unrolled loops, each the best of `rounds`
 * samples taken in turns. Their results are checked. A lower bound of what the adapter can do, so measure it before
 * and after what it is to judge, and take the larger one.
 *
 * @throws {Error} If a variant computed something else
 */
export async function fmaCeiling(gpu: Gpu, rounds = 5): Promise<Ceiling> {
  const settle = () => gpu.settle();
  const waitMs = await fixedWait(settle);
  const y = Tensor.empty(gpu, [THREADS]);
  const loops = VARIANTS.map(() => 1);
  const time = (i: number) => {
    const params = { a: decay(i, loops[i]), b: 1 - decay(i, loops[i]), loops: loops[i] };
    const launch = () =>
      kernels[i].run(gpu, {
        buffers: { y: y.buffer },
        params,
        grid: [THREADS / VARIANTS[i].block],
      });
    return elapsed({ launch, settle }, 1, waitMs);
  };
  const indices = [...VARIANTS.keys()];
  for (const i of indices) {
    await time(i); // compiles
    while (await time(i) < SAMPLE_MS / 2 && loops[i] < 2 ** 20) loops[i] *= 2;
  }
  const samples = await takeTurns(indices, rounds, time);
  const rates = indices.map((i) =>
    2 * lanesOf(VARIANTS[i]) * y.size * loops[i] * VARIANTS[i].unroll / Math.min(...samples[i]) /
    1e6
  );
  for (const i of indices) {
    await time(i);
    await checkChains(y, i, loops[i]);
  }
  y.dispose();
  const variants = Object.fromEntries(indices.map((i) => [nameOf(VARIANTS[i]), rates[i]]));
  return { gflops: Math.max(...rates), variants };
}

/**
 * Multiply-adds in registers as a contender: what a kernel in the same turns is judged by.
 *
 * @param variant a name from {@link Ceiling.variants}
 * @param flop about how many operations a launch makes
 */
export function fmaWork(
  gpu: Gpu,
  variant: string,
  flop: number,
): Timed & { flop: number; dispose(): void } {
  const i = VARIANTS.findIndex((v) => nameOf(v) === variant);
  const perLoop = 2 * lanesOf(VARIANTS[i]) * THREADS * VARIANTS[i].unroll;
  const loops = Math.max(1, Math.round(flop / perLoop));
  const y = Tensor.empty(gpu, [THREADS]);
  const params = { a: decay(i, loops), b: 1 - decay(i, loops), loops };
  return {
    launch: () =>
      kernels[i].run(gpu, {
        buffers: { y: y.buffer },
        params,
        grid: [THREADS / VARIANTS[i].block],
      }),
    settle: () => gpu.settle(),
    flop: perLoop * loops,
    dispose: () => y.dispose(),
  };
}

const lanesOf = ({ type, chains }: FmaVariant) => chains * (type === "f32" ? 1 : 4);
const nameOf = ({ type, chains, unroll, block }: FmaVariant) =>
  `${type} × ${chains}, ${unroll} a turn, groups of ${block}`;

/** The factor that leaves 1/e of a deviation after all steps, as f32. */
const decay = (variant: number, loops: number) =>
  Math.fround(Math.exp(-1 / (loops * VARIANTS[variant].unroll)));

/** Sum of the values that a thread's chains start from. */
const startSum = (lanes: number, thread: number) =>
  lanes * (2 + (thread & 7) / 8) + lanes * (lanes - 1) / 2;

/** The fixed point is 1 and the last deviations aⁿ times the first. Rounding in 3·10⁷ steps costs a few percent. */
async function checkChains(y: Tensor, variant: number, loops: number): Promise<void> {
  const lanes = lanesOf(VARIANTS[variant]);
  const name = nameOf(VARIANTS[variant]);
  const factor = decay(variant, loops) ** (loops * VARIANTS[variant].unroll);
  const expected = (thread: number) => lanes + factor * (startSum(lanes, thread) - lanes);
  const got = await y.floats();
  const wrong = got.findIndex((v, i) => !(Math.abs(v - expected(i)) <= 0.05 * expected(i)));
  if (wrong < 0) return;
  throw new Error(
    `Cannot use the multiply-add ceiling ${name}: thread ${wrong} got ${got[wrong]}, ` +
      `expected ${expected(wrong)}`,
  );
}
