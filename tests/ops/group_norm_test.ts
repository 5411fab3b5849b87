import assert from "node:assert/strict";
import { backward, parameter } from "../../lib/autograd.ts";
import { groupNorm } from "../../lib/ops/group_norm.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

Deno.test("groupNorm() matches the reference, with and without swish", GPU_TEST, async () => {
  const gpu = await testGpu();
  // images, rows, columns, channels, groups; 1, a prime, and one less and more than a chunk of pixels
  const shapes = [
    [1, 1, 1, 8, 4],
    [2, 3, 5, 32, 32],
    [1, 7, 9, 64, 32],
    [2, 5, 13, 12, 3],
    [1, 1, 131, 256, 32],
  ];
  for (const [B, h, w, C, groups] of shapes) {
    for (const swish of [false, true]) {
      await checkOp(gpu, {
        name: `groupNorm ${B}x${h}x${w}x${C}/${groups}${swish ? " swish" : ""}`,
        inputs: [
          { name: "x", shape: [B, h, w, C] },
          { name: "weight", shape: [C] },
          { name: "bias", shape: [C] },
        ],
        op: ([x, weight, bias]) => groupNorm(x, weight, bias, { groups, eps: 1e-5, swish }),
        reference: ([x, weight, bias]) =>
          reference(x, weight, bias, [B, h * w, C, groups], 1e-5, swish),
        samples: 24,
      });
    }
  }
});

Deno.test(
  "groupNorm() keeps its digits where values are large and nearly equal",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const [h, w, C] = [64, 65, 32];
    const x = normals(h * w * C, 3, 1e-2).map((v) => v + 10);
    const [weight, bias] = [normals(C, 4), normals(C, 5)];
    const y = groupNorm(
      Tensor.from(gpu, x, [1, h, w, C]),
      Tensor.from(gpu, weight, [C]),
      Tensor.from(gpu, bias, [C]),
    );
    const want = reference(
      Float64Array.from(x),
      Float64Array.from(weight),
      Float64Array.from(bias),
      [1, h * w, C, 32],
      1e-6,
      false,
    );
    // the mean is rounded to f32 (4e-7 of 10), which is 5e-5 of the deviation
    assertClose(await y.floats(), want, 5e-5, "groupNorm");
  },
);

Deno.test("groupNorm() gives the same bits twice and frees what it took", GPU_TEST, async () => {
  const gpu = await testGpu();
  const run = async () => {
    const x = parameter(Tensor.from(gpu, normals(2 * 40 * 33 * 64, 1), [2, 40, 33, 64]));
    const weight = parameter(Tensor.from(gpu, normals(64, 2), [64]));
    const bias = parameter(Tensor.from(gpu, normals(64, 3), [64]));
    const before = gpu.buffers.liveCount;
    const grads = tidy(() => {
      const y = groupNorm(x, weight, bias, { swish: true });
      return backward(y, { seeds: [y] });
    });
    const all = await Promise.all([x, weight, bias].map((t) => grads.get(t)!.floats()));
    for (const grad of grads.values()) grad.dispose();
    assert.equal(gpu.buffers.liveCount, before);
    for (const t of [x, weight, bias]) t.dispose();
    return all;
  };
  assert.deepEqual(await run(), await run());
});

Deno.test(
  "groupNorm() gives the same bits in bands as at once, also where values are nearly equal",
  GPU_TEST,
  async () => {
    const [whole, banded] = [await testGpu(), await narrowGpu(2 ** 16)];
    for (const [B, h, w, C] of [[1, 64, 65, 32], [2, 36, 34, 32], [1, 51, 23, 64]]) {
      const x = normals(B * h * w * C, 3, 1e-2).map((v) => v + 10);
      const run = (gpu: typeof whole) => {
        const [weight, bias] = [4, 5].map((seed) => Tensor.from(gpu, normals(C, seed), [C]));
        const before = gpu.dispatches;
        const y = groupNorm(Tensor.from(gpu, x, [B, h, w, C]), weight, bias, { swish: true });
        assert.equal(gpu.dispatches - before > 3, gpu === banded, "several bands");
        return y.floats();
      };
      assertClose(await run(banded), await run(whole), 0, `${B}x${h}x${w}x${C}`);
    }
  },
);

Deno.test("groupNorm() refuses what bands cannot do, by name", GPU_TEST, async () => {
  const gpu = await narrowGpu(2 ** 15);
  const vector = (n: number) => Tensor.zeros(gpu, [n]);
  const x = parameter(Tensor.empty(gpu, [1, 32, 32, 32]));
  assert.throws(() => groupNorm(x, vector(32), vector(32)), {
    name: "ResourceError",
    message:
      "Cannot normalize (1, 32, 32, 32) with gradients: 131072 B of pixels, one binding of " +
      "this adapter holds 32768 B",
  });
  x.dispose();
  const images = Tensor.empty(gpu, [2, 65, 64, 4]);
  assert.throws(() => groupNorm(images, vector(4), vector(4), { groups: 2 }), {
    name: "ResourceError",
    message:
      "Cannot normalize (2, 65, 64, 4) in bands: an image takes 32 bytes, no multiple of 256",
    help: "give such images one at a time",
  });
});

Deno.test("groupNorm() refuses what does not fit, by name", GPU_TEST, async () => {
  const gpu = await testGpu();
  const zeros = (...shape: number[]) => Tensor.zeros(gpu, shape);
  assert.throws(() => groupNorm(zeros(4, 32), zeros(32), zeros(32)), {
    name: "TypeError",
    message: "Cannot normalize (4, 32) by groups: it has not four axes",
  });
  assert.throws(() => groupNorm(zeros(1, 2, 2, 32), zeros(32), zeros(31)), {
    name: "TypeError",
    message: "Cannot normalize (1, 2, 2, 32) by groups: bias is (31), not (32)",
  });
  assert.throws(() => groupNorm(zeros(1, 2, 2, 48), zeros(48), zeros(48)), {
    name: "RangeError",
    message:
      "Cannot normalize (1, 2, 2, 48) by groups: 48 channels do not divide into 32 groups and into fours",
  });
});

/** The definition, in f64. */
function reference(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array,
  [B, pixels, C, groups]: [number, number, number, number],
  eps: number,
  swish: boolean,
): Float64Array {
  const size = C / groups;
  const y = new Float64Array(x.length);
  for (let b = 0; b < B; b++) {
    for (let g = 0; g < groups; g++) {
      const places: number[] = [];
      for (let p = 0; p < pixels; p++) {
        for (let c = 0; c < size; c++) places.push((b * pixels + p) * C + g * size + c);
      }
      let mean = 0;
      for (const i of places) mean += x[i] / places.length;
      let variance = 0;
      for (const i of places) variance += (x[i] - mean) ** 2 / places.length;
      for (const i of places) {
        const u = (x[i] - mean) / Math.sqrt(variance + eps) * weight[i % C] + bias[i % C];
        y[i] = swish ? u / (1 + Math.exp(-u)) : u;
      }
    }
  }
  return y;
}
