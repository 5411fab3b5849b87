// Weighted sum of two gradients; the weights are clipping factors that stay on the device.

import code from "../../kernels/scaled_sum.wgsl" with { type: "text" };
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("scaled_sum", { main: code });

/**
 * `z = a · x + b · y`. Not differentiable.
 *
 * @param x (…) any shape
 * @param a one value
 * @param y (…) the same shape
 * @param b one value
 * @throws {TypeError} If the shapes differ
 */
export function scaledSum(x: Tensor, a: Tensor, y: Tensor, b: Tensor): Tensor {
  if (x.shape.join() !== y.shape.join()) {
    throw new TypeError(`Cannot add (${y.shape.join(", ")}) to (${x.shape.join(", ")})`);
  }
  const z = Tensor.empty(x.gpu, x.shape);
  runPointwise(kernel, x.gpu, { x, y, z }, x.size, { scalars: { a, b } });
  return z;
}
