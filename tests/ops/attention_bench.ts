// Attention beside the matrix products it is made of: forward as one NT and one NN product, forward with backward
// as three NT, two NN and two TN, of the same head size, of rows as long as the mean number of keys a query sees,
// and of the same flop in all. Flop are those of the pairs the mask lets through (4 D per pair and head forward,
// 14 D with backward), whatever a kernel visits beyond them. Both sides take turns in every round; the ratio is the
// median of the rounds' ratios. Outputs are checked first. At the end, slopes of the time over tokens and samples.
//
//   deno run -A tests/ops/attention_bench.ts [part of a shape's name, or slopes] [tiles | rows]

import assert from "node:assert/strict";
import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { Gpu, openDevice } from "../../lib/gpu/device.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask, type TokenMask, visibleKeys } from "../../lib/ops/attention_mask.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, normals } from "../helpers.ts";

interface Shape {
  name: string;
  samples: number[];
  H: number;
  K: number;
  D: number;
  mode: number;
}

const SHAPES: Shape[] = [
  { name: "demo", samples: Array(20).fill(45), H: 4, K: 4, D: 24, mode: 0 },
  { name: "demo, grouped", samples: Array(12).fill(40), H: 4, K: 2, D: 24, mode: 0 },
  { name: "4×256", samples: Array(4).fill(256), H: 4, K: 4, D: 32, mode: 0 },
  { name: "ViT 4×256", samples: Array(4).fill(256), H: 4, K: 4, D: 72, mode: 1 },
  { name: "VAE 8×8", samples: Array(16).fill(64), H: 1, K: 1, D: 64, mode: 1 },
  { name: "VAE 16×16", samples: [256], H: 1, K: 1, D: 512, mode: 1 },
  { name: "7B layer", samples: [2048], H: 28, K: 4, D: 128, mode: 0 },
];

const ROUNDS = 5;
const LEAST_MS = 20; // of one measurement: short work is repeated
const MOST_VALUES = 2 ** 23; // of a product's output: beyond, several products of fewer rows
const TOLERANCE = 1e-4;

/** Causal or full samples, one split each. */
function tokensOf({ samples, mode }: Shape): TokenMask {
  const n = samples.reduce((a, b) => a + b, 0);
  const sample = new Int32Array(n);
  let at = 0;
  samples.forEach((length, s) => sample.fill(s, at, at += length));
  return { sample, split: sample, mode: new Int32Array(n).fill(mode) };
}

/** Milliseconds of `times` runs on the device; its poll sleeps after the work, so the synchronous call is timed. */
async function time(gpu: Gpu, run: () => void, times = 1): Promise<number> {
  await gpu.settle();
  const start = performance.now();
  for (let i = 0; i < times; i++) tidy(run);
  gpu.flush();
  const done = gpu.device.queue.onSubmittedWorkDone();
  const elapsed = performance.now() - start;
  await done;
  gpu.check();
  return elapsed / times;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** What one shape is measured with. */
class Bench {
  readonly tokens: TokenMask;
  /** Pairs of a query and a key it sees, all of them in its range. */
  readonly pairs: number;
  readonly #gpu: Gpu;
  readonly #shape: Shape;
  readonly #inputs: Tensor[];
  readonly #host: Float32Array[];
  readonly #dy: Tensor;
  readonly #mask;

  constructor(gpu: Gpu, shape: Shape) {
    const { H, K, D } = shape;
    this.#gpu = gpu;
    this.#shape = shape;
    this.tokens = tokensOf(shape);
    const n = this.tokens.sample.length;
    const { lo, hi } = visibleKeys(this.tokens, this.tokens);
    this.pairs = hi.reduce((sum, h, i) => sum + h - lo[i], 0);
    this.#mask = attentionMask(gpu, this.tokens);
    this.#host = [H, K, K, H].map((heads, i) => normals(n * heads * D, i + 1));
    const tensors = this.#host.map((x, i) => Tensor.from(gpu, x, [n, [H, K, K, H][i], D]));
    this.#inputs = tensors.slice(0, 3).map(parameter);
    this.#dy = tensors[3];
  }

  forward = () => {
    const [q, k, v] = this.#inputs;
    noGrad(() => attention(q, k, v, this.#mask)).dispose();
  };

  both = () => {
    const { grads } = this.#run();
    for (const grad of grads.values()) grad.dispose();
  };

  #run() {
    const [q, k, v] = this.#inputs;
    const y = attention(q, k, v, this.#mask);
    return { y, grads: backward(y, { seeds: [this.#dy] }) };
  }

  /**
   * Compares three queries' y and dq with f64, and checks dk and dv by what they sum to: Σ_j dv = Σ_i dy in each
   * group of heads, Σ_j k · dk = Σ_i q · dq.
   */
  async check(): Promise<void> {
    const { H, K, D, name } = this.#shape;
    const { y, grads } = tidy(() => this.#run());
    const all = [y, ...this.#inputs.map((x) => grads.get(x)!)];
    const [gotY, dq, dk, dv] = await readAll(all) as Float32Array[];
    for (const t of all) t.dispose();
    const [q, k, v, dy] = this.#host;
    const n = this.tokens.sample.length;
    const { lo, hi } = visibleKeys(this.tokens, this.tokens);
    const scale = D ** -0.5;
    for (const i of [0, n >> 1, n - 1]) {
      for (const h of [0, H - 1]) {
        const own = (i * H + h) * D;
        const g = Math.floor(h * K / H);
        const keys = Array.from({ length: hi[i] - lo[i] }, (_, j) => ((lo[i] + j) * K + g) * D);
        const dot = (a: Float32Array, b: Float32Array, at: number) =>
          Array.from({ length: D }, (_, d) => a[own + d] * b[at + d]).reduce((s, x) => s + x);
        const scores = keys.map((at) => scale * dot(q, k, at));
        const top = Math.max(...scores);
        const powers = scores.map((s) => Math.exp(s - top));
        const sum = powers.reduce((a, b) => a + b);
        const p = powers.map((x) => x / sum);
        const mixed = (weights: number[], x: Float32Array) =>
          Array.from(
            { length: D },
            (_, d) => keys.reduce((s, at, j) => s + weights[j] * x[at + d], 0),
          );
        const dp = keys.map((at) => dot(dy, v, at));
        const delta = p.reduce((s, x, j) => s + x * dp[j], 0);
        const ds = p.map((x, j) => scale * x * (dp[j] - delta));
        const what = `${name}: query ${i}, head ${h}`;
        const row = (x: Float32Array) => x.subarray(own, own + D);
        assertClose(row(gotY), mixed(p, v), TOLERANCE, `${what} y`);
        if (keys.length > 1) assertClose(row(dq), mixed(ds, k), TOLERANCE, `${what} dq`);
      }
    }
    const summed = (x: Float32Array, heads: number) => {
      const sums = new Float64Array(K * D);
      x.forEach((value, at) => {
        const [h, d] = [Math.floor(at / D) % heads, at % D];
        sums[Math.floor(h * K / heads) * D + d] += value;
      });
      return sums;
    };
    assertClose(summed(dv, K), summed(dy, H), TOLERANCE, `${name} Σ dv`);
    const dots = (a: Float32Array, b: Float32Array) => a.reduce((s, x, i) => s + x * b[i], 0);
    const [left, right] = [dots(k, dk), dots(q, dq)];
    const size = Math.sqrt(dots(dq, dq) * q.length);
    assert.ok(
      Math.abs(left - right) < TOLERANCE * size,
      `${name}: Σ k·dk ${left}, Σ q·dq ${right}`,
    );
  }

  /** Products of the same flop: `counts` of NT, NN and TN over all pairs. */
  products(counts: readonly number[]): { run: () => void; flop: number; free: () => void } {
    const { H, D } = this.#shape;
    const gpu = this.#gpu;
    const keys = 4 * Math.max(1, Math.round(this.pairs / this.tokens.sample.length / 4));
    const all = this.pairs * H / keys;
    const parts = Math.ceil(all * keys / MOST_VALUES);
    const rows = 4 * Math.ceil(all / parts / 4);
    const [tall, flat, square] = [[rows, D], [keys, D], [rows, keys]].map(([r, c]) =>
      Tensor.from(gpu, normals(r * c, r + c), [r, c])
    );
    const plain = { transposeA: false, transposeB: false };
    const runs = [
      () => product(tall, flat, { ...plain, rows, columns: keys, inner: D, transposeB: true }),
      () => product(square, flat, { ...plain, rows, columns: D, inner: keys }),
      () =>
        product(square, tall, { ...plain, rows: keys, columns: D, inner: rows, transposeA: true }),
    ];
    return {
      run: () => {
        for (let part = 0; part < parts; part++) {
          counts.forEach((count, i) => {
            for (let c = 0; c < count; c++) runs[i]().dispose();
          });
        }
      },
      flop: 2 * rows * keys * D * parts * counts.reduce((a, b) => a + b),
      free: () => [tall, flat, square].forEach((t) => t.dispose()),
    };
  }

  free(): void {
    for (const t of [...this.#inputs, this.#dy, this.#mask.table]) t.dispose();
  }
}

async function measure(gpu: Gpu, shape: Shape): Promise<void> {
  const bench = new Bench(gpu, shape);
  const { name, H, K, D } = shape;
  const first = [await time(gpu, bench.forward), await time(gpu, bench.both)];
  await bench.check();
  const kinds = [["forward", bench.forward, 4, [1, 1, 0]], ["both", bench.both, 14, [
    3,
    2,
    2,
  ]]] as const;
  for (const [i, [what, run, perPair, counts]] of kinds.entries()) {
    const products = bench.products(counts);
    await time(gpu, products.run);
    const once = await time(gpu, run);
    const repeats = Math.ceil(LEAST_MS / once);
    const [own, others, ratios]: number[][] = [[], [], []];
    for (let round = 0; round < (once > 2000 ? 1 : ROUNDS); round++) {
      own.push(perPair * D * H * bench.pairs / await time(gpu, run, repeats) / 1e6);
      others.push(products.flop / await time(gpu, products.run, repeats) / 1e6);
      ratios.push(own.at(-1)! / others.at(-1)!);
    }
    console.log(
      `${name.padEnd(14)} ${`(${bench.tokens.sample.length}, ${H}/${K}, ${D})`.padEnd(18)}` +
        `${what.padEnd(8)} ${median(own).toFixed(1).padStart(5)} GFLOP/s, products ` +
        `${median(others).toFixed(1).padStart(5)}, ratio ${median(ratios).toFixed(2)} ` +
        `(${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}), first ${
          first[i].toFixed(0)
        } ms`,
    );
    products.free();
  }
  bench.free();
}

/** Log-log slope of the fastest times over sizes, measured in turns. */
async function slope(gpu: Gpu, what: string, sizes: number[], shapeOf: (size: number) => Shape) {
  const benches = sizes.map((size) => new Bench(gpu, shapeOf(size)));
  for (const kind of ["forward", "both"] as const) {
    const best = sizes.map(() => Infinity);
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [i, bench] of benches.entries()) {
        const ms = await time(gpu, bench[kind], Math.ceil(8 * sizes.at(-1)! / sizes[i] / 4));
        if (round > 0) best[i] = Math.min(best[i], ms);
      }
    }
    const [x, y] = [sizes.map(Math.log), best.map(Math.log)];
    const mean = (z: number[]) => z.reduce((a, b) => a + b) / z.length;
    const covariance = mean(x.map((a, i) => a * y[i])) - mean(x) * mean(y);
    const rise = covariance / (mean(x.map((a) => a * a)) - mean(x) ** 2);
    const times = best.map((ms, i) => `${sizes[i]}: ${ms.toFixed(1)}`).join(", ");
    console.log(`slope over ${what}, ${kind}: ${rise.toFixed(2)} (ms at ${times})`);
  }
  for (const bench of benches) bench.free();
}

const [wanted = "", family = "default"] = Deno.args;
const opened = await openDevice();
const { device, subgroupLine } = opened;
const facts = { ...opened.adapter, software: family === "rows" };
const gpu = family === "default" ? opened : new Gpu(device, facts, 0, subgroupLine, {});
console.log(`attention on ${gpu.adapter.name}, ${family} kernels; median of ${ROUNDS} rounds`);
for (const shape of SHAPES.filter((s) => s.name.includes(wanted))) await measure(gpu, shape);
if (wanted === "" || wanted === "slopes") {
  const common = { name: "slopes", H: 4, K: 4, D: 64, mode: 0 };
  await slope(
    gpu,
    "tokens of one sample",
    [256, 512, 1024, 2048],
    (n) => ({ ...common, samples: [n] }),
  );
  await slope(gpu, "samples of 256 tokens", [1, 2, 4, 8], (n) => ({
    ...common,
    samples: Array(n).fill(256),
  }));
}
gpu.close();
