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

Deno.test("emaStep() changes no bit under a guard that is not finite", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [before, x] = [normals(9, 1), normals(9, 2)];
  for (const [guard, moves] of [[NaN, false], [Infinity, false], [0, true], [0.5, true]] as const) {
    const average = Tensor.from(gpu, before, [9]);
    emaStep(average, Tensor.from(gpu, x, [9]), 0.9, Tensor.from(gpu, [guard], [1]));
    const after = await average.floats();
    assert.equal(after.some((a, i) => a !== before[i]), moves, `guard ${guard}`);
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
