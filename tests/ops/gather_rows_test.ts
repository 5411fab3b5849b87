import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { embedding, gatherRows } from "../../lib/ops/gather_rows.ts";
import { rowIndex } from "../../lib/ops/row_index.ts";
import { PACKED_DTYPES } from "../../lib/ops/packed_rows.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, testGpu, uniform } from "../helpers.ts";
import { packedWeights } from "./packed_weights.ts";
import { narrowGpu } from "./variants.ts";

function ids(count: number, rows: number, seed: number, unique: boolean): Int32Array {
  const next = uniform(seed);
  if (!unique) return Int32Array.from({ length: count }, () => Math.floor(next() * rows));
  const all = Array.from({ length: rows }, (_, i) => ({ i, key: next() }));
  return Int32Array.from(all.sort((a, b) => a.key - b.key).slice(0, count), ({ i }) => i);
}

Deno.test("gatherRows() matches the reference, rows picked once or often", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const unique of [true, false]) {
    for (const [rows, count, ...rest] of [[1, 1, 1], [37, 19, 12], [64, 64, 3, 5], [101, 67, 7]]) {
      const chosen = ids(count, rows, rows, unique);
      const index = rowIndex(gpu, chosen, rows);
      const cols = rest.reduce((n, d) => n * d);
      await checkOp(gpu, {
        name: `gather ${count} of ${rows} rows, unique ${unique}`,
        inputs: [{ name: "x", shape: [rows, ...rest] }],
        op: ([x]) => gatherRows(x, index),
        reference: ([x]) =>
          Float64Array.from({ length: count * cols }, (_, i) => {
            return x[chosen[Math.floor(i / cols)] * cols + i % cols];
          }),
        samples: 80,
      });
    }
  }
});

Deno.test("gatherRows() splits tables and results beyond the binding limit", GPU_TEST, async () => {
  const gpu = await narrowGpu(8192);
  for (const unique of [true, false]) {
    const count = unique ? 203 : 83; // the gradient of repeated rows reads all of dy in each launch
    const chosen = ids(count, 300, 9, unique);
    const index = rowIndex(gpu, chosen, 300);
    await checkOp(gpu, {
      name: `gather in ranges, unique ${unique}`,
      inputs: [{ name: "x", shape: [300, 20] }],
      op: ([x]) => gatherRows(x, index),
      reference: ([x]) =>
        Float64Array.from({ length: count * 20 }, (_, i) => {
          return x[chosen[Math.floor(i / 20)] * 20 + i % 20];
        }),
      samples: 200,
    });
  }
});

Deno.test(
  "embedding() unpacks the rows it picks, also of tables beyond the binding limit",
  GPU_TEST,
  async () => {
    for (const gpu of [await testGpu(), await narrowGpu(2 ** 15)]) {
      for (const dtype of PACKED_DTYPES) {
        for (const [rows, columns] of [[1, 1], [37, 7], [300, 20], [601, 65], [803, 24]]) {
          const { weight, values } = packedWeights(gpu, [rows, columns], dtype, rows);
          const chosen = ids(83, rows, columns, false);
          const y = embedding(weight, rowIndex(gpu, chosen, rows));
          assert.deepEqual(y.shape, [83, columns]);
          const want = Float32Array.from(
            { length: 83 * columns },
            (_, i) => values[chosen[Math.floor(i / columns)] * columns + i % columns],
          );
          assert.deepEqual(await y.floats(), want, `${dtype} ${rows}x${columns}`);
          for (const t of [y, weight]) t.dispose();
        }
      }
    }
  },
);

Deno.test("embedding() of packed rows passes no gradient", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = parameter(packedWeights(gpu, [5, 8], "int4", 1).weight);
  const index = rowIndex(gpu, Int32Array.of(2, 0), 5);
  assert.equal(embedding(weight, index).node, undefined);
});

Deno.test("embedding() of halves passes an f32 gradient", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = parameter(packedWeights(gpu, [5, 8], "bf16", 1).weight);
  const index = rowIndex(gpu, Int32Array.of(2, 0, 2), 5);
  const grads = tidy(() => {
    const seed = Tensor.from(gpu, Float32Array.from({ length: 24 }, (_, i) => i + 0.001), [3, 8]);
    return backward(embedding(weight, index), { seeds: [seed] });
  });
  const got = await grads.get(weight)!.floats();
  const row = (start: number, step: number) =>
    Array.from({ length: 8 }, (_, i) => Math.fround(start + step * i));
  assertClose(got.subarray(0, 8), row(8.001, 1), 1e-6, "row 0");
  assertClose(got.subarray(16, 24), row(16.002, 2), 1e-6, "row 2");
  assert.deepEqual([...got.subarray(24)], Array(16).fill(0));
});

Deno.test("embedding() adds the gradients of a repeated token exactly", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = parameter(Tensor.from(gpu, [1, 2, 3, 4, 5, 6], [3, 2]));
  const index = rowIndex(gpu, Int32Array.of(2, 0, 2, 2), 3);
  const grads = tidy(() => {
    const seed = Tensor.from(gpu, [1, 2, 10, 20, 100, 200, 1000, 2000], [4, 2]);
    return backward(embedding(weight, index), { seeds: [seed] });
  });
  assert.deepEqual([...await grads.get(weight)!.floats()], [10, 20, 0, 0, 1101, 2202]);
});

Deno.test("gatherRows() of no rows is empty and has a zero gradient", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = parameter(Tensor.from(gpu, [1, 2, 3, 4], [2, 2]));
  const index = rowIndex(gpu, new Int32Array(0), 2);
  const grads = tidy(() => {
    const y = gatherRows(x, index);
    assert.deepEqual(y.shape, [0, 2]);
    return backward(y, { seeds: [Tensor.empty(gpu, [0, 2])] });
  });
  assert.deepEqual([...await grads.get(x)!.floats()], [0, 0, 0, 0]);
});

Deno.test("rowIndex() gives its memory back with its scope", GPU_TEST, async () => {
  const gpu = await testGpu();
  const before = gpu.buffers.liveCount;
  tidy(() => {
    const index = tidy(() => rowIndex(gpu, Int32Array.of(1, 1, 0), 2));
    assert.deepEqual(index.segments!.shape, [8]);
  });
  assert.equal(gpu.buffers.liveCount, before);
});

Deno.test("rowIndex() and gatherRows() refuse what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => rowIndex(gpu, Int32Array.of(0, 3), 3), {
    name: "RangeError",
    message: "Cannot index 3 rows with 3 (at 1)",
  });
  assert.throws(() => rowIndex(gpu, Int32Array.of(-1), 3), {
    name: "RangeError",
    message: "Cannot index 3 rows with -1 (at 0)",
  });
  const index = rowIndex(gpu, Int32Array.of(0), 3);
  assert.throws(() => gatherRows(Tensor.zeros(gpu, [4, 2]), index), {
    name: "TypeError",
    message: "Cannot pick rows of (4, 2): the index is for 3 rows",
  });
  assert.throws(() => gatherRows(Tensor.zeros(gpu, [3, 2], "i32"), index), {
    name: "TypeError",
    message:
      "Cannot pick rows of a (3, 2) i32 tensor: expected f32, or a matrix of bf16, f16, int8 or int4",
  });
  assert.throws(() => gatherRows(Tensor.zeros(gpu, [3, 2, 2], "int4"), index), {
    name: "TypeError",
    message:
      "Cannot pick rows of a (3, 2, 2) int4 tensor: expected f32, or a matrix of bf16, f16, int8 or int4",
  });
});
