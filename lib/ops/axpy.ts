// Sum with one side scaled, and the difference as its special case.

import code from "../../kernels/axpy.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";
import { scale } from "./unary.ts";

const kernel = new Kernel("axpy", { main: code });

/**
 * `z = a · x + y` for a number `a`.
 *
 * @param x (…)
 * @param y (…) the same shape
 * @returns (…)
 * @throws {TypeError} If the shapes differ
 */
export function axpy(a: number, x: Tensor, y: Tensor): Tensor {
  if (x.shape.join() !== y.shape.join()) {
    throw new TypeError(
      `Cannot add ${a} times (${x.shape.join(", ")}) to (${y.shape.join(", ")})`,
    );
  }
  const z = Tensor.empty(x.gpu, x.shape);
  runPointwise(kernel, x.gpu, { x, y, z }, x.size, { params: { a } });
  return record(z, [x, y], (dz, needs) => [needs[0] ? scale(dz, a) : null, dz]);
}

/**
 * Elementwise difference `z = x - y`.
 *
 * @param x (…)
 * @param y (…) the same shape
 * @returns (…)
 * @throws {TypeError} If the shapes differ
 */
export function sub(x: Tensor, y: Tensor): Tensor {
  if (x.shape.join() !== y.shape.join()) {
    throw new TypeError(`Cannot subtract (${y.shape.join(", ")}) from (${x.shape.join(", ")})`);
  }
  return axpy(-1, y, x);
}
