// This lab's ops as a contender, used as the model uses them.

import { backward, noGrad, parameter, reshape } from "../../lib/autograd.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { add } from "../../lib/ops/add.ts";
import { attention } from "../../lib/ops/attention.ts";
import { type AttentionMask, attentionMask, CAUSAL, FULL } from "../../lib/ops/attention_mask.ts";
import { linear } from "../../lib/ops/linear.ts";
import { matmul } from "../../lib/ops/matmul.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { softmax } from "../../lib/ops/softmax.ts";
import { weightedSum } from "../../lib/ops/sum.ts";
import { geluTanh } from "../../lib/ops/unary.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { BLOCK_EPS, type BlockShape } from "./peers_block.ts";
import type { Work } from "./peers_cases.ts";
import { adapterOf, type Engine, listen } from "./peers_engine.ts";

/** Our ops on a device; the caller closes it. */
export function ourEngine(gpu: Gpu): Engine {
  const errors: string[] = [];
  listen(gpu.device, errors);
  return {
    name: "ours",
    way: "ops of lib/ops; gradients by backward; inputs count as new in every launch",
    adapter: adapterOf(gpu.device),
    errors,
    prepare(work, arrays) {
      const inputs = arrays.map(({ data, shape }) => Tensor.from(gpu, data, shape));
      const mask = work.kind === "block" ? maskOf(gpu, work.shape) : undefined;
      let outputs: Tensor[] = [];
      return {
        launch() {
          for (const t of outputs) t.dispose();
          // Copies that the library keeps of its inputs would otherwise be made in the first launch only.
          for (const t of inputs) t.buffer.version++;
          outputs = tidy(() => compute(work, inputs, mask)).map((t) => t.keep());
        },
        async read() {
          return await readAll(outputs) as Float32Array[];
        },
        dispose() {
          for (const t of [...inputs, ...outputs]) t.dispose();
          mask?.table.dispose();
          outputs = [];
        },
      };
    },
    settle: () => gpu.settle(),
    close: () => {},
  };
}

function compute(work: Work, inputs: Tensor[], mask: AttentionMask | undefined): Tensor[] {
  if (work.kind === "matmul") {
    const { layout } = work;
    const options = { transposeA: layout[0] === "T", transposeB: layout[1] === "T" };
    return [noGrad(() => matmul(inputs[0], inputs[1], options))];
  }
  if (work.kind === "block") return block(work.shape, inputs, mask!);
  const dy = inputs.at(-1)!;
  const sources = inputs.slice(0, -1).map(parameter);
  const y = work.kind === "softmax" ? softmax(sources[0]) : rmsNorm(sources[0], sources[1]);
  const grads = backward(y, { seeds: [dy] });
  return [y, ...sources.map((t) => grads.get(t)!)];
}

function block(shape: BlockShape, inputs: Tensor[], mask: AttentionMask): Tensor[] {
  const sources = inputs.slice(0, -1).map(parameter);
  const [x, norm1, query, key, value, project, norm2, up, down] = sources;
  const { heads, width } = shape;
  const split = (t: Tensor) => reshape(t, [t.dim(0), heads, width / heads]); // (N, C) → (N, H, D)
  const first = rmsNorm(x, norm1, BLOCK_EPS);
  const [q, k, v] = [query, key, value].map((w) => split(linear(first, w)));
  const attended = reshape(attention(q, k, v, mask), x.shape);
  const h = add(x, linear(attended, project));
  const y = add(h, linear(geluTanh(linear(rmsNorm(h, norm2, BLOCK_EPS), up)), down));
  const loss = weightedSum(y, inputs.at(-1)!);
  const grads = backward(loss);
  return [loss, ...sources.map((t) => grads.get(t)!)];
}

function maskOf(gpu: Gpu, { samples, length, causal }: BlockShape): AttentionMask {
  const n = samples * length;
  const sample = Int32Array.from({ length: n }, (_, i) => Math.floor(i / length));
  const mode = new Int32Array(n).fill(causal ? CAUSAL : FULL);
  return attentionMask(gpu, { sample, split: sample, mode });
}
