import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { crossEntropy } from "../../lib/ops/cross_entropy.ts";
import { linear } from "../../lib/ops/linear.ts";
import { linearCrossEntropy } from "../../lib/ops/linear_cross_entropy.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { readAll, Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";

const labelsFor = (rows: number, classes: number) =>
  Int32Array.from({ length: rows }, (_, r) => r === 0 ? classes - 1 : (31 * r) % classes);

function reference(labels: Int32Array, classes: number, inner: number) {
  return ([hidden, weight]: Float64Array[]) =>
    Array.from(labels, (label, r) => {
      const logits = Array.from({ length: classes }, (_, v) => {
        let sum = 0;
        for (let c = 0; c < inner; c++) sum += hidden[r * inner + c] * weight[v * inner + c];
        return sum;
      });
      const m = Math.max(...logits);
      return Math.log(logits.reduce((s, x) => s + Math.exp(x - m), 0)) + m - logits[label];
    });
}

Deno.test(
  "linearCrossEntropy() matches the reference, whole and in chunks of 64 rows",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const [rows, classes, inner] of [[1, 1, 1], [13, 17, 5], [150, 24, 12], [129, 7, 3]]) {
      for (const logitsBytes of [2 ** 26, 1]) {
        const labels = labelsFor(rows, classes);
        await checkOp(gpu, {
          name: `head ${rows}x${inner} to ${classes}, ${logitsBytes} bytes`,
          inputs: [
            { name: "hidden", shape: [rows, inner] },
            { name: "weight", shape: [classes, inner] },
          ],
          op: ([hidden, weight]) => linearCrossEntropy(hidden, weight, labels, { logitsBytes }),
          reference: reference(labels, classes, inner),
          samples: 8,
        });
      }
    }
  },
);

Deno.test(
  "linearCrossEntropy() equals crossEntropy(linear()), and holds no more logits than told",
  GPU_TEST,
  async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 28 });
    const [rows, classes, inner] = [700, 2000, 8];
    const labels = labelsFor(rows, classes);
    labels[5] = -1;
    const weights = Tensor.from(gpu, normals(rows, 8), [rows]);
    const [hidden, head] = [[rows, inner], [classes, inner]].map((shape, i) =>
      parameter(Tensor.from(gpu, normals(shape[0] * shape[1], i), shape))
    );
    const seeds = [Tensor.from(gpu, normals(rows, 4), [rows])];
    const run = async (op: () => Tensor) => {
      const before = gpu.buffers.peakBytes = gpu.buffers.liveBytes;
      const results = tidy(() => {
        const loss = op();
        const grads = backward(loss, { seeds });
        return [loss, grads.get(hidden)!, grads.get(head)!];
      });
      const peak = gpu.buffers.peakBytes - before;
      const values = await readAll(results);
      for (const t of results) t.dispose();
      return { values, peak };
    };
    const options = { weights, ignore: -1 };
    const plain = await run(() => crossEntropy(linear(hidden, head), labels, options));
    const logitsBytes = 4 * classes * 128;
    const chunked = await run(() =>
      linearCrossEntropy(hidden, head, labels, { ...options, logitsBytes })
    );
    assert.deepEqual(chunked.values[0], plain.values[0], "losses");
    assert.deepEqual(chunked.values[1], plain.values[1], "gradient of the rows");
    assertClose(chunked.values[2], plain.values[2], 1e-6, "gradient of the weights");
    assert.ok(plain.peak > 2 * 4 * rows * classes, `${plain.peak} bytes with all logits`);
    assert.ok(
      chunked.peak < 3 * logitsBytes,
      `${chunked.peak} bytes of at most ${logitsBytes} logits`,
    );
    gpu.close();
  },
);

Deno.test("linearCrossEntropy() of no rows is empty and has zero gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  const weight = parameter(Tensor.from(gpu, normals(6, 1), [3, 2]));
  const grads = tidy(() => {
    const loss = linearCrossEntropy(Tensor.empty(gpu, [0, 2]), weight, new Int32Array(0));
    assert.deepEqual(loss.shape, [0]);
    return backward(loss, { seeds: [Tensor.empty(gpu, [0])] });
  });
  assert.deepEqual([...await grads.get(weight)!.floats()], Array(6).fill(0));
});

Deno.test(
  "linearCrossEntropy() takes bf16 weights, whose gradient is f32",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const bits = Uint16Array.from(
      normals(24 * 8, 2),
      (v) => new Uint32Array(Float32Array.of(v).buffer)[0] >> 16,
    );
    const weight = parameter(Tensor.fromHalves(gpu, bits, [24, 8], "bf16"));
    const hidden = parameter(Tensor.from(gpu, normals(70 * 8, 1), [70, 8]));
    const labels = labelsFor(70, 24);
    const run = (op: () => Tensor) =>
      readAll(tidy(() => {
        const loss = op();
        const grads = backward(loss, { seeds: [Tensor.from(gpu, normals(70, 3), [70])] });
        return [loss, grads.get(hidden)!, grads.get(weight)!];
      }));
    const chunked = await run(() => linearCrossEntropy(hidden, weight, labels, { logitsBytes: 1 }));
    const plain = await run(() => crossEntropy(linear(hidden, weight), labels));
    plain.forEach((want, i) =>
      assertClose(chunked[i], want, 1e-6, ["losses", "dhidden", "dweight"][i])
    );
  },
);

Deno.test("linearCrossEntropy() refuses what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [hidden, weight] = [Tensor.zeros(gpu, [2, 4]), Tensor.zeros(gpu, [3, 4])];
  assert.throws(() => linearCrossEntropy(hidden, weight, Int32Array.of(1)), {
    name: "TypeError",
    message: "Cannot score (2, 4) f32 rows by (3, 4) f32 weights and 1 labels: " +
      "expected f32 (M, C), (V, C) and M",
  });
  assert.throws(() => linearCrossEntropy(hidden, weight, Int32Array.of(1, 3)), {
    name: "RangeError",
    message: "Cannot score label 3 (at 1) among 3 classes",
  });
});
