import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { add } from "../../lib/ops/add.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";

Deno.test("add() matches the reference at sizes around a block", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 3, 255, 257, 1021]) {
    await checkOp(gpu, {
      name: `add ${n}`,
      inputs: [{ name: "x", shape: [n] }, { name: "y", shape: [n] }],
      op: ([x, y]) => add(x, y),
      reference: ([x, y]) => x.map((v, i) => v + y[i]),
    });
  }
});

Deno.test("add() of a tensor to itself doubles its gradient", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = parameter(Tensor.from(gpu, [1, 2, 3], [3]));
  const before = gpu.buffers.liveCount;
  const grads = tidy(() => {
    const y = add(add(x, x), x);
    return backward(y, { seeds: [Tensor.from(gpu, [1, 10, 100], [3])] });
  });
  assert.deepEqual([...await grads.get(x)!.floats()], [3, 30, 300]);
  grads.get(x)!.dispose();
  assert.equal(gpu.buffers.liveCount, before, "every intermediate was given back");
});

Deno.test("add() refuses different shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.zeros(gpu, [2, 3]);
  const y = Tensor.zeros(gpu, [3, 2]);
  assert.throws(() => add(x, y), { message: "Cannot add (3, 2) to (2, 3)" });
});
