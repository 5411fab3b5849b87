// Doubles an image by repeating pixels.

import backwardCode from "../../kernels/upsample_nearest_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/upsample_nearest.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { imageShape } from "./channels.ts";
import { expectOneBinding } from "./image_rows.ts";

const forward = new Kernel("upsample_nearest", { main: forwardCode });
const backward = new Kernel("upsample_nearest_backward", { main: backwardCode });

/**
 * `y[b, i, j] = x[b, ⌊i/2⌋, ⌊j/2⌋]`.
 *
 * @param x (B, h, w, C) channels last
 * @returns (B, 2h, 2w, C)
 * @throws {TypeError} If `x` has not four axes
 * @throws {RangeError} If C is not a multiple of 4
 * @throws {ResourceError} If `y` is larger than one binding of the adapter: see `upsampleConvolve`
 */
export function upsampleNearest2(x: Tensor): Tensor {
  const [B, h, w, C] = imageShape(x, "to twice its size");
  if (C % 4 !== 0) {
    throw new RangeError(
      `Cannot bring (${x.shape.join(", ")}) to twice its size: ${C} channels are no multiple of 4`,
    );
  }
  expectOneBinding(x, "double", 16 * x.size);
  const n = x.size / 4;
  const params = { n, width: w, quads: C / 4 };
  const grid = foldGrid(Math.ceil(n / 64));
  const y = Tensor.empty(x.gpu, [B, 2 * h, 2 * w, C]);
  forward.run(x.gpu, { buffers: { x: x.buffer, y: y.buffer }, params, grid });
  const shape = x.shape;
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(dy.gpu, shape);
    backward.run(dy.gpu, { buffers: { dy: dy.buffer, dx: dx.buffer }, params, grid });
    return [dx];
  });
}
