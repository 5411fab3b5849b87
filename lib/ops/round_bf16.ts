// f32 to bf16 on the device: what keeps stored weights in step with the f32 masters that an optimizer updates.

import code from "../../kernels/round_bf16.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import type { Tensor } from "../tensor.ts";

const kernel = new Kernel("round_bf16", { main: code });

const BLOCK = 64;
/** Ranges of halves start on 256 bytes. */
const START_STEP = 128;

/**
 * `y ← x` rounded to the nearest bf16, ties to even, infinite from 3.39·10³⁸ on; not a number stays that. Not
 * differentiable.
 *
 * @param x (…) f32
 * @param y (…) bf16 of the same shape, overwritten
 * @param limitBytes largest binding. Default: the adapter's
 * @throws {TypeError} If shapes differ or a dtype is another
 */
export function roundBf16(x: Tensor, y: Tensor, limitBytes: number = x.gpu.maxBindingBytes): void {
  if (x.shape.join() !== y.shape.join() || x.dtype !== "f32" || y.dtype !== "bf16") {
    throw new TypeError(
      `Cannot round a (${x.shape.join(", ")}) ${x.dtype} tensor into a ` +
        `(${y.shape.join(", ")}) ${y.dtype} one: expected f32, and bf16 of the same shape`,
    );
  }
  const most = Math.floor(limitBytes / 4 / START_STEP) * START_STEP;
  for (let start = 0; start < x.size; start += most) {
    const n = Math.min(most, x.size - start);
    const part = (t: Tensor, width: number) =>
      n === x.size ? t.buffer : {
        buffer: t.buffer,
        offset: width * start,
        sizeBytes: Math.ceil(width * n / 16) * 16,
      };
    kernel.run(x.gpu, {
      buffers: { x: part(x, 4), y: part(y, 2) },
      params: { n },
      grid: foldGrid(Math.ceil(n / (4 * BLOCK))),
    });
  }
}
