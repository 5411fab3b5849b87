// Attention at the model's shapes: forward and forward with backward, GFLOP/s counted over visible pairs
// (4 D per pair and head forward, 14 D with backward). The first line of a shape includes compilation.

import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { Gpu, openDevice } from "../../lib/gpu/device.ts";
import { attention } from "../../lib/ops/attention.ts";
import { attentionMask, type TokenMask, visibleKeys } from "../../lib/ops/attention_mask.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

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

/** Causal or full samples, one split each. */
function tokensOf({ samples, mode }: Shape): TokenMask {
  const n = samples.reduce((a, b) => a + b, 0);
  const sample = new Int32Array(n);
  let at = 0;
  samples.forEach((length, s) => sample.fill(s, at, at += length));
  return { sample, split: sample, mode: new Int32Array(n).fill(mode) };
}

/** Milliseconds of `run` on the device; its poll sleeps after the work, so the synchronous call is timed. */
async function time(gpu: Gpu, run: () => void): Promise<number> {
  await gpu.settle();
  const start = performance.now();
  tidy(run);
  gpu.flush();
  const done = gpu.device.queue.onSubmittedWorkDone();
  const elapsed = performance.now() - start;
  await done;
  gpu.check();
  return elapsed;
}

// Arguments: part of a shape's name, and `tiles` or `plain` for the kernels of another kind of adapter.
const [wanted = "", family = "default"] = Deno.args;
const opened = await openDevice();
const software = family === "default" ? opened.adapter.software : family !== "tiles";
const gpu = family === "default" ? opened : new Gpu(
  opened.device,
  { ...opened.adapter, software },
  0,
  opened.subgroupLine,
  {},
);
console.log(`attention on ${gpu.adapter.name}, ${family} kernels`);
for (const shape of SHAPES.filter((s) => s.name.includes(wanted))) {
  const { name, H, K, D } = shape;
  const tokens = tokensOf(shape);
  const n = tokens.sample.length;
  const { lo, hi } = visibleKeys(tokens, tokens);
  const pairs = hi.reduce((sum, h, i) => sum + h - lo[i], 0);
  const mask = attentionMask(gpu, tokens);
  const inputs = [H, K, K].map((heads, i) =>
    parameter(Tensor.from(gpu, normals(n * heads * D, i + 1), [n, heads, D]))
  );
  const dy = Tensor.from(gpu, normals(n * H * D, 9), [n, H, D]);
  const forward = () => void noGrad(() => attention(inputs[0], inputs[1], inputs[2], mask));
  const both = () => {
    const y = attention(inputs[0], inputs[1], inputs[2], mask);
    for (const grad of backward(y, { seeds: [dy] }).values()) grad.dispose();
  };
  for (const [what, run, perPair] of [["forward", forward, 4], ["both", both, 14]] as const) {
    const first = await time(gpu, run);
    const times = [];
    for (let i = 0; i < (first > 3000 ? 1 : 7); i++) times.push(await time(gpu, run));
    const best = Math.min(...times);
    const rate = perPair * D * H * pairs / best / 1e6;
    console.log(
      `${name} (${n}, ${H}/${K}, ${D}) ${what}: ${best.toFixed(2)} ms, ${rate.toFixed(1)} GFLOP/s` +
        `, first ${first.toFixed(0)} ms`,
    );
  }
  for (const t of [...inputs, dy, mask.table]) t.dispose();
}
gpu.close();
