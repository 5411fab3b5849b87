// Doubling an image by repeating pixels and a 3×3 convolution of the result, in one: every output pixel sees
// only 2×2 pixels of the small image, so that four 2×2 convolutions, one for each parity of row and column, take
// four ninths of the multiplications and no repeated pixel is stored (Shi et al. 2016, arXiv:1609.07009).

import interleaveCode from "../../kernels/interleave.wgsl" with { type: "text" };
import tapsCode from "../../kernels/upsample_taps.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { convSizes, padAll } from "./conv2d.ts";
import { type ConvBand, convBands, convWork } from "./conv2d_bands.ts";
import { convolveRows, gatherSizes, packConv, type PackedConv } from "./conv2d_launch.ts";
import { bandBytes, countRows, rowsBinding } from "./image_rows.ts";
import { finish, Held, type Steps } from "./steps.ts";

const taps = new Kernel("upsample_taps", { main: tapsCode });
const interleave = new Kernel("interleave", { main: interleaveCode });

/** Parities of row and column, in the order of the interleaved images. */
const PARITIES = [[0, 0], [0, 1], [1, 0], [1, 1]];

/**
 * `conv2d(upsampleNearest2(x), weight, bias)` with zeros around, up to rounding: weights are added up before they
 * are multiplied. Not differentiable.
 *
 * @param x (B, h, w, C), C a multiple of 4
 * @param weight (O, C, 3, 3), O a multiple of 4
 * @param bias (O)
 * @returns (B, 2h, 2w, O)
 * @throws {TypeError} If the shapes do not fit each other
 */
export function upsampleConvolve(x: Tensor, weight: Tensor, bias: Tensor): Tensor {
  const held = new Held();
  try {
    return held.release(finish(x.gpu, upsampleConvolveSteps(held, x, weight, bias)));
  } finally {
    held.end();
  }
}

/**
 * {@link upsampleConvolve} in steps, for images of any size.
 *
 * @param held takes the result in charge; `x` stays the caller's
 */
export function* upsampleConvolveSteps(
  held: Held,
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
): Steps<Tensor> {
  const { gpu } = x;
  const { images, inHeight: h, inWidth: w, C, O, kernel } = convSizes(x, weight, bias, {
    padding: padAll(1),
  });
  if (kernel !== 3 || C % 4 !== 0 || O % 4 !== 0) {
    throw new TypeError(
      `Cannot convolve (${x.shape.join(", ")}) at twice its size with weight ` +
        `(${weight.shape.join(", ")}): the kernel must be 3 × 3, channels multiples of 4`,
    );
  }
  const parts: { packed: PackedConv; bands: ConvBand[] }[] = [];
  for (const [down, right] of PARITIES) {
    const [top, left] = [1 - down, 1 - right];
    const size = { images, C, O, kernel: 2, stride: 1, top, left };
    const sizes = { ...size, inHeight: h, inWidth: w, outHeight: h, outWidth: w };
    const bands = convBands(gpu, gatherSizes(true, sizes), bandBytes(gpu), bandBytes(gpu) / 4);
    const summed = Tensor.empty(gpu, [O, C, 2, 2]);
    taps.run(gpu, {
      buffers: { weight: weight.buffer, y: summed.buffer },
      params: { n: O * C, down, right },
      grid: foldGrid(Math.ceil(O * C / 64)),
    });
    const packed = packConv("forward", summed, bias, sizes);
    summed.dispose();
    held.hold(packed.weight);
    parts.push({ packed, bands });
  }
  const y = held.hold(Tensor.empty(gpu, [images, 2 * h, 2 * w, O]));
  for (let band = 0; band < parts[0].bands.length; band++) {
    const { target } = parts[0].bands[band]; // the same for all parities
    const quarters: Tensor[] = [];
    for (const { packed, bands } of parts) {
      const quarter = Tensor.empty(gpu, [target.images, target.to - target.from, w, O]);
      quarters.push(held.hold(quarter));
      const from = { images: x, rows: bands[band].source };
      convolveRows(packed, from, { images: quarter, rows: target, copied: true });
      yield convWork(packed.sizes, countRows(target));
    }
    const n = quarters[0].size / 4;
    const [x_00, x_01, x_10, x_11] = quarters.map((t) => t.buffer);
    const doubled = { ...target, from: 2 * target.from, to: 2 * target.to };
    interleave.run(gpu, {
      buffers: { x_00, x_01, x_10, x_11, y: rowsBinding(y, doubled) },
      params: { n, width: w, quads: O / 4 },
      grid: foldGrid(Math.ceil(n / 64)),
    });
    for (const quarter of quarters) held.drop(quarter);
  }
  for (const { packed } of parts) held.drop(packed.weight);
  return y;
}
