// Sum of two tensors of one shape.

import code from "../../kernels/add.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("add", { main: code });

/**
 * Elementwise sum `z = x + y`.
 *
 * @param x (…) any shape
 * @param y (…) the same shape
 * @returns (…) the sum
 * @throws {TypeError} If the shapes differ
 */
export function add(x: Tensor, y: Tensor): Tensor {
  if (x.shape.join() !== y.shape.join()) {
    throw new TypeError(`Cannot add (${y.shape.join(", ")}) to (${x.shape.join(", ")})`);
  }
  const z = Tensor.empty(x.gpu, x.shape);
  runPointwise(kernel, x.gpu, { x, y, z }, x.size);
  return record(z, [x, y], (dz) => [dz, dz]);
}
