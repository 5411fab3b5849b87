import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { columns } from "../../lib/ops/columns.ts";
import { swigluHalves } from "../../lib/ops/swiglu_halves.ts";
import { swiglu } from "../../lib/ops/unary.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

function reference(cols: number) {
  return ([x]: Float64Array[]) =>
    Float64Array.from({ length: x.length / 2 }, (_, i) => {
      const at = Math.floor(i / cols) * 2 * cols + i % cols;
      return x[at] / (1 + Math.exp(-x[at])) * x[at + cols];
    });
}

Deno.test(
  "swigluHalves() matches the reference with one and many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const [rows, cols] of [[1, 1], [13, 7], [65, 40], [3, 1021]]) {
        await checkOp(gpu, {
          name: `halves ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: [{ name: "x", shape: [rows, 2 * cols] }],
          op: ([x]) => swigluHalves(x),
          reference: reference(cols),
          samples: 12,
        });
      }
    }
  },
);

Deno.test("swigluHalves() splits rows beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "halves in ranges of rows",
    inputs: [{ name: "x", shape: [301, 40] }],
    op: ([x]) => swigluHalves(x),
    reference: reference(20),
    samples: 12,
  });
});

Deno.test("swigluHalves() gives the bits of swiglu(), both ways", GPU_TEST, async () => {
  const gpu = await testGpu();
  const run = (op: (x: Tensor) => Tensor) =>
    readAll(tidy(() => {
      const values = normals(33 * 80, 3, 4);
      values.set([-1e30, 1e30, -100, 100, 0]);
      const x = parameter(Tensor.from(gpu, values, [33, 80]));
      const y = op(x);
      const seeds = [Tensor.from(gpu, normals(33 * 40, 5), [33, 40])];
      return [y, backward(y, { seeds }).get(x)!];
    }));
  const [got, want] = [
    await run(swigluHalves),
    await run((x) => swiglu(columns(x, 0, 40), columns(x, 40, 40))),
  ];
  // Plain columns put zeros beside each half and add up, which turns -0 into 0.
  assert.deepEqual(got[0], want[0]);
  assert.deepEqual(got[1].map((v) => v + 0), want[1].map((v) => v + 0));
});

Deno.test("swigluHalves() of no rows is empty; an odd axis is refused", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.deepEqual(swigluHalves(Tensor.zeros(gpu, [0, 6])).shape, [0, 3]);
  assert.throws(() => swigluHalves(Tensor.zeros(gpu, [2, 3])), {
    name: "TypeError",
    message: "Cannot gate the halves of (2, 3): the last axis has none",
  });
});
