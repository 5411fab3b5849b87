// GFLOP/s of 3×3 convolutions at the shapes of FLUX's decoder of 256 × 256 pixels, forward and both gradients, beside
// matrix products of the same sizes: M pixels, N channels out, K = 9 channels in. As many rows of the image as
// make WORK, so that every line takes about as long. All take turns in every round, and every result is checked:
// the forward product against the matrix product of the gathered pixels, the others against sums in f64.
//
//   deno run -A tests/ops/conv2d_bench.ts [SIDExC_INxC_OUT …]

import process from "node:process";
import { openDevice } from "../../lib/gpu/device.ts";
import { type ConvSizes, gather, weightGradient } from "../../lib/ops/conv2d_launch.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, normals } from "../helpers.ts";

const SHAPES = [
  "32x512x512",
  "64x512x512",
  "128x512x256",
  "128x256x256",
  "256x256x128",
  "256x128x128",
];
const WORK = 2e9; // multiply-adds of two operations each, per product
const ROUNDS = 3;
const SAMPLES = 24;

const gpu = await openDevice();

/** What one run takes: seconds of the processors on a software adapter, else seconds. */
async function costOf(run: () => Tensor): Promise<number> {
  await gpu.settle();
  const [start, used] = [performance.now(), process.cpuUsage()];
  const y = run();
  await gpu.settle();
  const spent = process.cpuUsage(used);
  y.dispose();
  if (!gpu.adapter.software) return (performance.now() - start) / 1e3;
  return (spent.user + spent.system) / 1e6;
}

/** (h·w, 9·C): the nine pixels around each, zeros outside, in the order (tap, channel). */
function gathered(x: Float32Array, { inHeight: h, inWidth: w, C }: ConvSizes): Float32Array {
  const rows = new Float32Array(h * w * 9 * C);
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      for (let tap = 0; tap < 9; tap++) {
        const [r, q] = [i + Math.floor(tap / 3) - 1, j + tap % 3 - 1];
        if (r < 0 || q < 0 || r >= h || q >= w) continue;
        const from = (r * w + q) * C;
        rows.set(x.subarray(from, from + C), ((i * w + j) * 9 + tap) * C);
      }
    }
  }
  return rows;
}

/** (9·C, O) from (O, C, 3, 3), rows in the order (tap, channel); transposed: (O, 9·C). */
function matrix(weight: Float32Array, { C, O }: ConvSizes, transposed: boolean): Float32Array {
  const b = new Float32Array(weight.length);
  for (let o = 0; o < O; o++) {
    for (let k = 0; k < 9 * C; k++) {
      b[transposed ? o * 9 * C + k : k * O + o] = weight[(o * C + k % C) * 9 + Math.floor(k / C)];
    }
  }
  return b;
}

/** Places of a few values, spread over `n`. */
function places(n: number): number[] {
  return Array.from({ length: SAMPLES }, (_, i) => Math.floor((i + 0.37) * n / SAMPLES));
}

/** Some values of dx or dweight in f64. */
function gradients(
  what: "dx" | "dweight",
  x: Float32Array,
  weight: Float32Array,
  dy: Float32Array,
  { inHeight: h, inWidth: w, C, O }: ConvSizes,
): number[] {
  return places(what === "dx" ? x.length : weight.length).map((at) => {
    let sum = 0;
    if (what === "dx") {
      const [i, j, c] = [Math.floor(at / C / w), Math.floor(at / C) % w, at % C];
      for (let tap = 0; tap < 9; tap++) {
        const [r, q] = [i - Math.floor(tap / 3) + 1, j - tap % 3 + 1];
        if (r < 0 || q < 0 || r >= h || q >= w) continue;
        for (let o = 0; o < O; o++) sum += dy[(r * w + q) * O + o] * weight[(o * C + c) * 9 + tap];
      }
      return sum;
    }
    const [o, c, tap] = [Math.floor(at / 9 / C), Math.floor(at / 9) % C, at % 9];
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++) {
        const [r, q] = [i + Math.floor(tap / 3) - 1, j + tap % 3 - 1];
        if (r < 0 || q < 0 || r >= h || q >= w) continue;
        sum += dy[(i * w + j) * O + o] * x[(r * w + q) * C + c];
      }
    }
    return sum;
  });
}

const median = (list: number[]) => list.toSorted((a, b) => a - b)[list.length >> 1];
const names = ["forward", "dx", "dweight", "matmul NN", "matmul NT"];
const unit = gpu.adapter.software ? "GFLOP per processor second" : "GFLOP/s";
console.log(`${unit} on ${gpu.adapter.name}, best of ${ROUNDS} rounds`);
console.log("share: median over rounds of the forward product's rate in that of the faster matmul");
console.log("pixels C_in C_out".padEnd(22), names.map((n) => n.padStart(11)).join(""), "  share");
const asked = Deno.args.length > 0 ? Deno.args : SHAPES;
for (const shape of asked) {
  const [side, C, O] = shape.split("x").map(Number);
  const rows = Math.min(side, Math.max(1, Math.round(WORK / (9 * C * O * side))));
  const place = { inHeight: rows, inWidth: side, outHeight: rows, outWidth: side };
  const s: ConvSizes = { images: 1, ...place, C, O, kernel: 3, stride: 1, left: 1, top: 1 };
  const [rowsOfA, inner] = [rows * side, 9 * C];
  const host = {
    x: normals(rowsOfA * C, 1),
    dy: normals(rowsOfA * O, 2),
    weight: normals(O * C * 9, 3, 1 / Math.sqrt(inner)),
  };
  const x = Tensor.from(gpu, host.x, [1, rows, side, C]);
  const dy = Tensor.from(gpu, host.dy, [1, rows, side, O]);
  const weight = Tensor.from(gpu, host.weight, [O, C, 3, 3]);
  const bias = Tensor.zeros(gpu, [O]);
  const a = Tensor.from(gpu, gathered(host.x, s), [rowsOfA, inner]);
  const b = Tensor.from(gpu, matrix(host.weight, s, false), [inner, O]);
  const bT = Tensor.from(gpu, matrix(host.weight, s, true), [O, inner]);
  const sizes = { rows: rowsOfA, columns: O, inner, transposeA: false };
  const runs = [
    () => gather("forward", x, weight, bias, s),
    () => gather("backward", dy, weight, weight, s),
    () => weightGradient(x, dy, s),
    () => product(a, b, { ...sizes, transposeB: false }),
    () => product(a, bT, { ...sizes, transposeB: true }),
  ];

  const values: Float32Array[] = [];
  for (const run of runs) {
    const y = run();
    values.push(await y.floats());
    y.dispose();
  }
  const [y, dx, dweight, nn, nt] = values;
  assertClose(y, nn, FORWARD, `forward of ${shape}`);
  assertClose(nt, nn, FORWARD, `matmul NT of ${shape}`);
  const pick = (of: Float32Array) => places(of.length).map((at) => of[at]);
  for (const [what, got] of [["dx", dx], ["dweight", dweight]] as const) {
    const want = gradients(what, host.x, host.weight, host.dy, s);
    assertClose(pick(got), want, 3 * FORWARD, `${what} of ${shape}`); // sums of thousands of terms
  }

  const costs = names.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, run] of runs.entries()) costs[i].push(await costOf(run));
  }
  const flop = 2 * rowsOfA * inner * O;
  const rates = costs.map((list) => (flop / Math.min(...list) / 1e9).toFixed(1).padStart(11));
  const share = median(costs[0].map((cost, i) => Math.min(costs[3][i], costs[4][i]) / cost));
  const named = `${side}x${rows} of ${side} ${C} ${O}`;
  console.log(named.padEnd(22), rates.join(""), `${(100 * share).toFixed(0)} %`.padStart(7));
  for (const t of [x, dy, weight, bias, a, b, bT]) t.dispose();
  gpu.buffers.trim();
}
gpu.close();
