import assert from "node:assert/strict";
import { toChannelsFirst, toChannelsLast } from "../../lib/ops/channels.ts";
import { columns } from "../../lib/ops/columns.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, checkOp, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

const SHAPES = [[1, 1, 1, 1], [2, 3, 5, 7], [1, 32, 3, 9], [3, 4, 16, 17]];

Deno.test("toChannelsLast() moves channels behind pixels", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [B, C, h, w] of SHAPES) {
    await checkOp(gpu, {
      name: `toChannelsLast ${B}x${C}x${h}x${w}`,
      inputs: [{ name: "x", shape: [B, C, h, w] }],
      op: ([x]) => toChannelsLast(x),
      reference: ([x]) =>
        x.map((_, i) => x[(Math.floor(i / (C * h * w)) * C + i % C) * h * w + pixel(i, C, h * w)]),
    });
  }
});

Deno.test("toChannelsFirst() undoes toChannelsLast(), also for gradients", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const shape of SHAPES) {
    await checkOp(gpu, {
      name: `round trip ${shape.join("x")}`,
      inputs: [{ name: "x", shape }],
      op: ([x]) => toChannelsFirst(toChannelsLast(x)),
      reference: ([x]) => x.slice(),
    });
  }
});

Deno.test("columns() crops, pads and slices", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (
    const [rows, width, start, count] of [[1, 1, 0, 1], [5, 3, 0, 4], [7, 8, 5, 3], [4, 6, -2, 9]]
  ) {
    await checkOp(gpu, {
      name: `columns ${rows}x${width} from ${start}, ${count}`,
      inputs: [{ name: "x", shape: [rows, width] }],
      op: ([x]) => columns(x, start, count),
      reference: ([x]) =>
        Float64Array.from({ length: rows * count }, (_, i) => {
          const j = start + i % count;
          return j >= 0 && j < width ? x[Math.floor(i / count) * width + j] : 0;
        }),
    });
  }
});

Deno.test("columns() covers tensors larger than one binding", GPU_TEST, async () => {
  const gpu = await narrowGpu(2 ** 12);
  const x = normals(901 * 4, 1);
  const y = await columns(Tensor.from(gpu, x, [901, 4]), 1, 3).floats();
  assertClose(y, x.filter((_, i) => i % 4 > 0), 0, "columns");
});

Deno.test("channel ops refuse what they cannot do", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.from(gpu, normals(6, 1), [2, 3]);
  assert.throws(() => toChannelsLast(x), {
    message: "Cannot bring (2, 3) to channels last: it has not four axes",
  });
  assert.throws(() => toChannelsFirst(x), {
    message: "Cannot bring (2, 3) to channels first: it has not four axes",
  });
  assert.throws(() => columns(x, 0.5, 2), {
    name: "RangeError",
    message: "Cannot take 2 columns from column 0.5",
  });
  const narrow = await narrowGpu(2 ** 12);
  assert.throws(() => toChannelsLast(Tensor.empty(narrow, [1, 3, 32, 32])), {
    name: "ResourceError",
    message: "Cannot swap the axes of (1, 3, 32, 32): 12288 B of pixels, one binding of this " +
      "adapter holds 4096 B",
    help: "fewer or smaller images at a time",
  });
});

function pixel(i: number, channels: number, pixels: number): number {
  return Math.floor(i / channels) % pixels;
}
