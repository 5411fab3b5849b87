// The joint norm of many gradients and the factor that clips it, both left on the device.

import code from "../../kernels/clip_scale.wgsl" with { type: "text" };
import { Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { reduce, TERMS } from "./reduce.ts";

const kernel = new Kernel("clip_scale", { main: code });

const NAN_BITS = 0x7fc00000;
const LARGEST = 3.4028234663852886e38;

/**
 * `Σ x²` over all values of all tensors, in a fixed order: the square of their joint norm. Not
 * differentiable.
 *
 * @param xs at least one tensor, any shapes
 * @returns (1); not finite if any value is not, or if the sum exceeds f32 (a norm over 1.8·10¹⁹)
 * @throws {RangeError} If there are no tensors
 */
export function sumSquares(xs: readonly Tensor[]): Tensor {
  if (xs.length === 0) throw new RangeError("Cannot take the norm of no tensors");
  return reduce(xs, TERMS.square);
}

/**
 * The factor that brings a norm down to at most `maxNorm`: `min(1, maxNorm / (norm + 10⁻⁶))`. It is not
 * a number when the norm is not finite; an update with such a factor does nothing. Not
 * differentiable.
 *
 * @param squares (1) the norm squared, from {@link sumSquares}
 * @param maxNorm above 0; infinite never clips
 * @returns (1)
 * @throws {RangeError} If `maxNorm` is not above 0
 */
export function clipScale(squares: Tensor, maxNorm: number): Tensor {
  if (!(maxNorm > 0)) throw new RangeError(`Cannot clip to norm ${maxNorm}: it must be above 0`);
  const { gpu } = squares;
  const factor = Tensor.empty(gpu, [1]);
  kernel.run(gpu, {
    buffers: { squares: squares.buffer, factor: factor.buffer },
    params: { largest: Math.min(maxNorm, LARGEST), nan: NAN_BITS },
    grid: [1],
  });
  return factor;
}
