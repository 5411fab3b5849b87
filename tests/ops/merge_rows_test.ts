import assert from "node:assert/strict";
import { mergeRows } from "../../lib/ops/merge_rows.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

function reference(ids: Int32Array[], count: number, cols: number) {
  return (xs: Float64Array[]) => {
    const y = new Float64Array(count * cols);
    ids.forEach((list, k) =>
      list.forEach((row, i) => y.set(xs[k].subarray(i * cols, (i + 1) * cols), row * cols))
    );
    return y;
  };
}

Deno.test("mergeRows() matches the reference and leaves unnamed rows zero", GPU_TEST, async () => {
  const lists = [[[3, 0, 4], [1, 2]], [[5, 1], [0]], [[], [2, 0, 1]], [[0, 1], []]];
  const gpu = await testGpu();
  for (const rest of [[5], [2, 8]]) {
    for (const [a, b] of lists) {
      const ids = [Int32Array.from(a), Int32Array.from(b)];
      const count = Math.max(...a, ...b) + 2;
      const [i0, i1] = ids.map((list) => rowIndex(gpu, list, count));
      await checkOp(gpu, {
        name: `merge [${a}] and [${b}]`,
        inputs: [
          { name: "x0", shape: [a.length, ...rest] },
          { name: "x1", shape: [b.length, ...rest] },
        ],
        op: ([x0, x1]) => mergeRows([x0, x1], [i0, i1], count),
        reference: reference(ids, count, rest.reduce((n, d) => n * d)),
      });
    }
  }
});

Deno.test("mergeRows() splits results beyond the binding limit", GPU_TEST, async () => {
  const gpu = await narrowGpu(16384);
  const ids = [0, 1].map((k) =>
    Int32Array.from({ length: 150 }, (_, i) => 2 * ((7 * i) % 150) + k)
  );
  const [i0, i1] = ids.map((list) => rowIndex(gpu, list, 300));
  await checkOp(gpu, {
    name: "merge in ranges",
    inputs: [{ name: "x0", shape: [150, 20] }, { name: "x1", shape: [150, 20] }],
    op: ([x0, x1]) => mergeRows([x0, x1], [i0, i1], 300),
    reference: reference(ids, 300, 20),
  });
});

Deno.test("mergeRows() refuses rows given twice and shapes that differ", GPU_TEST, async () => {
  const gpu = await testGpu();
  const one = rowIndex(gpu, Int32Array.of(1), 3);
  const two = rowIndex(gpu, Int32Array.of(2, 1), 3);
  const [x, y] = [Tensor.zeros(gpu, [1, 2]), Tensor.zeros(gpu, [2, 2])];
  assert.throws(() => mergeRows([x, y], [one, two], 3), {
    name: "RangeError",
    message: "Cannot merge rows: row 1 is given twice",
  });
  assert.throws(() => mergeRows([x, y], [one, one], 3), {
    name: "TypeError",
    message: "Cannot merge (1, 2) and (2, 2) into 3 rows with 1 numbers below 3",
  });
});
