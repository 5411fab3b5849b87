// Two-dimensional convolution and its three gradients, as implicit matrix products over channels-last
// images. Tuned kernels and their choice are in conv2d_launch.ts.

import { record } from "../autograd.ts";
import type { Tensor } from "../tensor.ts";
import { chunkSums } from "./chunk_sums.ts";
import { columns } from "./columns.ts";
import { type ConvSizes, gather, weightGradient } from "./conv2d_launch.ts";
import { expectOneBinding } from "./image_rows.ts";

/** Zeros added around an image, in pixels. */
export interface Padding {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** How a convolution moves over the image. */
export interface ConvOptions {
  /** Step in pixels, both ways. Default: 1. */
  stride?: 1 | 2;
  /** Zeros around the image. Default: none. */
  padding?: Padding;
}

/** The same padding on every side. */
export function padAll(pixels: number): Padding {
  return { left: pixels, right: pixels, top: pixels, bottom: pixels };
}

/**
 * Convolution (cross-correlation, as in PyTorch):
 * `y[b, i, j, o] = bias_o + Σ_{c, u, v} x[b, s·i + u - top, s·j + v - left, c] · weight[o, c, u, v]`.
 *
 * @param x (B, h, w, C) channels last
 * @param weight (O, C, k, k) as stored in checkpoints
 * @param bias (O)
 * @returns (B, h', w', O) with `h' = ⌊(h + top + bottom - k) / s⌋ + 1`
 * @throws {TypeError} If the shapes do not fit each other
 * @throws {RangeError} If the padded image is smaller than the kernel
 * @throws {ResourceError} If gradients are recorded and an image batch is larger than one binding of the
 *   adapter; without them it is worked on in bands of rows
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  options: ConvOptions = {},
): Tensor {
  const sizes = convSizes(x, weight, bias, options);
  const { images, inHeight, inWidth, outHeight, outWidth, C, O } = sizes;
  const larger = Math.max(
    inHeight * inWidth * Math.ceil(C / 4),
    outHeight * outWidth * Math.ceil(O / 4),
  );
  expectOneBinding(x, "convolve", 16 * images * larger, [x, weight, bias]);
  const even = toQuads(x, C);
  const wide = gather("forward", even, weight, bias, sizes);
  const y = O % 4 === 0 ? wide : columns(wide, 0, O);
  if (even !== x) even.dispose();
  if (y !== wide) wide.dispose();

  return record(y, [x, weight, bias], (dy, needs) => {
    const dyEven = toQuads(dy, O);
    let dx: Tensor | null = null;
    let dweight: Tensor | null = null;
    let dbias: Tensor | null = null;
    if (needs[0]) {
      const wideDx = gather("backward", dyEven, weight, weight, sizes);
      dx = C % 4 === 0 ? wideDx : columns(wideDx, 0, C);
    }
    if (needs[1]) dweight = weightGradient(toQuads(x, C), dyEven, sizes);
    if (needs[2]) {
      const width = dyEven.dim(-1);
      const sums = chunkSums(dyEven, 1, dyEven.size / width, width);
      dbias = columns(sums, 0, O).alias([O]);
    }
    return [dx, dweight, dbias];
  });
}

/** Pads the channels with zeros to a multiple of 4, the unit in which kernels read; `x` itself if it is one. */
export function toQuads(x: Tensor, channels: number): Tensor {
  return channels % 4 === 0 ? x : columns(x, 0, 4 * Math.ceil(channels / 4));
}

/**
 * Sizes of a convolution.
 *
 * @throws {TypeError} If the shapes do not fit each other
 * @throws {RangeError} If the padded image is smaller than the kernel
 */
export function convSizes(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  options: ConvOptions,
): ConvSizes {
  const named = `(${x.shape.join(", ")}) with weight (${weight.shape.join(", ")})`;
  if (x.shape.length !== 4 || weight.shape.length !== 4) {
    throw new TypeError(`Cannot convolve ${named}: both need four axes`);
  }
  const [images, inHeight, inWidth, C] = x.shape;
  const [O, weightC, kernel, kernelWidth] = weight.shape;
  if (kernel !== kernelWidth) {
    throw new TypeError(`Cannot convolve ${named}: the kernel is not square`);
  }
  if (weightC !== C) {
    throw new TypeError(
      `Cannot convolve ${named}: ${C} channels, but the weight is for ${weightC}`,
    );
  }
  if (bias.shape.join() !== `${O}`) {
    throw new TypeError(`Cannot convolve ${named}: bias is (${bias.shape.join(", ")}), not (${O})`);
  }
  const stride = options.stride ?? 1;
  const { left, right, top, bottom } = options.padding ?? padAll(0);
  const outHeight = Math.floor((inHeight + top + bottom - kernel) / stride) + 1;
  const outWidth = Math.floor((inWidth + left + right - kernel) / stride) + 1;
  if (outHeight < 1 || outWidth < 1) {
    throw new RangeError(
      `Cannot convolve ${named}: the padded image is smaller than the kernel`,
    );
  }
  return { images, inHeight, inWidth, outHeight, outWidth, C, O, kernel, stride, left, top };
}
