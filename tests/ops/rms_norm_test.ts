import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(x: Float64Array, weight: Float64Array, eps = 1e-6): Float64Array {
  const cols = weight.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += cols) {
    let squares = 0;
    for (let c = 0; c < cols; c++) squares += x[start + c] ** 2;
    const rstd = 1 / Math.sqrt(squares / cols + eps);
    for (let c = 0; c < cols; c++) y[start + c] = x[start + c] * rstd * weight[c];
  }
  return y;
}

Deno.test(
  "rmsNorm() matches the reference with one and with many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (
        const [rows, cols] of [[1, 1], [1, 3584], [13, 64], [67, 5], [5, 257]]
      ) {
        await checkOp(gpu, {
          name: `rms norm ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: [{ name: "x", shape: [rows, cols] }, { name: "weight", shape: [cols] }],
          op: ([x, weight]) => rmsNorm(x, weight),
          reference: ([x, weight]) => reference(x, weight),
          samples: 12,
          // one column: y = ±weight, so dx is the difference of nearly equal numbers
          gradientTolerance: cols === 1 ? 0.1 : 1e-3,
        });
      }
    }
  },
);

Deno.test("rmsNorm() norms each head of (N, H, D)", GPU_TEST, async () => {
  await checkOp(await testGpu(), {
    name: "rms norm per head",
    inputs: [{ name: "x", shape: [11, 3, 16] }, { name: "weight", shape: [16] }],
    op: ([x, weight]) => rmsNorm(x, weight, 1e-2),
    reference: ([x, weight]) => reference(x, weight, 1e-2),
  });
});

Deno.test("rmsNorm() folds the grid beyond 65535 rows", GPU_TEST, async () => {
  const gpu = await testGpu();
  const rows = 65535 * 16 + 77; // more workgroups of 16 rows than one axis holds
  const host = normals(rows, 5).map((v) => v + 3);
  await tidy(() => {
    const weight = parameter(Tensor.from(gpu, [2], [1]));
    const y = rmsNorm(Tensor.from(gpu, host, [rows, 1]), weight, 1);
    const grads = backward(y, { seeds: [Tensor.from(gpu, host, [rows, 1])] });
    return readAll([y, grads.get(weight)!]);
  }).then(([y, dweight]) => {
    for (const i of [0, 65535, 65536, 65535 * 16, rows - 1]) {
      assert.ok(Math.abs(y[i] - 2 * host[i] / Math.hypot(host[i], 1)) < 1e-5, `row ${i}`);
    }
    const want = host.reduce((s, v) => s + v * v / Math.hypot(v, 1), 0);
    assert.ok(Math.abs(dweight[0] / want - 1) < 1e-5, `dweight ${dweight[0]}, expected ${want}`);
  });
});

Deno.test("rmsNorm() splits tensors beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "rms norm in ranges of rows",
    inputs: [{ name: "x", shape: [301, 20] }, { name: "weight", shape: [20] }],
    op: ([x, weight]) => rmsNorm(x, weight),
    reference: ([x, weight]) => reference(x, weight),
  });
});

Deno.test("rmsNorm() of no rows is empty and has zero gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = parameter(Tensor.from(gpu, [1, 2, 3], [3]));
  const grads = tidy(() => {
    const y = rmsNorm(Tensor.empty(gpu, [0, 3]), weight);
    assert.deepEqual(y.shape, [0, 3]);
    return backward(y, { seeds: [Tensor.empty(gpu, [0, 3])] });
  });
  assert.deepEqual([...await grads.get(weight)!.floats()], [0, 0, 0]);
});

Deno.test("rmsNorm() gives the same bits twice", GPU_TEST, async () => {
  const gpu = await testGpu();
  const run = () =>
    tidy(() => {
      const x = parameter(Tensor.from(gpu, normals(999 * 20, 3), [999, 20]));
      const weight = parameter(Tensor.from(gpu, normals(20, 4), [20]));
      const y = rmsNorm(x, weight);
      const grads = backward(y, { seeds: [Tensor.from(gpu, normals(999 * 20, 5), [999, 20])] });
      return [grads.get(x)!, grads.get(weight)!];
    });
  const [first, second] = [await readAll(run()), await readAll(run())];
  assert.deepEqual(first, second);
});

Deno.test("rmsNorm() refuses a weight of another size", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.zeros(gpu, [2, 3]);
  assert.throws(() => rmsNorm(x, Tensor.zeros(gpu, [4])), {
    name: "TypeError",
    message: "Cannot normalize (2, 3) with a weight of (4)",
  });
});
