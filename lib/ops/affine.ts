// A tensor times a number, plus a number.

import code from "../../kernels/affine.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("affine", { main: code });

/**
 * `y = a · x + b`.
 *
 * @param x (…) any shape
 * @param a factor
 * @param b summand. Default: 0
 * @returns (…) the same shape
 */
export function affine(x: Tensor, a: number, b = 0): Tensor {
  const y = Tensor.empty(x.gpu, x.shape);
  runPointwise(kernel, x.gpu, { x, y }, x.size, { params: { a, b } });
  return record(y, [x], (dy) => [affine(dy, a)]);
}
