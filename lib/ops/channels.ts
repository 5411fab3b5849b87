// Channels first (PyTorch's layout of images and latents) ↔ channels last (the layout of every op on
// images here). Channels last makes a pixel one row: convolution reads whole vectors whatever its
// padding, and attention and 1×1 convolutions see the rows they want without a copy.

import code from "../../kernels/swap_axes.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { type Shape, Tensor } from "../tensor.ts";
import { expectOneBinding } from "./image_rows.ts";

const kernel = new Kernel("swap_axes", { main: code });

/**
 * (B, C, h, w) → (B, h, w, C).
 *
 * @throws {TypeError} If `x` has not four axes
 * @throws {ResourceError} If `x` is larger than one binding of the adapter
 */
export function toChannelsLast(x: Tensor): Tensor {
  const [b, c, h, w] = imageShape(x, "to channels last");
  return swap(x, [b, h, w, c], b, c, h * w);
}

/**
 * (B, h, w, C) → (B, C, h, w).
 *
 * @throws {TypeError} If `x` has not four axes
 * @throws {ResourceError} If `x` is larger than one binding of the adapter
 */
export function toChannelsFirst(x: Tensor): Tensor {
  const [b, h, w, c] = imageShape(x, "to channels first");
  return swap(x, [b, c, h, w], b, h * w, c);
}

/** The four sizes of an image tensor. @throws {TypeError} If it has not four axes */
export function imageShape(x: Tensor, what: string): [number, number, number, number] {
  if (x.shape.length !== 4) {
    throw new TypeError(`Cannot bring (${x.shape.join(", ")}) ${what}: it has not four axes`);
  }
  return x.shape as unknown as [number, number, number, number];
}

function swap(x: Tensor, shape: Shape, batch: number, rows: number, columns: number): Tensor {
  expectOneBinding(x, "swap the axes of", 4 * x.size);
  const y = Tensor.empty(x.gpu, shape);
  const launch = (source: Tensor, target: Tensor, rows: number, columns: number) =>
    kernel.run(x.gpu, {
      buffers: { x: source.buffer, y: target.buffer },
      params: { batch, rows, columns },
      grid: foldGrid(Math.ceil(batch * Math.ceil(rows / 4) * Math.ceil(columns / 4) / 64)),
    });
  launch(x, y, rows, columns);
  const before = x.shape;
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(dy.gpu, before);
    launch(dy, dx, columns, rows);
    return [dx];
  });
}
