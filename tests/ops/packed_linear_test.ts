// Linear layers over packed weights: every dtype, kernel and cut against f64 on the unpacked values.

import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { linear } from "../../lib/ops/linear.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import { PACKED_DTYPES } from "../../lib/ops/packed_rows.ts";
import { packRows } from "../../lib/packed_layout.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { linearReference, packedWeights } from "./packed_weights.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

/** Rows, outputs, inputs: none that a tile, a group or a 16-byte unit divides, and those the model has. */
const SHAPES = [
  [1, 1, 1],
  [1, 5, 7],
  [2, 9, 30],
  [3, 33, 64],
  [4, 64, 588],
  [5, 130, 65],
  [8, 7, 191],
  [9, 40, 200],
  [16, 67, 72],
  [17, 31, 1152],
  [1, 35, 4304],
  [2, 37, 96],
  [4, 130, 608],
  [280, 65, 128],
];

Deno.test(
  "linear() over packed weights matches f64 on both kinds of adapter",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const dtype of PACKED_DTYPES) {
        for (const [i, shape] of SHAPES.entries()) {
          const [rows, outputs, inputs] = shape;
          const { weight, values } = packedWeights(gpu, [outputs, inputs], dtype, 3 + i);
          const x = normals(rows * inputs, 5 + i);
          const bias = i % 2 === 0 ? normals(outputs, 7 + i) : undefined;
          const y = tidy(() =>
            linear(
              Tensor.from(gpu, x, [rows, inputs]),
              weight,
              bias && Tensor.from(gpu, bias, [outputs]),
            )
          );
          const kind = gpu.adapter.software ? "software" : "GPU";
          const want = linearReference(x, values, bias, shape);
          assertClose(await y.floats(), want, FORWARD, `${dtype} ${shape.join("x")} as ${kind}`);
          for (const t of [y, weight]) t.dispose();
        }
      }
    }
  },
);

Deno.test(
  "the kernels for few rows match f64 for every dtype and number of rows",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const kernels = gpu.subgroupSize === 8 ? ["few", "few_subgroup"] as const : ["few"] as const;
    for (const [outputs, inputs] of [[1, 32], [37, 96], [130, 608]]) {
      for (const dtype of ["f32", ...PACKED_DTYPES] as const) {
        const values = dtype === "f32"
          ? normals(outputs * inputs, 41)
          : packedWeights(gpu, [outputs, inputs], dtype, 41).values;
        const weight = dtype === "f32"
          ? Tensor.from(gpu, values, [outputs, inputs])
          : packedWeights(gpu, [outputs, inputs], dtype, 41).weight;
        const bias = normals(outputs, 42);
        for (const [rows, rowBlocks] of [[1, 1], [2, 2], [3, 4], [3, 2], [9, 4]]) {
          const x = normals(rows * inputs, 43);
          const want = linearReference(x, values, bias, [rows, outputs, inputs]);
          const sizes = {
            rows,
            columns: outputs,
            inner: inputs,
            transposeA: false,
            transposeB: true,
          };
          const results = tidy(() => {
            const [a, b] = [Tensor.from(gpu, x, [rows, inputs]), Tensor.from(gpu, bias, [outputs])];
            return kernels.map((kernel) => {
              const choice = { kernel, rowBlocks, columnBlocks: 1, splits: 1 };
              return product(a, weight, { ...sizes, bias: b, choice });
            });
          });
          for (const [i, got] of (await readAll(results)).entries()) {
            const what = `${kernels[i]} ${dtype} ${rows}/${rowBlocks}x${outputs}x${inputs}`;
            assertClose(got, want, FORWARD, what);
            results[i].dispose();
          }
        }
      }
    }
  },
);

Deno.test("linear() over packed weights cuts what exceeds a binding", GPU_TEST, async () => {
  const gpu = await narrowGpu(2 ** 16);
  for (const dtype of PACKED_DTYPES) {
    for (const shape of [[1, 1301, 200], [3, 700, 121], [700, 40, 20], [300, 131, 120]]) {
      const [rows, outputs, inputs] = shape;
      const { weight, values } = packedWeights(gpu, [outputs, inputs], dtype, 11);
      const x = normals(rows * inputs, 12);
      const bias = normals(outputs, 13);
      const y = linear(
        Tensor.from(gpu, x, [rows, inputs]),
        weight,
        Tensor.from(gpu, bias, [outputs]),
      );
      const want = linearReference(x, values, bias, shape);
      assertClose(await y.floats(), want, FORWARD, `${dtype} ${shape.join("x")} in pieces`);
    }
  }
});

Deno.test("linear() passes gradients through packed weights", GPU_TEST, async () => {
  for (const gpu of [...await bothKinds(), await narrowGpu(2 ** 16)]) {
    for (const dtype of PACKED_DTYPES) {
      for (const [rows, outputs, inputs] of [[1, 5, 7], [3, 33, 72], [70, 203, 130]]) {
        const { weight, values } = packedWeights(gpu, [outputs, inputs], dtype, 21);
        const dy = normals(rows * outputs, 23);
        const transposed = new Float32Array(inputs * outputs);
        values.forEach((w, i) => transposed[i % inputs * outputs + Math.floor(i / inputs)] = w);
        const want = linearReference(dy, transposed, undefined, [rows, inputs, outputs]);
        const x = parameter(Tensor.from(gpu, normals(rows * inputs, 22), [rows, inputs]));
        parameter(weight);
        const grads = tidy(() => {
          const seeds = [Tensor.from(gpu, dy, [rows, outputs])];
          return backward(linear(x, weight), { seeds });
        });
        const what = `d of ${dtype} ${rows}x${outputs}x${inputs}`;
        assertClose(await grads.get(x)!.floats(), want, FORWARD, what);
        if (dtype === "int8" || dtype === "int4") {
          assert.equal(grads.get(weight), undefined, `${dtype} weights have no gradient`);
        } else {
          const columns = (m: Float32Array, width: number) =>
            Float32Array.from(m, (_, i) => m[i % rows * width + Math.floor(i / rows)]);
          const hidden = normals(rows * inputs, 22);
          const [a, b] = [columns(dy, outputs), columns(hidden, inputs)];
          const want = linearReference(a, b, undefined, [outputs, inputs, rows]);
          assertClose(await grads.get(weight)!.floats(), want, FORWARD, `${what}, of the weight`);
        }
        for (const t of [x, weight, ...grads.values()]) t.dispose();
      }
    }
  }
});

Deno.test(
  "linear() over packed weights of the model's width loses what packing theory says",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [rows, outputs, inputs] = [2, 2048, 3584];
    const plain = normals(outputs * inputs, 31);
    const x = Tensor.from(gpu, normals(rows * inputs, 32), [rows, inputs]);
    const exact = Tensor.from(gpu, plain, [outputs, inputs]);
    const packed = (["int8", "int4"] as const).map((dtype) =>
      Tensor.fromBytes(gpu, packRows(plain, inputs, dtype), [outputs, inputs], dtype)
    );
    const results = [exact, ...packed].map((weight) => linear(x, weight));
    const [want, ...got] = await readAll(results);
    const norm = (f: (i: number) => number) => Math.hypot(...Array.from(want, (_, i) => f(i)));
    const errors = got.map((y) => norm((i) => y[i] - want[i]) / norm((i) => want[i]));
    assert.ok(errors[0] > 0.004 && errors[0] <= 0.007, `int8 is off by ${errors[0]}`);
    assert.ok(errors[1] > 0.07 && errors[1] <= 0.11, `int4 is off by ${errors[1]}`);
    for (const t of [x, exact, ...packed, ...results]) t.dispose();
  },
);

Deno.test("linear() and product() refuse packed weights that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = Tensor.zeros(gpu, [5, 4], "int4");
  assert.throws(() => linear(Tensor.zeros(gpu, [2, 3]), weight), {
    name: "TypeError",
    message:
      "Cannot map a (2, 3) f32 tensor by (5, 4) int4 weights: expected f32 (…, in) and (out, in) of f32, bf16, f16, int8 or int4",
  });
  assert.throws(() => linear(Tensor.zeros(gpu, [2, 4], "bf16"), weight), {
    name: "TypeError",
    message:
      "Cannot map a (2, 4) bf16 tensor by (5, 4) int4 weights: expected f32 (…, in) and (out, in) of f32, bf16, f16, int8 or int4",
  });
  const sizes = { rows: 2, columns: 5, inner: 4, transposeA: false, transposeB: true };
  const choice = { kernel: "naive", rowBlocks: 1, columnBlocks: 1, splits: 1 } as const;
  assert.throws(() => product(Tensor.zeros(gpu, [2, 4]), weight, { ...sizes, choice }), {
    name: "TypeError",
    message: "internal: the naive kernel does not unpack int4",
  });
  const few = { kernel: "few", rowBlocks: 1, columnBlocks: 1, splits: 1 } as const;
  const halves = Tensor.zeros(gpu, [5, 40], "bf16");
  const options = { ...sizes, inner: 40, choice: few };
  assert.throws(() => product(Tensor.zeros(gpu, [2, 40]), halves, options), {
    name: "TypeError",
    message: "internal: the few kernel does not take this product",
  });
});
