import assert from "node:assert/strict";
import { noGrad } from "../../lib/autograd.ts";
import { conv2d, padAll } from "../../lib/ops/conv2d.ts";
import { upsampleConvolve } from "../../lib/ops/upsample_convolve.ts";
import { upsampleNearest2 } from "../../lib/ops/upsample_nearest.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

/** images, rows, columns, channels in, channels out */
const SIZES = [[1, 1, 1, 4, 4], [2, 3, 5, 8, 12], [1, 7, 2, 32, 36], [2, 24, 20, 16, 8]];

type Device = Awaited<ReturnType<typeof testGpu>>;

function inputs(gpu: Device, [B, h, w, C, O]: number[]): [Tensor, Tensor, Tensor] {
  return [
    Tensor.from(gpu, normals(B * h * w * C, 1), [B, h, w, C]),
    Tensor.from(gpu, normals(O * C * 9, 2, 1 / Math.sqrt(9 * C)), [O, C, 3, 3]),
    Tensor.from(gpu, normals(O, 3), [O]),
  ];
}

Deno.test(
  "upsampleConvolve() is a convolution of repeated pixels, up to rounding",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const size of SIZES) {
      const [x, weight, bias] = inputs(gpu, size);
      const before = gpu.buffers.liveCount;
      const y = upsampleConvolve(x, weight, bias);
      assert.equal(gpu.buffers.liveCount, before + 1, "all but the result was given back");
      const want = tidy(() => conv2d(upsampleNearest2(x), weight, bias, { padding: padAll(1) }));
      assert.deepEqual(y.shape, want.shape);
      assertClose(await y.floats(), await want.floats(), FORWARD, `${size}`);
    }
  },
);

Deno.test("upsampleConvolve() gives the same bits in bands as at once", GPU_TEST, async () => {
  const [whole, banded] = [await testGpu(), await narrowGpu(2 ** 17)];
  for (const size of [[2, 24, 36, 16, 8], [1, 31, 37, 32, 12]]) {
    const run = (gpu: Device) => upsampleConvolve(...inputs(gpu, size)).floats();
    const before = [banded.dispatches, whole.dispatches];
    assertClose(await run(banded), await run(whole), 0, `${size}`);
    const launches = [banded.dispatches - before[0], whole.dispatches - before[1]];
    assert.ok(launches[0] >= launches[1] + 5, "several bands");
  }
});

Deno.test("upsampleConvolve() refuses other kernels and channels", GPU_TEST, async () => {
  const gpu = await testGpu();
  const zeros = (...shape: number[]) => Tensor.zeros(gpu, shape);
  assert.throws(
    () => noGrad(() => upsampleConvolve(zeros(1, 2, 2, 4), zeros(6, 4, 3, 3), zeros(6))),
    {
      name: "TypeError",
      message: "Cannot convolve (1, 2, 2, 4) at twice its size with weight (6, 4, 3, 3): " +
        "the kernel must be 3 × 3, channels multiples of 4",
    },
  );
  assert.throws(() => upsampleConvolve(zeros(1, 2, 2, 4), zeros(4, 4, 1, 1), zeros(4)), {
    name: "TypeError",
  });
});
