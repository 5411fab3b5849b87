import assert from "node:assert/strict";
import { columnSum } from "../../lib/ops/column_sum.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";

/** Plain f64 column sums. */
function reference(x: Float32Array, columns: number): Float64Array {
  const y = new Float64Array(columns);
  x.forEach((v, i) => y[i % columns] += v);
  return y;
}

Deno.test("columnSum() matches the reference around its parts and blocks", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [rows, columns] of [[1, 1], [63, 65], [64, 3], [65, 64], [1021, 96], [20000, 3]]) {
    const x = normals(rows * columns, rows);
    const y = columnSum(Tensor.from(gpu, x, [rows, columns]));
    assert.deepEqual(y.shape, [columns]);
    assertClose(await y.floats(), reference(x, columns), FORWARD, `${rows}x${columns}`);
  }
});

Deno.test("columnSum() takes leading axes as rows and no rows as zero", GPU_TEST, async () => {
  const gpu = await testGpu();
  const y = columnSum(Tensor.from(gpu, [1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]));
  assert.deepEqual([...await y.floats()], [16, 20]);
  assert.deepEqual([...await columnSum(Tensor.zeros(gpu, [0, 2])).floats()], [0, 0]);
});

Deno.test("columnSum() cuts what exceeds a binding", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = normals(300 * 10, 2);
  const tensor = Tensor.from(gpu, x, [300, 10]);
  const y = columnSum(tensor, 4 * 10 * 130);
  assertClose(await y.floats(), reference(x, 10), FORWARD, "cut");
  assert.throws(() => columnSum(tensor, 2000), {
    message:
      "Cannot sum columns: 64 rows of 10 values exceed the 2000 B this adapter binds at once",
  });
});

Deno.test("columnSum() refuses scalars and integers", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => columnSum(Tensor.zeros(gpu, [])), {
    name: "TypeError",
    message: "Cannot sum the columns of a () f32 tensor",
  });
  assert.throws(() => columnSum(Tensor.zeros(gpu, [2, 2], "i32")), {
    name: "TypeError",
    message: "Cannot sum the columns of a (2, 2) i32 tensor",
  });
});
