import assert from "node:assert/strict";
import { mul } from "../../lib/ops/mul.ts";
import { axpy, sub } from "../../lib/ops/axpy.ts";
import { scale } from "../../lib/ops/unary.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

Deno.test("scale(), axpy(), sub() and mul() match their references", GPU_TEST, async () => {
  for (const gpu of [await testGpu(), await narrowGpu(1024)]) { // 1021 values need 4 launches of 256
    for (const n of [1, 255, 1021]) {
      const two = [{ name: "x", shape: [n] }, { name: "y", shape: [n] }];
      await checkOp(gpu, {
        name: `scale ${n}`,
        inputs: two.slice(0, 1),
        op: ([x]) => scale(x, -0.75),
        reference: ([x]) => x.map((v) => -0.75 * v),
      });
      await checkOp(gpu, {
        name: `axpy ${n}`,
        inputs: two,
        op: ([x, y]) => axpy(0.3, x, y),
        reference: ([x, y]) => x.map((v, i) => 0.3 * v + y[i]),
      });
      await checkOp(gpu, {
        name: `sub ${n}`,
        inputs: two,
        op: ([x, y]) => sub(x, y),
        reference: ([x, y]) => x.map((v, i) => v - y[i]),
      });
      await checkOp(gpu, {
        name: `mul ${n}`,
        inputs: two,
        op: ([x, y]) => mul(x, y),
        reference: ([x, y]) => x.map((v, i) => v * y[i]),
      });
    }
  }
});

Deno.test("axpy(), sub() and mul() refuse different shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, y] = [Tensor.zeros(gpu, [2, 3]), Tensor.zeros(gpu, [6])];
  assert.throws(() => axpy(2, x, y), { message: "Cannot add 2 times (2, 3) to (6)" });
  assert.throws(() => sub(x, y), { message: "Cannot subtract (6) from (2, 3)" });
  assert.throws(() => mul(x, y), { message: "Cannot multiply (2, 3) by (6)" });
});
