import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { crossEntropy } from "../../lib/ops/cross_entropy.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(labels: ArrayLike<number>, cols: number) {
  return ([x]: Float64Array[]) =>
    Float64Array.from(labels, (label, r) => {
      const row = x.subarray(r * cols, (r + 1) * cols);
      const m = row.reduce((a, b) => Math.max(a, b));
      return Math.log(row.reduce((s, v) => s + Math.exp(v - m), 0)) + m - row[label];
    });
}

const labelsFor = (rows: number, cols: number) =>
  Int32Array.from({ length: rows }, (_, r) => r === 0 ? cols - 1 : (31 * r) % cols);

Deno.test(
  "crossEntropy() matches the reference with one and with many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const [rows, cols] of [[1, 1], [3, 2], [13, 17], [19, 320], [5, 1021], [2, 20000]]) {
        const labels = labelsFor(rows, cols);
        await checkOp(gpu, {
          name: `cross-entropy ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: [{ name: "x", shape: [rows, cols] }],
          op: ([x]) => crossEntropy(x, labels),
          reference: reference(labels, cols),
          samples: cols > 2000 ? 10 : 40,
        });
      }
    }
  },
);

Deno.test("crossEntropy() splits logits beyond the binding limit", GPU_TEST, async () => {
  const gpu = await narrowGpu(16384);
  const labels = labelsFor(150, 37);
  await checkOp(gpu, {
    name: "cross-entropy in ranges of rows",
    inputs: [{ name: "x", shape: [150, 37] }],
    op: ([x]) => crossEntropy(x, Tensor.from(gpu, labels, [150])),
    reference: reference(labels, 37),
  });
});

Deno.test("crossEntropy() stays finite and right for huge logits", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [loss, dx] = await readAll(tidy(() => {
    const x = parameter(Tensor.from(gpu, [1e30, -1e30, 0, 3e4, 3e4, -3e4], [2, 3]));
    const loss = crossEntropy(x, Int32Array.of(0, 1));
    return [loss, backward(loss, { seeds: [Tensor.from(gpu, [1, 1], [2])] }).get(x)!];
  }));
  assertClose(loss, [0, Math.log(2)], 1e-6, "losses");
  assertClose(dx, [0, 0, 0, 0.5, -0.5, 0], 1e-6, "gradient");
});

Deno.test("crossEntropy() weights rows and ignores a label", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [loss, dx] = await readAll(tidy(() => {
    const x = parameter(Tensor.from(gpu, new Float32Array(8), [4, 2]));
    const weights = Tensor.from(gpu, [1, 2, 3, 4], [4]);
    const loss = crossEntropy(x, Int32Array.of(0, 1, -100, 0), { weights, ignore: -100 });
    return [loss, backward(loss, { seeds: [Tensor.from(gpu, [1, 1, 1, 1], [4])] }).get(x)!];
  }));
  assertClose(loss, [1, 2, 0, 4].map((w) => w * Math.log(2)), 1e-6, "losses");
  assertClose(dx, [-0.5, 0.5, 1, -1, 0, 0, -2, 2], 1e-6, "gradient");
});

Deno.test(
  "crossEntropy() refuses labels out of range, or marks their losses",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const x = Tensor.zeros(gpu, [2, 3]);
    assert.throws(() => crossEntropy(x, Int32Array.of(0, 3)), {
      name: "RangeError",
      message: "Cannot score label 3 (at 1) among 3 classes",
    });
    assert.throws(() => crossEntropy(x, Int32Array.of(0)), {
      name: "TypeError",
      message: "Cannot take the cross-entropy of (2, 3) logits and 1 labels",
    });
    assert.throws(() => crossEntropy(x, Tensor.zeros(gpu, [2])), {
      name: "TypeError",
      message: "Cannot use f32 labels: cross-entropy takes i32",
    });
    const loss = crossEntropy(x, Tensor.from(gpu, Int32Array.of(-1, 3), [2]));
    assert.deepEqual([...await loss.floats()], [NaN, NaN]);
  },
);
