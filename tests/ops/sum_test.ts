import assert from "node:assert/strict";
import { mean, sum, weightedSum } from "../../lib/ops/sum.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

const total = (x: Float64Array) => x.reduce((s, v) => s + v, 0);

Deno.test("sum(), mean() and weightedSum() match their references", GPU_TEST, async () => {
  for (const gpu of [...await bothKinds(), await narrowGpu(4096)]) {
    for (const n of [1, 2, 63, 64, 65, 257, 4099]) {
      const data = normals(n, n).map((v) => v + 1); // a mean away from zero: relative errors mean something
      const x = { name: "x", shape: [n], data };
      await checkOp(gpu, {
        name: `sum ${n}`,
        inputs: [x],
        op: ([x]) => sum(x),
        reference: ([x]) => [total(x)],
        samples: 5,
      });
      await checkOp(gpu, {
        name: `mean ${n}`,
        inputs: [x],
        op: ([x]) => mean(x),
        reference: ([x]) => [total(x) / n],
        samples: 5,
      });
      await checkOp(gpu, {
        name: `weighted sum ${n}`,
        inputs: [x, { ...x, name: "w" }],
        op: ([x, w]) => weightedSum(x, w),
        reference: ([x, w]) => [total(x.map((v, i) => v * w[i]))],
        samples: 5,
      });
    }
  }
});

Deno.test(
  "sum() of a million values keeps seven digits and gives the same bits twice",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const host = normals(1_000_003, 8).map((v) => v + 1);
    const x = Tensor.from(gpu, host, [host.length]);
    const [first, second] = [await sum(x).floats(), await sum(x).floats()];
    const want = host.reduce((s, v) => s + v, 0);
    assert.ok(Math.abs(first[0] / want - 1) < 5e-7, `got ${first[0]}, expected ${want}`);
    assert.deepEqual(first, second);
    x.dispose();
  },
);

Deno.test("sum() of nothing is 0 and mean() of nothing is refused", GPU_TEST, async () => {
  const x = Tensor.empty(await testGpu(), [0]);
  assert.deepEqual([...await sum(x).floats()], [0]);
  assert.throws(() => mean(x), {
    name: "RangeError",
    message: "Cannot take the mean of no values",
  });
});
