import assert from "node:assert/strict";
import { unpack } from "../../lib/ops/unpack.ts";
import { PACKED_DTYPES } from "../../lib/ops/packed_rows.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { packedWeights } from "./packed_weights.ts";

Deno.test(
  "unpack() gives the values of packed weights, all or some rows, exactly",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const shapes = [[1, 1], [3, 7], [5, 30], [37, 64], [40, 65], [19, 588], [300, 20]];
    for (const dtype of PACKED_DTYPES) {
      for (const [rows, columns] of shapes) {
        const { weight, values } = packedWeights(gpu, [rows, columns], dtype, rows);
        const what = `${dtype} ${rows}x${columns}`;
        const all = unpack(weight);
        assert.deepEqual(all.shape, [rows, columns]);
        assert.deepEqual(await all.floats(), values, what);
        const [start, count] = [Math.floor(rows / 3), Math.ceil(rows / 2)];
        const some = unpack(weight, start, count);
        const wanted = values.slice(start * columns, (start + count) * columns);
        assert.deepEqual(await some.floats(), wanted, `${what} from ${start}`);
        for (const t of [all, some, weight]) t.dispose();
      }
    }
  },
);

Deno.test("unpack() cuts weights that exceed a binding", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const dtype of PACKED_DTYPES) {
    for (const columns of [21, 24]) {
      const { weight, values } = packedWeights(gpu, [531, columns], dtype, 2);
      const some = unpack(weight, 5, 520, 2 ** 14);
      const wanted = values.slice(5 * columns, 525 * columns);
      assert.deepEqual(await some.floats(), wanted, dtype);
    }
  }
});

Deno.test("unpack() refuses other tensors and rows out of range", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => unpack(Tensor.zeros(gpu, [2, 3])), {
    name: "TypeError",
    message: "Cannot unpack a (2, 3) f32 tensor: expected a matrix of bf16, f16, int8 or int4",
  });
  assert.throws(() => unpack(Tensor.zeros(gpu, [4, 3], "int8"), 2, 3), {
    name: "RangeError",
    message: "Cannot unpack 3 rows from 2: the matrix has 4",
  });
  assert.throws(() => unpack(Tensor.zeros(gpu, [640, 24], "int8"), 0, 640, 2 ** 10), {
    name: "ResourceError",
    message:
      "Cannot unpack rows of 96 bytes: 143 of them exceed the 1024 B this adapter binds at once",
  });
});
