import assert from "node:assert/strict";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(x: Float64Array, weight: Float64Array, bias: Float64Array): Float64Array {
  const cols = weight.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += cols) {
    let [mean, variance] = [0, 0];
    for (let c = 0; c < cols; c++) mean += x[start + c] / cols;
    for (let c = 0; c < cols; c++) variance += (x[start + c] - mean) ** 2 / cols;
    const rstd = 1 / Math.sqrt(variance + 1e-6);
    for (let c = 0; c < cols; c++) {
      y[start + c] = (x[start + c] - mean) * rstd * weight[c] + bias[c];
    }
  }
  return y;
}

const inputs = (rows: number, cols: number) => [
  { name: "x", shape: [rows, cols] },
  { name: "weight", shape: [cols] },
  { name: "bias", shape: [cols] },
];

Deno.test(
  "layerNorm() matches the reference with one and with many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const [rows, cols] of [[1, 8], [3, 1152], [67, 5], [5, 257]]) {
        await checkOp(gpu, {
          name: `layer norm ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: inputs(rows, cols),
          op: ([x, weight, bias]) => layerNorm(x, weight, bias),
          reference: ([x, weight, bias]) => reference(x, weight, bias),
          samples: 12,
        });
      }
    }
  },
);

Deno.test("layerNorm() splits tensors beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "layer norm in ranges of rows",
    inputs: inputs(301, 20),
    op: ([x, weight, bias]) => layerNorm(x, weight, bias),
    reference: ([x, weight, bias]) => reference(x, weight, bias),
  });
});

Deno.test("layerNorm() refuses a bias of another size", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, weight] = [Tensor.zeros(gpu, [2, 3]), Tensor.zeros(gpu, [3])];
  assert.throws(() => layerNorm(x, weight, Tensor.zeros(gpu, [3, 1])), {
    name: "TypeError",
    message: "Cannot normalize (2, 3) with a bias of (3, 1)",
  });
});
