// Row-wise and pointwise ops at the shapes of a small model's step, forward and with backward; those that
// reduce rows also as the other kind of adapter would run them. One sample is REPEATS runs and one wait for the device; the names
// say how many bytes the forward pass must at least move in a sample.

import { backward, parameter } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { crossEntropy } from "../../lib/ops/cross_entropy.ts";
import { gatherRows } from "../../lib/ops/gather_rows.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { mergeRows } from "../../lib/ops/merge_rows.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { rope, ropeTables } from "../../lib/ops/rope.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { swiglu } from "../../lib/ops/unary.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";
import { bothKinds } from "./variants.ts";

const REPEATS = 16;
const REDUCING = new Set(["rmsNorm", "rmsNorm per head", "layerNorm", "softmax", "crossEntropy"]);
const [N, C, H, D, F, V] = [1024, 128, 4, 32, 384, 512];

function make(gpu: Gpu, ...shape: number[]): Tensor {
  return parameter(Tensor.from(gpu, normals(shape.reduce((n, d) => n * d, 1), 1), shape));
}

function opsOn(gpu: Gpu): Record<string, { inputs: Tensor[]; op: () => Tensor }> {
  const [x, weight, bias] = [make(gpu, N, C), make(gpu, C), make(gpu, C)];
  const heads = make(gpu, N, H, D);
  const headWeight = make(gpu, D);
  const tables = ropeTables(gpu, Int32Array.from({ length: N }, (_, i) => i), D, 1e6);
  const half = Int32Array.from({ length: N / 2 }, (_, i) => 2 * i);
  const even = rowIndex(gpu, half, N);
  const odd = rowIndex(gpu, half.map((i) => i + 1), N);
  const words = rowIndex(gpu, Int32Array.from({ length: N }, (_, i) => (7 * i) % 300), V);
  const [und, gen, table] = [make(gpu, N / 2, C), make(gpu, N / 2, C), make(gpu, V, C)];
  const [gate, up] = [make(gpu, N, F), make(gpu, N, F)];
  const logits = make(gpu, N, V);
  const labels = Tensor.from(gpu, Int32Array.from({ length: N }, (_, i) => i % V), [N]);
  return {
    rmsNorm: { inputs: [x], op: () => rmsNorm(x, weight) },
    "rmsNorm per head": { inputs: [heads], op: () => rmsNorm(heads, headWeight) },
    layerNorm: { inputs: [x], op: () => layerNorm(x, weight, bias) },
    rope: { inputs: [heads], op: () => rope(heads, tables) },
    "gatherRows, each once": { inputs: [und], op: () => gatherRows(x, even) },
    "gatherRows, repeated": { inputs: [x], op: () => gatherRows(table, words) },
    mergeRows: { inputs: [und, gen], op: () => mergeRows([und, gen], [even, odd], N) },
    swiglu: { inputs: [gate, up], op: () => swiglu(gate, up) },
    softmax: { inputs: [logits], op: () => softmax(logits) },
    crossEntropy: { inputs: [logits], op: () => crossEntropy(logits, labels) },
  };
}

for (const [which, gpu] of (await bothKinds()).entries()) {
  const threads = gpu.adapter.software ? "one thread per row, " : "many threads per row, ";
  for (const [name, { inputs, op }] of Object.entries(opsOn(gpu))) {
    if (which > 0 && !REDUCING.has(name)) continue;
    const kind = REDUCING.has(name) ? threads : "";
    const y = tidy(op);
    const seed = make(gpu, ...y.shape);
    const moved = 4 * REPEATS * (inputs.reduce((n, t) => n + t.size, 0) + y.size);
    y.dispose();
    const runs = {
      forward: () => void op(),
      "forward and backward": () => void backward(op(), { seeds: [seed] }),
    };
    for (const [what, run] of Object.entries(runs)) {
      Deno.bench({
        name: `${name} ${what}, ${kind}${(moved / 1e6).toFixed(1)} MB`,
        group: `${name} ${what} on ${gpu.adapter.name}`,
        n: 5,
        warmup: 1,
        async fn() {
          for (let i = 0; i < REPEATS; i++) tidy(run);
          await gpu.settle();
        },
      });
    }
  }
}
