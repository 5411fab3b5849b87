import assert from "node:assert/strict";
import { emaStep } from "../../lib/ops/ema_step.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";

Deno.test("emaStep() moves the average towards the values", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 257]) {
    const [before, x] = [normals(n, 1), normals(n, 2)];
    const average = Tensor.from(gpu, before, [n]);
    emaStep(average, Tensor.from(gpu, x, [n]), 0.9);
    const want = before.map((a, i) => 0.9 * a + 0.1 * x[i]);
    assertClose(await average.floats(), want, FORWARD, `average of ${n}`);
  }
});

Deno.test("emaStep() refuses other shapes and decays outside [0, 1]", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [a, b] = [Tensor.zeros(gpu, [2]), Tensor.zeros(gpu, [3])];
  assert.throws(() => emaStep(a, b, 0.5), { message: "Cannot average (3) into (2)" });
  assert.throws(() => emaStep(a, a, 1.5), {
    name: "RangeError",
    message: "Cannot average with decay 1.5: it must be in [0, 1]",
  });
});
