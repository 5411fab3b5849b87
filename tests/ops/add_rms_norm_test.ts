import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { add } from "../../lib/ops/add.ts";
import { addRmsNorm } from "../../lib/ops/add_rms_norm.ts";
import { mul } from "../../lib/ops/mul.ts";
import { rmsNorm } from "../../lib/ops/rms_norm.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { bothKinds, narrowGpu } from "./variants.ts";

const EPS = 1e-2;
/** Some units in the last place. */
const ROUNDING = 1e-6;

/** `sum · normed` in f64, so that both outputs pass a gradient on. */
function reference([x, branch, weight]: Float64Array[]): Float64Array {
  const cols = weight.length;
  const sum = x.map((v, i) => v + branch[i]);
  return sum.map((v, i) => {
    const row = sum.subarray(i - i % cols, i - i % cols + cols);
    const rms = Math.sqrt(row.reduce((s, u) => s + u * u, 0) / cols + EPS);
    return v * v / rms * weight[i % cols];
  });
}

const both = ([x, branch, weight]: Tensor[]) => {
  const { sum, normed } = addRmsNorm(x, branch, weight, EPS);
  return mul(sum, normed);
};

const inputsOf = (rows: number, cols: number) => [
  { name: "x", shape: [rows, cols] },
  { name: "branch", shape: [rows, cols] },
  { name: "weight", shape: [cols] },
];

Deno.test(
  "addRmsNorm() matches the reference with one and many threads per row",
  GPU_TEST,
  async () => {
    for (const gpu of await bothKinds()) {
      for (const [rows, cols] of [[1, 1], [13, 64], [67, 5], [3, 257]]) {
        await checkOp(gpu, {
          name: `sum and norm ${rows}x${cols}, software ${gpu.adapter.software}`,
          inputs: inputsOf(rows, cols),
          op: both,
          reference,
          samples: 12,
        });
      }
    }
  },
);

Deno.test("addRmsNorm() splits rows beyond the binding limit", GPU_TEST, async () => {
  await checkOp(await narrowGpu(16384), {
    name: "sum and norm in ranges of rows",
    inputs: inputsOf(301, 20),
    op: both,
    reference,
    samples: 12,
  });
});

Deno.test(
  "addRmsNorm() gives the bits of add() and rmsNorm() on software, else nearly, whichever outputs are read",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    type Pair = { sum: Tensor; normed: Tensor };
    const fused = (x: Tensor, branch: Tensor, weight: Tensor): Pair =>
      addRmsNorm(x, branch, weight);
    const plain = (x: Tensor, branch: Tensor, weight: Tensor): Pair => {
      const sum = add(x, branch);
      return { sum, normed: rmsNorm(sum, weight) };
    };
    const run = (op: typeof fused, read: (pair: Pair) => Tensor[]) =>
      readAll(tidy(() => {
        const inputs = [[70, 24], [70, 24], [24]].map((shape, i) =>
          parameter(Tensor.from(gpu, normals(shape.reduce((a, b) => a * b), i), shape))
        );
        const ys = read(op(inputs[0], inputs[1], inputs[2]));
        const seeds = ys.map((y, i) => Tensor.from(gpu, normals(y.size, 9 + i), y.shape));
        const grads = backward(ys, { seeds });
        return [...ys, ...inputs.flatMap((x) => grads.get(x) ?? [])];
      }));
    const reads = [
      ({ sum, normed }: Pair) => [sum, normed],
      ({ sum }: Pair) => [sum],
      ({ normed }: Pair) => [normed],
    ];
    for (const read of reads) {
      const [got, want] = [await run(fused, read), await run(plain, read)] as Float32Array[][];
      assert.equal(got.length, want.length);
      if (gpu.adapter.software) assert.deepEqual(got, want);
      else got.forEach((values, i) => assertClose(values, want[i], ROUNDING, `tensor ${i}`));
    }
  },
);

Deno.test(
  "addRmsNorm() of no rows is empty and has a zero gradient; other shapes are refused",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const weight = parameter(Tensor.from(gpu, [1, 2, 3], [3]));
    const empty = Tensor.empty(gpu, [0, 3]);
    const grads = tidy(() => {
      const { normed } = addRmsNorm(empty, empty, weight);
      return backward(normed, { seeds: [empty] });
    });
    assert.deepEqual([...await grads.get(weight)!.floats()], [0, 0, 0]);
    assert.throws(() => addRmsNorm(Tensor.zeros(gpu, [2, 3]), empty, weight), {
      name: "TypeError",
      message: "Cannot add (0, 3) to (2, 3) and normalize with a weight of (3)",
    });
  },
);
