// Products with weights as f32, bf16, int8 and int4, at the shapes of the 14.6 B model: one row (decoding) and 280
// (a prompt with one image). Variants take turns in every round, so that their ratios survive a busy machine,
// and every result is compared with f64. Rates are of wall time and, as other work on the machine slows that
// down, of processor time: work / (CPU seconds / cores), what an idle machine would reach.
//
//   deno task bench:packed [NxOUTxIN …]

import { availableParallelism } from "node:os";
import process from "node:process";
import { openDevice } from "../../lib/gpu/device.ts";
import type { MatmulChoice } from "../../lib/ops/matmul_config.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import type { PackedDType } from "../../lib/ops/packed_rows.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, normals } from "../helpers.ts";
import { packedWeights } from "./packed_weights.ts";

const ROUNDS = 5;
const SAMPLE_WEIGHTS = 2e7; // per sample: repeats make small products long enough to time
const CHECKED = 64; // columns compared with f64
const SHAPES = [
  "1x3584x3584",
  "1x18944x3584",
  "1x3584x18944",
  "1x512x3584",
  "1x16384x3584", // a slice of the head
  "4x3584x3584",
  "280x3584x3584",
  "280x18944x3584",
  "280x512x3584",
];
const DTYPES: readonly PackedDType[] = ["bf16", "int8", "int4"];

const gpu = await openDevice({ budgetBytes: 6 * 2 ** 30 });
const cores = availableParallelism();
const register: MatmulChoice = { kernel: "register", rowBlocks: 1, columnBlocks: 2, splits: 1 };

interface Variant {
  name: string;
  weight: Tensor;
  values: Float32Array;
  choice?: MatmulChoice;
}

interface Spent {
  wallMs: number;
  cpuMs: number;
}

/** Time of the device's work: the call that waits blocks until it is done, then Deno idles a little. */
async function spend(run: () => void): Promise<Spent> {
  await gpu.settle();
  const [start, before] = [performance.now(), process.cpuUsage()];
  run();
  gpu.flush();
  const done = gpu.device.queue.onSubmittedWorkDone();
  const { user, system } = process.cpuUsage(before);
  const spent = { wallMs: performance.now() - start, cpuMs: (user + system) / 1000 / cores };
  await done;
  await gpu.settle();
  return spent;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

console.log(`on ${gpu.adapter.name}, ${cores} cores; medians of ${ROUNDS} rounds`);
for (const shape of Deno.args.length > 0 ? Deno.args : SHAPES) {
  const [rows, columns, inner] = shape.split("x").map(Number);
  const x = normals(rows * inner, 1);
  const a = Tensor.from(gpu, x, [rows, inner]);
  const exact = normals(columns * inner, 2);
  const weight = Tensor.from(gpu, exact, [columns, inner]);
  const f32: Variant = { name: "f32", weight, values: exact };
  const variants: Variant[] = [f32];
  if (rows <= 4) variants.push({ ...f32, name: "f32 register", choice: register });
  for (const dtype of DTYPES) {
    variants.push({ name: dtype, ...packedWeights(gpu, [columns, inner], dtype, 2) });
  }
  const sizes = { rows, columns, inner, transposeA: false, transposeB: true };
  const run = ({ weight, choice }: Variant) =>
    product(a, weight, choice ? { ...sizes, choice } : sizes);

  for (const variant of variants) {
    const y = run(variant);
    const got = await y.floats();
    y.dispose();
    const step = Math.max(1, Math.floor(columns / CHECKED));
    const [some, want]: number[][] = [[], []];
    for (let c = 0; c < columns; c += step) {
      const r = c % rows;
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += x[r * inner + k] * variant.values[c * inner + k];
      want.push(sum);
      some.push(got[r * columns + c]);
    }
    assertClose(some, want, FORWARD, `${variant.name} ${shape}`);
  }

  const repeats = Math.max(1, Math.round(SAMPLE_WEIGHTS / (rows * columns * inner)));
  const spent = variants.map((): Spent[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, variant] of variants.entries()) {
      spent[i].push(
        await spend(() => {
          for (let j = 0; j < repeats; j++) run(variant).dispose();
        }),
      );
    }
  }
  console.log(`${shape}: wall and processor time, and of the latter the ratio to f32`);
  const cpu = spent.map((times) => median(times.map((t) => t.cpuMs)) / repeats);
  for (const [i, { name }] of variants.entries()) {
    const wall = median(spent[i].map((t) => t.wallMs)) / repeats;
    const weights = (ms: number) => (columns * inner / ms / 1e6).toFixed(2).padStart(6);
    const flop = (ms: number) => (2 * rows * columns * inner / ms / 1e6).toFixed(1).padStart(6);
    console.log(
      `  ${name.padEnd(13)}${weights(wall)} ${weights(cpu[i])} Gweights/s   ` +
        `${flop(wall)} ${flop(cpu[i])} GFLOP/s   ${(cpu[0] / cpu[i]).toFixed(2)}x`,
    );
  }
  for (const t of new Set([a, ...variants.map((v) => v.weight)])) t.dispose();
  gpu.buffers.trim();
}
gpu.close();
