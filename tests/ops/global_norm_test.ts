import assert from "node:assert/strict";
import { clipScale, sumSquares } from "../../lib/ops/global_norm.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

Deno.test("sumSquares() adds over tensors of all sizes", GPU_TEST, async () => {
  for (const gpu of [...await bothKinds(), await narrowGpu(4096)]) {
    for (const sizes of [[1], [65], [3, 64, 1], [1, 2, 63, 4099, 257, 0, 5000]]) {
      const host = sizes.map((n, i) => normals(n, 7 + i));
      const got = await sumSquares(host.map((h) => Tensor.from(gpu, h, [h.length]))).floats();
      const want = host.reduce((s, h) => s + h.reduce((t, v) => t + v * v, 0), 0);
      assert.ok(Math.abs(got[0] / want - 1) < 1e-6, `${sizes}: got ${got[0]}, expected ${want}`);
    }
  }
});

Deno.test("sumSquares() lets a value that is not finite through", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [bad, want] of [[NaN, NaN], [-Infinity, Infinity], [1e25, Infinity]]) {
    const xs = [normals(100, 1), normals(200, 2).map((v, i) => i === 150 ? bad : v)];
    const got = await sumSquares(xs.map((x) => Tensor.from(gpu, x, [x.length]))).floats();
    assert.equal(got[0], want);
  }
});

Deno.test("clipScale() scales large norms down and leaves small ones", GPU_TEST, async () => {
  const gpu = await testGpu();
  const cases = [[16, 1, 1 / 4.000001], [16, 100, 1], [0, 1, 1], [1e30, Infinity, 1]];
  for (const [squares, maxNorm, want] of [...cases, [NaN, 1, NaN], [Infinity, 1, NaN]]) {
    const [got] = await clipScale(Tensor.from(gpu, [squares], [1]), maxNorm).floats();
    const near = Object.is(got, want) || Math.abs(got - want) < 1e-7;
    assert.ok(near, `norm² ${squares}, at most ${maxNorm}: got ${got}, expected ${want}`);
  }
});

Deno.test("sumSquares() and clipScale() refuse nothing and no norm", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => sumSquares([]), {
    name: "RangeError",
    message: "Cannot take the norm of no tensors",
  });
  assert.throws(() => clipScale(Tensor.zeros(gpu, [1]), 0), {
    name: "RangeError",
    message: "Cannot clip to norm 0: it must be above 0",
  });
});
