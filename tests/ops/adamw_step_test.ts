import assert from "node:assert/strict";
import { adamwStep } from "../../lib/ops/adamw_step.ts";
import { clipScale } from "../../lib/ops/global_norm.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };

/** Three updates in f64. */
function reference(w0: Float32Array, gradients: Float32Array[], scale: number) {
  const { learningRate: lr, beta1, beta2, epsilon, weightDecay } = settings;
  const w = Float64Array.from(w0);
  const [m, v] = [new Float64Array(w.length), new Float64Array(w.length)];
  gradients.forEach((gradient, k) =>
    gradient.forEach((raw, i) => {
      const g = raw * scale;
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const [mHat, vHat] = [m[i] / (1 - beta1 ** (k + 1)), v[i] / (1 - beta2 ** (k + 1))];
      w[i] = w[i] * (1 - lr * weightDecay) - lr * mHat / (Math.sqrt(vHat) + epsilon);
    })
  );
  return { w, m, v };
}

Deno.test("adamwStep() follows the reference over three updates", GPU_TEST, async () => {
  for (const gpu of [await testGpu(), await narrowGpu(1024)]) { // 1021 values need 4 launches of 256
    for (const n of [1, 255, 1021]) {
      const w0 = normals(n, 1);
      const gradients = [2, 3, 4].map((seed) => normals(n, seed));
      const w = Tensor.from(gpu, w0, [n]);
      const [m, v] = [Tensor.zeros(gpu, [n]), Tensor.zeros(gpu, [n])];
      const gradientScale = Tensor.from(gpu, [0.25], [1]);
      gradients.forEach((g, k) =>
        adamwStep(w, Tensor.from(gpu, g, [n]), m, v, { ...settings, step: k + 1, gradientScale })
      );
      const [gotW, gotM, gotV] = await readAll([w, m, v]);
      const want = reference(w0, gradients, 0.25);
      assertClose(gotW, want.w, FORWARD, `w of ${n}`);
      assertClose(gotM, want.m, FORWARD, `m of ${n}`);
      assertClose(gotV, want.v, FORWARD, `v of ${n}`);
    }
  }
});

Deno.test("adamwStep() leaves weights of gradient 0 alone, with ε = 10⁻¹⁵", GPU_TEST, async () => {
  const gpu = await testGpu();
  const w = Tensor.from(gpu, [1, -2, 3], [3]);
  const [m, v] = [Tensor.zeros(gpu, [3]), Tensor.zeros(gpu, [3])];
  const gradientScale = Tensor.from(gpu, [1], [1]);
  const tiny = { ...settings, epsilon: 1e-15, weightDecay: 0, step: 1, gradientScale };
  adamwStep(w, Tensor.from(gpu, [0, 1e-13, -1e-25], [3]), m, v, tiny);
  const got = await w.floats();
  assert.equal(got[0], 1);
  assert.ok(Math.abs(got[1] + 2.01 - 1e-4) < 1e-4, `moved by nearly the rate: ${got[1]}`);
  assert.ok(Number.isFinite(got[2]));
});

Deno.test(
  "adamwStep() changes nothing when the norm or the gradient is not finite",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const squares of [NaN, Infinity, 1]) {
      const given = [normals(9, 1), normals(9, 2), normals(9, 3).map(Math.abs)];
      const [w, m, v] = given.map((data) => Tensor.from(gpu, data, [9]));
      const gradient = Tensor.from(gpu, normals(9, 4).map((g, i) => squares === 1 && i ? NaN : g), [
        9,
      ]);
      const gradientScale = clipScale(Tensor.from(gpu, [squares], [1]), 1);
      adamwStep(w, gradient, m, v, { ...settings, step: 5, gradientScale });
      const got = await readAll([w, m, v]);
      got.forEach((data, k) => {
        const same = squares === 1 ? [...data].slice(1) : [...data];
        assert.deepEqual(same, [...given[k]].slice(9 - same.length), `norm² ${squares}`);
        if (squares === 1) assert.notEqual(data[0], given[k][0]);
      });
    }
  },
);

Deno.test("adamwStep() refuses other shapes and a step of 0", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [w, other] = [Tensor.zeros(gpu, [2, 3]), Tensor.zeros(gpu, [3, 2])];
  const gradientScale = Tensor.from(gpu, [1], [1]);
  assert.throws(() => adamwStep(w, other, w, w, { ...settings, step: 1, gradientScale }), {
    name: "TypeError",
    message: "Cannot update a (2, 3) weight with a (3, 2) gradient",
  });
  assert.throws(() => adamwStep(w, w, w, w, { ...settings, step: 0, gradientScale }), {
    name: "RangeError",
    message: "Cannot make update 0: updates are counted from 1",
  });
});
