import assert from "node:assert/strict";
import { backward, detach, noGrad, parameter } from "../../lib/autograd.ts";
import { linear } from "../../lib/ops/linear.ts";
import { stackRows, unstackRows } from "../../lib/ops/stack_rows.ts";
import { paysToStack, stackedLinear } from "../../lib/ops/stacked_linear.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";

/** Plain f64: the maps of all weights side by side. */
function reference(rows: number, inner: number, outputs: readonly number[]) {
  return ([x, ...rest]: Float64Array[]) => {
    const y: number[] = [];
    for (let r = 0; r < rows; r++) {
      outputs.forEach((count, part) => {
        const [weight, bias] = [rest[part], rest[outputs.length + part]];
        for (let o = 0; o < count; o++) {
          let sum = bias ? bias[o] : 0;
          for (let i = 0; i < inner; i++) sum += x[r * inner + i] * weight[o * inner + i];
          y.push(sum);
        }
      });
    }
    return y;
  };
}

Deno.test("stackedLinear() matches the reference with and without biases", GPU_TEST, async () => {
  const gpu = await testGpu();
  const cases = [
    { rows: 1, inner: 1, outputs: [1] },
    { rows: 3, inner: 5, outputs: [2, 3, 1] },
    { rows: 33, inner: 20, outputs: [36, 12] },
    { rows: 67, inner: 32, outputs: [32, 16, 16] },
  ];
  for (const { rows, inner, outputs } of cases) {
    for (const withBias of [true, false]) {
      const weights = outputs.map((o, i) => ({ name: `weight ${i}`, shape: [o, inner] }));
      const biases = outputs.map((o, i) => ({ name: `bias ${i}`, shape: [o] }));
      await checkOp(gpu, {
        name: `stacked ${rows}x${inner} to ${outputs}${withBias ? " + bias" : ""}`,
        inputs: [{ name: "x", shape: [rows, inner] }, ...weights, ...(withBias ? biases : [])],
        op: ([x, ...rest]) =>
          stackedLinear(x, rest.slice(0, outputs.length), rest.slice(outputs.length)),
        reference: reference(rows, inner, outputs),
        samples: 6,
      });
    }
  }
});

Deno.test("stackedLinear() gives the bits of linear(), forward", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, a, b] = [[70, 96], [96, 96], [40, 96]].map((shape, i) =>
    Tensor.from(gpu, normals(shape[0] * shape[1], i), shape)
  );
  const [stacked, one, two] = await readAll([stackedLinear(x, [a, b]), linear(x, a), linear(x, b)]);
  for (let r = 0; r < 70; r++) {
    assert.deepEqual(stacked.slice(136 * r, 136 * r + 96), one.slice(96 * r, 96 * (r + 1)));
    assert.deepEqual(stacked.slice(136 * r + 96, 136 * (r + 1)), two.slice(40 * r, 40 * (r + 1)));
  }
});

Deno.test("stackedLinear() gives no gradient to weights that are cut off", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, a, b] = [[6, 4], [3, 4], [2, 4]].map((shape, i) =>
    parameter(Tensor.from(gpu, normals(shape[0] * shape[1], i), shape))
  );
  const seed = Tensor.from(gpu, normals(30, 9), [6, 5]);
  const run = (first: Tensor) =>
    tidy(() => backward(stackedLinear(x, [first, b]), { seeds: [seed] }));
  const [whole, cut] = [run(a), run(detach(a))];
  assert.deepEqual([cut.has(a), cut.has(b), cut.has(x)], [false, true, true]);
  const [want, got] = [
    await readAll([x, b].map((t) => whole.get(t)!)),
    await readAll([x, b].map((t) => cut.get(t)!)),
  ];
  assert.deepEqual(got, want);
});

Deno.test("stackedLinear() of no rows is empty and has zero gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weights = [parameter(Tensor.zeros(gpu, [3, 4])), parameter(Tensor.zeros(gpu, [2, 4]))];
  const bias = [parameter(Tensor.zeros(gpu, [3])), parameter(Tensor.zeros(gpu, [2]))];
  const y = stackedLinear(Tensor.zeros(gpu, [0, 4]), weights, bias);
  assert.deepEqual(y.shape, [0, 5]);
  const grads = tidy(() => backward(y, { seeds: [Tensor.zeros(gpu, [0, 5])] }));
  for (const t of [...weights, ...bias]) {
    assert.deepEqual([...await grads.get(t)!.floats()], Array(t.size).fill(0));
  }
});

Deno.test("paysToStack() only for f32 weights in a recorded pass", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.zeros(gpu, [2, 4]);
  const weight = parameter(Tensor.zeros(gpu, [3, 4]));
  const packed = Tensor.fromHalves(gpu, new Uint16Array(12), [3, 4], "bf16");
  assert.equal(paysToStack(x, [weight, weight]), true);
  assert.equal(noGrad(() => paysToStack(x, [weight, weight])), false);
  assert.equal(paysToStack(x, [x, x]), false, "nothing needs a gradient");
  assert.equal(paysToStack(x, [weight, packed]), false);
});

Deno.test("stackedLinear() refuses what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, w, b] = [[2, 4], [3, 4], [3]].map((shape) => Tensor.zeros(gpu, shape));
  assert.throws(() => stackedLinear(x, [w, Tensor.zeros(gpu, [3, 5])]), {
    name: "TypeError",
    message: "Cannot map a (2, 4) f32 tensor by stacked weights of (3, 4) f32, (3, 5) f32: " +
      "expected f32 (…, in) and (out, in) of f32",
  });
  assert.throws(() => stackedLinear(x, [w, w], [b]), {
    name: "TypeError",
    message: "Cannot add biases of (3) f32 to stacked weights of (3, 4) f32, (3, 4) f32",
  });
});

Deno.test("stackRows() and unstackRows() keep values at any offset", GPU_TEST, async () => {
  const gpu = await testGpu();
  const parts = [[2, 3], [0, 3], [1, 3]].map((shape, i) =>
    Tensor.from(gpu, normals(shape[0] * shape[1], i), shape)
  );
  const stacked = stackRows(parts);
  assert.deepEqual(stacked.shape, [3, 3]);
  const [first, skipped, last] = unstackRows(stacked, parts.map((t) => t.shape), [
    true,
    false,
    true,
  ]);
  assert.equal(skipped, null);
  assert.deepEqual(await readAll([first!, last!]), await readAll([parts[0], parts[2]]));
  assert.throws(() => stackRows([parts[0], Tensor.zeros(gpu, [2, 4])]), {
    name: "TypeError",
    message: "Cannot stack a (2, 4) f32 tensor below (2, 3) f32",
  });
});
