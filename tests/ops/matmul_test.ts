import assert from "node:assert/strict";
import { matmul } from "../../lib/ops/matmul.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";

/** Plain f64 product. */
function reference(m: number, n: number, k: number, transposeA: boolean, transposeB: boolean) {
  return ([a, b]: Float64Array[]) => {
    const y = new Float64Array(m * n);
    for (let r = 0; r < m; r++) {
      for (let c = 0; c < n; c++) {
        for (let i = 0; i < k; i++) {
          y[r * n + c] += a[transposeA ? i * m + r : r * k + i] *
            b[transposeB ? c * k + i : i * n + c];
        }
      }
    }
    return y;
  };
}

const SHAPES = [[1, 1, 1], [1, 7, 5], [31, 33, 3], [8, 4, 12], [32, 32, 16], [33, 36, 20], [
  13,
  17,
  19,
], [40, 68, 24]];

for (
  const [transposeA, transposeB] of [[false, false], [false, true], [true, false], [true, true]]
) {
  const layout = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
  Deno.test(`matmul() ${layout} matches the reference and its differences`, GPU_TEST, async () => {
    const gpu = await testGpu();
    for (const [m, n, k] of SHAPES) {
      await checkOp(gpu, {
        name: `matmul ${layout} ${m}x${n}x${k}`,
        inputs: [
          { name: "a", shape: transposeA ? [k, m] : [m, k] },
          { name: "b", shape: transposeB ? [n, k] : [k, n] },
        ],
        op: ([a, b]) => matmul(a, b, { transposeA, transposeB }),
        reference: reference(m, n, k, transposeA, transposeB),
        samples: 8,
      });
    }
  });
}

Deno.test("matmul() refuses operands that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const a = Tensor.zeros(gpu, [2, 3]);
  const b = Tensor.zeros(gpu, [4, 5]);
  assert.throws(() => matmul(a, b), {
    name: "TypeError",
    message: "Cannot multiply (2, 3) by (4, 5): inner sizes 3 and 4 differ",
  });
  assert.throws(() => matmul(a, Tensor.zeros(gpu, [3])), {
    name: "TypeError",
    message: "Cannot multiply a (3) f32 tensor: operands are f32 matrices",
  });
});
