import assert from "node:assert/strict";
import { affine } from "../../lib/ops/affine.ts";
import { latentSample } from "../../lib/ops/latent_sample.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";

Deno.test("latentSample() matches the reference", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 7, 255, 257]) {
    await checkOp(gpu, {
      name: `latentSample ${n}`,
      inputs: [
        { name: "mean", shape: [n] },
        { name: "logvar", shape: [n] },
        { name: "noise", shape: [n], differentiable: false },
      ],
      op: ([mean, logvar, noise]) =>
        latentSample(mean, logvar, noise, { scale: 0.3611, shift: 0.1159 }),
      reference: ([mean, logvar, noise]) =>
        mean.map((m, i) => (m + Math.exp(logvar[i] / 2) * noise[i] - 0.1159) * 0.3611),
    });
  }
});

Deno.test("affine() matches the reference", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 7, 255, 257]) {
    await checkOp(gpu, {
      name: `affine ${n}`,
      inputs: [{ name: "x", shape: [n] }],
      op: ([x]) => affine(x, -2.5, 0.75),
      reference: ([x]) => x.map((v) => -2.5 * v + 0.75),
    });
  }
});

Deno.test("latentSample() refuses different shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [mean, other] = [Tensor.zeros(gpu, [2, 3]), Tensor.zeros(gpu, [3, 2])];
  assert.throws(() => latentSample(mean, mean, other, { scale: 1, shift: 0 }), {
    name: "TypeError",
    message: "Cannot sample latents: mean is (2, 3), noise (3, 2)",
  });
});
