// Sums of all values of a tensor, plain, weighted or averaged.

import broadcastCode from "../../kernels/broadcast.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import { Tensor } from "../tensor.ts";
import { mul } from "./mul.ts";
import { reduce, TERMS } from "./reduce.ts";

const broadcast = new Kernel("broadcast", { main: broadcastCode });

function scaledSum(x: Tensor, s: number): Tensor {
  const y = reduce([x], TERMS.value, s);
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(x.gpu, x.shape);
    runPointwise(broadcast, x.gpu, { y: dx }, x.size, { params: { s }, scalars: { x: dy } });
    return [dx];
  });
}

/**
 * Sum of all values, always in the same order.
 *
 * @param x (…)
 * @returns (1)
 */
export function sum(x: Tensor): Tensor {
  return scaledSum(x, 1);
}

/**
 * Mean of all values.
 *
 * @param x (…)
 * @returns (1)
 * @throws {RangeError} If there are none
 */
export function mean(x: Tensor): Tensor {
  if (x.size === 0) throw new RangeError("Cannot take the mean of no values");
  return scaledSum(x, 1 / x.size);
}

/**
 * `Σ x · w`.
 *
 * @param x (…)
 * @param w (…) the same shape
 * @returns (1)
 * @throws {TypeError} If the shapes differ
 */
export function weightedSum(x: Tensor, w: Tensor): Tensor {
  return sum(mul(x, w));
}
