import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { linear } from "../../lib/ops/linear.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";

/** Plain f64 y = x Wᵀ + b. */
function reference(rows: number, outputs: number, inputs: number) {
  return ([x, weight, bias]: Float64Array[]) => {
    const y = new Float64Array(rows * outputs);
    for (let r = 0; r < rows; r++) {
      for (let o = 0; o < outputs; o++) {
        let sum = bias ? bias[o] : 0;
        for (let i = 0; i < inputs; i++) sum += x[r * inputs + i] * weight[o * inputs + i];
        y[r * outputs + o] = sum;
      }
    }
    return y;
  };
}

Deno.test("linear() matches the reference with and without bias", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [rows, outputs, inputs] of [[1, 1, 1], [2, 5, 3], [33, 36, 20], [65, 96, 32]]) {
    for (const withBias of [true, false]) {
      await checkOp(gpu, {
        name: `linear ${rows}x${outputs}x${inputs}${withBias ? " + bias" : ""}`,
        inputs: [
          { name: "x", shape: [rows, inputs] },
          { name: "weight", shape: [outputs, inputs] },
          ...(withBias ? [{ name: "bias", shape: [outputs] }] : []),
        ],
        op: ([x, weight, bias]) => linear(x, weight, bias),
        reference: reference(rows, outputs, inputs),
        samples: 8,
      });
    }
  }
});

Deno.test("linear() keeps leading axes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const y = linear(Tensor.zeros(gpu, [2, 3, 4]), Tensor.zeros(gpu, [5, 4]));
  assert.deepEqual(y.shape, [2, 3, 5]);
});

Deno.test("linear() of no rows is empty and has zero gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = parameter(Tensor.zeros(gpu, [0, 4]));
  const weight = parameter(Tensor.from(gpu, new Float32Array(20).fill(3), [5, 4]));
  const bias = parameter(Tensor.from(gpu, new Float32Array(5).fill(2), [5]));
  const y = linear(x, weight, bias);
  assert.deepEqual(y.shape, [0, 5]);
  const grads = tidy(() => backward(y, { seeds: [Tensor.zeros(gpu, [0, 5])] }));
  assert.deepEqual([...await grads.get(weight)!.floats()], new Array(20).fill(0));
  assert.deepEqual([...await grads.get(bias)!.floats()], new Array(5).fill(0));
  assert.deepEqual(grads.get(x)!.shape, [0, 4]);
});

Deno.test("linear() of no inputs is its bias", GPU_TEST, async () => {
  const gpu = await testGpu();
  const y = linear(
    Tensor.zeros(gpu, [2, 0]),
    Tensor.zeros(gpu, [3, 0]),
    Tensor.from(gpu, [1, 2, 3], [3]),
  );
  assert.deepEqual([...await y.floats()], [1, 2, 3, 1, 2, 3]);
});

Deno.test("linear() refuses weights and biases that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.zeros(gpu, [2, 3]);
  const weight = Tensor.zeros(gpu, [5, 4]);
  assert.throws(() => linear(x, weight), {
    name: "TypeError",
    message:
      "Cannot map a (2, 3) f32 tensor by (5, 4) f32 weights: expected f32 (…, in) and (out, in) of f32, bf16, f16, int8 or int4",
  });
  assert.throws(() => linear(x, Tensor.zeros(gpu, [5, 3]), Tensor.zeros(gpu, [4])), {
    name: "TypeError",
    message: "Cannot add a (4) f32 bias to 5 outputs",
  });
});
