// Convolution in steps and without gradients, for images of any size: in bands of rows, the input normalized
// band by band on the way, the result added where it belongs. What an image needs beside input and output is
// bounded by a band.

import { Tensor } from "../tensor.ts";
import { columns } from "./columns.ts";
import { type ConvOptions, convSizes, toQuads } from "./conv2d.ts";
import { convBands, convWork } from "./conv2d_bands.ts";
import { convolveRows, gatherSizes, packConv } from "./conv2d_launch.ts";
import { expectGroups, groupStatistics, normalizeRows } from "./group_norm.ts";
import { bandBytes, countRows } from "./image_rows.ts";
import type { Held, Steps } from "./steps.ts";

/** Group normalization of a convolution's input, into 32 groups, then swish. */
export interface NormWeights {
  weight: Tensor;
  bias: Tensor;
}

/** Options of {@link convolveSteps}. */
export interface ConvStepsOptions extends ConvOptions {
  /** Convolves `swish(groupNorm(x))` instead of `x`. */
  norm?: NormWeights;
  /** Adds the result to this tensor, which is returned. Default: a new one. */
  into?: Tensor;
}

/**
 * What `conv2d` computes, bit for bit.
 *
 * @param held takes the result in charge; `x` stays the caller's
 * @param x (B, h, w, C) channels last; several images together must fit `bandBytes`, with `norm` C is a
 *   multiple of 32
 * @param weight (O, C, k, k)
 * @param bias (O)
 * @returns (B, h', w', O)
 * @throws {TypeError} If the shapes do not fit each other
 * @throws {ResourceError} If a few rows are larger than one binding of the adapter
 */
export function* convolveSteps(
  held: Held,
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  { norm, into, ...options }: ConvStepsOptions = {},
): Steps<Tensor> {
  const { gpu } = x;
  const sizes = convSizes(x, weight, bias, options);
  const shape = [sizes.images, sizes.outHeight, sizes.outWidth];
  const whole = [...shape, sizes.O];
  if (into && (into.shape.join() !== whole.join() || sizes.O % 4 !== 0)) {
    throw new TypeError(
      `Cannot add a convolution of (${whole.join(", ")}) to (${into.shape.join(", ")}): ` +
        "shapes must agree, channels be a multiple of 4",
    );
  }
  if (norm) expectGroups(x, norm.weight, norm.bias, 32);
  const bands = convBands(gpu, gatherSizes(true, sizes), bandBytes(gpu));
  const even = toQuads(x, sizes.C);
  if (even !== x) held.hold(even);
  const packed = packConv("forward", weight, bias, sizes);
  held.hold(packed.weight);
  const width = 4 * packed.sizes.outQuads;
  const y = into ?? held.hold(Tensor.empty(gpu, [...shape, width]));
  const stats = norm ? held.hold(groupStatistics(x)) : undefined;
  for (const { source, target } of bands) {
    const to = { images: y, rows: target };
    if (norm && stats) {
      const rows = [source.images, source.to - source.from, sizes.inWidth, sizes.C];
      const copy = held.hold(Tensor.empty(gpu, rows));
      normalizeRows(x, source, { ...norm, stats, swish: true }, { images: copy, copied: true });
      convolveRows(packed, { images: copy, rows: source, copied: true }, to, into !== undefined);
      held.drop(copy);
    } else convolveRows(packed, { images: even, rows: source }, to, into !== undefined);
    yield convWork(packed.sizes, countRows(target));
  }
  for (const spent of [packed.weight, stats, even]) if (spent && spent !== x) held.drop(spent);
  if (width === sizes.O) return y;
  const cropped = held.hold(columns(y, 0, sizes.O));
  held.drop(y);
  return cropped;
}
