import assert from "node:assert/strict";
import { upsampleNearest2 } from "../../lib/ops/upsample_nearest.ts";
import { Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

Deno.test("upsampleNearest2() repeats every pixel four times", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [B, h, w, C] of [[1, 1, 1, 4], [2, 3, 5, 8], [1, 7, 9, 64]]) {
    await checkOp(gpu, {
      name: `upsampleNearest2 ${B}x${h}x${w}x${C}`,
      inputs: [{ name: "x", shape: [B, h, w, C] }],
      op: ([x]) => upsampleNearest2(x),
      reference: ([x]) => {
        const y = new Float64Array(4 * x.length);
        for (let i = 0; i < y.length; i++) {
          const [c, j, row] = [i % C, Math.floor(i / C) % (2 * w), Math.floor(i / (2 * w * C))];
          const [b, r] = [Math.floor(row / (2 * h)), row % (2 * h)];
          y[i] = x[((b * h + (r >> 1)) * w + (j >> 1)) * C + c];
        }
        return y;
      },
    });
  }
});

Deno.test("upsampleNearest2() refuses other shapes", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => upsampleNearest2(Tensor.zeros(gpu, [2, 4])), {
    name: "TypeError",
    message: "Cannot bring (2, 4) to twice its size: it has not four axes",
  });
  assert.throws(() => upsampleNearest2(Tensor.zeros(gpu, [1, 2, 2, 3])), {
    name: "RangeError",
    message: "Cannot bring (1, 2, 2, 3) to twice its size: 3 channels are no multiple of 4",
  });
  const narrow = await narrowGpu(2 ** 12);
  assert.throws(() => upsampleNearest2(Tensor.empty(narrow, [1, 16, 16, 8])), {
    name: "ResourceError",
    message: "Cannot double (1, 16, 16, 8): 32768 B of pixels, one binding of this adapter holds " +
      "4096 B",
  });
});
