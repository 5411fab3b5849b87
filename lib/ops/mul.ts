// Product of two tensors of one shape.

import code from "../../kernels/mul.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("mul", { main: code });

function product(x: Tensor, y: Tensor): Tensor {
  const z = Tensor.empty(x.gpu, x.shape);
  runPointwise(kernel, x.gpu, { x, y, z }, x.size);
  return z;
}

/**
 * Elementwise product `z = x · y`.
 *
 * @param x (…)
 * @param y (…) the same shape
 * @returns (…)
 * @throws {TypeError} If the shapes differ
 */
export function mul(x: Tensor, y: Tensor): Tensor {
  if (x.shape.join() !== y.shape.join()) {
    throw new TypeError(`Cannot multiply (${x.shape.join(", ")}) by (${y.shape.join(", ")})`);
  }
  return record(product(x, y), [x, y], (dz, needs) => [
    needs[0] ? product(dz, y) : null,
    needs[1] ? product(dz, x) : null,
  ]);
}
