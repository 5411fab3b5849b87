import assert from "node:assert/strict";
import { softmax } from "../../lib/ops/softmax.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(cols: number) {
  return ([x]: Float64Array[]) => {
    const y = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += cols) {
      const row = x.subarray(start, start + cols);
      const m = row.reduce((a, b) => Math.max(a, b));
      const exps = row.map((v) => Math.exp(v - m));
      const sum = exps.reduce((a, b) => a + b);
      y.set(exps.map((e) => e / sum), start);
    }
    return y;
  };
}

Deno.test(
  "softmax() matches the reference with one and with many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const shape of [[1], [4, 7], [3, 5, 64], [67, 3], [2, 1021], [1, 4096]]) {
        await checkOp(gpu, {
          name: `softmax (${shape}), software ${gpu.adapter.software}`,
          inputs: [{ name: "x", shape }],
          op: ([x]) => softmax(x),
          reference: reference(shape.at(-1)!),
        });
      }
    }
  },
);

Deno.test("softmax() splits tensors beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "softmax in ranges of rows",
    inputs: [{ name: "x", shape: [301, 20] }],
    op: ([x]) => softmax(x),
    reference: reference(20),
  });
});

Deno.test("softmax() stays finite for huge logits", GPU_TEST, async () => {
  const x = Tensor.from(await testGpu(), [1e30, -1e30, 1e30, -1e4, -1e4, -1e4], [2, 3]);
  const third = 1 / 3;
  assertClose(await softmax(x).floats(), [0.5, 0, 0.5, third, third, third], 1e-6, "softmax");
});

Deno.test("softmax() refuses an empty axis", GPU_TEST, async () => {
  const x = Tensor.empty(await testGpu(), [2, 0]);
  assert.throws(() => softmax(x), {
    name: "RangeError",
    message: "Cannot take softmax over an empty axis: x is (2, 0)",
  });
});
