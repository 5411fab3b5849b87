import assert from "node:assert/strict";
import { backward, noGrad, parameter } from "../../lib/autograd.ts";
import { adapterOf, setAdapter } from "../../lib/ops/adapter.ts";
import { linear } from "../../lib/ops/linear.ts";
import { linearCrossEntropy } from "../../lib/ops/linear_cross_entropy.ts";
import { PACKED_DTYPES } from "../../lib/ops/packed_rows.ts";
import { paysToStack } from "../../lib/ops/stacked_linear.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { packedWeights } from "./packed_weights.ts";

/** `a·b` of (rows, inner) and (inner, columns), either given transposed. */
function times(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [rows, inner, columns]: number[],
  transposeB = false,
): Float64Array {
  const c = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      for (let k = 0; k < inner; k++) {
        c[i * columns + j] += a[i * inner + k] * b[transposeB ? j * inner + k : k * columns + j];
      }
    }
  }
  return c;
}

/** W + s·B·A. */
function merged(
  weight: ArrayLike<number>,
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  s: number,
  [outputs, inputs, rank]: number[],
): Float64Array {
  const low = times(b, a, [outputs, rank, inputs]);
  return low.map((v, i) => weight[i] + s * v);
}

Deno.test(
  "linear() by a weight with an adapter is linear() by W + s B A, gradients too",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const [rows, outputs, inputs, rank] of [[1, 1, 1, 1], [5, 7, 9, 2], [33, 20, 12, 5]]) {
      for (const withBias of [true, false]) {
        const factor = 1.75;
        await checkOp(gpu, {
          name: `adapted ${rows}x${outputs}x${inputs} rank ${rank}`,
          inputs: [
            { name: "x", shape: [rows, inputs] },
            { name: "weight", shape: [outputs, inputs] },
            { name: "a", shape: [rank, inputs] },
            { name: "b", shape: [outputs, rank] },
            ...(withBias ? [{ name: "bias", shape: [outputs] }] : []),
          ],
          op: ([x, weight, a, b, bias]) => {
            setAdapter(weight, { a, b, scale: factor });
            return linear(x, weight, bias);
          },
          reference: ([x, weight, a, b, bias]) => {
            const w = merged(weight, a, b, factor, [outputs, inputs, rank]);
            const y = times(x, w, [rows, inputs, outputs], true);
            return bias ? y.map((v, i) => v + bias[i % outputs]) : y;
          },
        });
      }
    }
  },
);

Deno.test(
  "over packed weights an adapter and x get the gradients of unpacked ones",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [rows, outputs, inputs, rank] = [19, 33, 72, 4];
    for (const dtype of PACKED_DTYPES) {
      const { weight, values } = packedWeights(gpu, [outputs, inputs], dtype, 3);
      const plain = Tensor.from(gpu, values, [outputs, inputs]);
      const make = (size: number[], seed: number) =>
        parameter(Tensor.from(gpu, normals(size[0] * size[1], seed), size));
      const x = make([rows, inputs], 4);
      const [a, b] = [make([rank, inputs], 5), make([outputs, rank], 6)];
      const run = async (w: Tensor) => {
        setAdapter(w, { a, b, scale: 0.5 });
        const [y, grads] = tidy(() => {
          const y = linear(x, w);
          const shown = y.alias();
          const seeds = [Tensor.from(gpu, normals(rows * outputs, 7), [rows, outputs])];
          return [shown, backward(y, { seeds })] as const;
        });
        const tensors = [y, ...[x, a, b].map((t) => grads.get(t)!)];
        const all = await readAll(tensors);
        for (const t of tensors) t.dispose();
        return all;
      };
      const [got, want] = [await run(weight), await run(plain)];
      for (const [i, name] of ["y", "dx", "da", "db"].entries()) {
        assertClose(got[i], want[i], FORWARD, `${name} over ${dtype}`);
      }
      for (const t of [weight, plain, x, a, b]) t.dispose();
    }
  },
);

Deno.test(
  "an adapter whose B is zero changes no value, and one taken off none either",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const dtype of ["f32", ...PACKED_DTYPES] as const) {
      for (const rows of [1, 40]) {
        const weight = dtype === "f32"
          ? Tensor.from(gpu, normals(30 * 64, 1), [30, 64])
          : packedWeights(gpu, [30, 64], dtype, 1).weight;
        const x = Tensor.from(gpu, normals(rows * 64, 2), [rows, 64]);
        const before = await linear(x, weight).floats();
        const a = Tensor.from(gpu, normals(8 * 64, 3), [8, 64]);
        const b = Tensor.zeros(gpu, [30, 8]);
        setAdapter(weight, { a, b, scale: 2 });
        assert.deepEqual(await noGrad(() => linear(x, weight)).floats(), before, `${dtype}, B = 0`);
        b.write(normals(b.size, 4));
        assert.notDeepEqual(
          await linear(x, weight).floats(),
          before,
          "a B that is not zero counts",
        );
        setAdapter(weight, undefined);
        assert.equal(adapterOf(weight), undefined);
        assert.deepEqual(await linear(x, weight).floats(), before, `${dtype}, taken off`);
      }
    }
  },
);

Deno.test(
  "linearCrossEntropy() by a head with an adapter is that of W + s B A",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [rows, classes, inner, rank] = [150, 24, 12, 3];
    const labels = Int32Array.from({ length: rows }, (_, r) => (31 * r) % classes);
    for (const logitsBytes of [2 ** 26, 1]) {
      await checkOp(gpu, {
        name: `adapted head, ${logitsBytes} bytes`,
        inputs: [
          { name: "hidden", shape: [rows, inner] },
          { name: "weight", shape: [classes, inner] },
          { name: "a", shape: [rank, inner] },
          { name: "b", shape: [classes, rank] },
        ],
        op: ([hidden, weight, a, b]) => {
          setAdapter(weight, { a, b, scale: 0.75 });
          return linearCrossEntropy(hidden, weight, labels, { logitsBytes });
        },
        reference: ([hidden, weight, a, b]) => {
          const w = merged(weight, a, b, 0.75, [classes, inner, rank]);
          const logits = times(hidden, w, [rows, inner, classes], true);
          return Array.from(labels, (label, r) => {
            const row = logits.subarray(r * classes, (r + 1) * classes);
            const most = Math.max(...row);
            const sum = row.reduce((s, v) => s + Math.exp(v - most), 0);
            return Math.log(sum) + most - row[label];
          });
        },
        samples: 8,
      });
    }
  },
);

Deno.test("gradients through an adapter leave no memory behind", GPU_TEST, async () => {
  const gpu = await testGpu();
  const shapes = [[40, 12], [24, 12], [3, 12], [24, 3]];
  const [x, weight, a, b] = shapes.map((shape, i) =>
    parameter(Tensor.from(gpu, normals(shape[0] * shape[1], i), shape))
  );
  setAdapter(weight, { a, b, scale: 1 });
  const labels = new Int32Array(40);
  const step = () =>
    tidy(() => {
      const seeds = [Tensor.from(gpu, normals(40, 1), [40])];
      backward(linearCrossEntropy(x, weight, labels, { logitsBytes: 1 }), { seeds });
      const y = linear(x, weight);
      backward(y, { seeds: [Tensor.zeros(gpu, y.shape)] });
    });
  step();
  const { liveBytes } = gpu.buffers;
  for (let i = 0; i < 3; i++) step();
  assert.equal(gpu.buffers.liveBytes, liveBytes);
  for (const t of [x, weight, a, b]) t.dispose();
});

Deno.test("a weight with an adapter is not stacked", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = parameter(Tensor.zeros(gpu, [2, 4]));
  const weights = [Tensor.zeros(gpu, [3, 4]), Tensor.zeros(gpu, [3, 4])];
  assert.equal(paysToStack(x, weights), true);
  setAdapter(weights[1], { a: Tensor.zeros(gpu, [1, 4]), b: Tensor.zeros(gpu, [3, 1]), scale: 1 });
  assert.equal(paysToStack(x, weights), false);
});

Deno.test(
  "an adapter that does not fit its weight is refused with all shapes",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [weight, a, b] = [[3, 4], [2, 4], [3, 1]].map((shape) => Tensor.zeros(gpu, shape));
    assert.throws(() => setAdapter(weight, { a, b, scale: 1 }), {
      name: "TypeError",
      message:
        "Cannot add (3, 1) f32 times (2, 4) f32 to (3, 4) weights: expected f32 (out, rank) and (rank, in)",
    });
  },
);
