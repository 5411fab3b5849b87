// A tensor times a number, and a sum with one side scaled.

import axpyCode from "../../kernels/axpy.wgsl" with { type: "text" };
import scaleCode from "../../kernels/scale.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const scaleKernel = new Kernel("scale", { main: scaleCode });
const axpyKernel = new Kernel("axpy", { main: axpyCode });

function scaled(x: Tensor, s: number): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  runPointwise(scaleKernel, x.gpu, { x, y }, x.size, { params: { s } });
  return y;
}

/**
 * `y = s · x` for a number `s`.
 *
 * @param x (…)
 * @returns (…)
 */
export function scale(x: Tensor, s: number): Tensor {
  return record(scaled(x, s), [x], (dy) => [scaled(dy, s)]);
}

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
  runPointwise(axpyKernel, x.gpu, { x, y, z }, x.size, { params: { a } });
  return record(z, [x, y], (dz, needs) => [needs[0] ? scaled(dz, a) : null, dz]);
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
