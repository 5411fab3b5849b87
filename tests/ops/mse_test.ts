import assert from "node:assert/strict";
import { mse } from "../../lib/ops/mse.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(cols: number) {
  return ([pred, target]: Float64Array[]) => {
    const loss = new Float64Array(pred.length / cols);
    pred.forEach((p, i) => loss[Math.floor(i / cols)] += (p - target[i]) ** 2 / cols);
    return loss;
  };
}

const inputs = (rows: number, cols: number) => [
  { name: "pred", shape: [rows, cols] },
  { name: "target", shape: [rows, cols] },
];

Deno.test(
  "mse() matches the reference with one and with many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const [rows, cols] of [[1, 1], [54, 16], [17, 5], [3, 1023]]) {
        await checkOp(gpu, {
          name: `mse ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: inputs(rows, cols),
          op: ([pred, target]) => mse(pred, target),
          reference: reference(cols),
        });
      }
    }
  },
);

Deno.test("mse() splits tensors beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "mse in ranges of rows",
    inputs: inputs(301, 20),
    op: ([pred, target]) => mse(pred, target),
    reference: reference(20),
  });
});

Deno.test("mse() refuses different shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => mse(Tensor.zeros(gpu, [2, 3]), Tensor.zeros(gpu, [2, 4])), {
    name: "TypeError",
    message: "Cannot compare (2, 3) with (2, 4) row by row",
  });
});
