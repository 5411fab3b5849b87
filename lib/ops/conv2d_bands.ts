// Cuts a convolution into bands of output rows, each with the input rows it reads. Zeros are padded at an
// image's true borders only, so that the bands together are the convolution bit for bit.

import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { type ImageRows, rowStep } from "./image_rows.ts";

/** A gathering product, forward or backward: what the kernels know of it. Channels count in fours. */
export interface GatherSizes {
  images: number;
  inHeight: number;
  inWidth: number;
  inQuads: number;
  outHeight: number;
  outWidth: number;
  outQuads: number;
  /** Taps along a side. */
  kernel: number;
  /** Input row = (multiply · output row + direction · tap + top) / divide, if whole and inside. */
  multiply: number;
  divide: number;
  direction: number;
  top: number;
  left: number;
}

/** Output rows and the input rows they are made of. */
export interface ConvBand {
  source: ImageRows;
  target: ImageRows;
}

/**
 * Multiply-adds of one launch, at most: some seconds' share of a slow adapter, and far from the two seconds
 * after which drivers end a launch on a display's GPU.
 */
export const MOST_WORK = 2 ** 33;

/** Multiply-adds of so many output rows. */
export function convWork(s: GatherSizes, rows: number): number {
  return rows * s.outWidth * 16 * s.inQuads * s.outQuads * s.kernel * s.kernel;
}

/**
 * The bands, in order; one for all images where they fit the bytes and {@link MOST_WORK}.
 *
 * @param most bytes of the source of one band
 * @param mostOut bytes of its target. Default: as many
 * @throws {ResourceError} If even the fewest rows do not fit
 */
export function convBands(
  gpu: Gpu,
  s: GatherSizes,
  most: number,
  mostOut = most,
): ConvBand[] {
  const [inRow, outRow] = [16 * s.inWidth * s.inQuads, 16 * s.outWidth * s.outQuads];
  const [inStep, outStep] = [rowStep(inRow), rowStep(outRow)];
  const fits = s.images * s.inHeight * inRow <= most && s.images * s.outHeight * outRow <= mostOut;
  const aligned = s.images === 1 ||
    (s.inHeight % inStep === 0 && s.outHeight % outStep === 0);
  const light = convWork(s, s.images * s.outHeight) <= MOST_WORK;
  if (fits && (light || !aligned)) {
    return [{
      source: { image: 0, images: s.images, from: 0, to: s.inHeight },
      target: { image: 0, images: s.images, from: 0, to: s.outHeight },
    }];
  }
  const named = `(${s.images}, ${s.inHeight}, ${s.inWidth}, ${4 * s.inQuads})`;
  if (!aligned) {
    throw new ResourceError(
      `Cannot convolve ${named} in bands: images do not start at multiples of 256 bytes`,
      { help: "give such images one at a time" },
    );
  }
  const source = (image: number, from: number, to: number): ImageRows => {
    const [low, high] = s.direction > 0 ? [0, s.kernel - 1] : [1 - s.kernel, 0];
    const first = Math.floor((s.multiply * from + s.top + low) / s.divide);
    const last = Math.floor((s.multiply * (to - 1) + s.top + high) / s.divide);
    const start = Math.min(Math.max(first, 0), s.inHeight - 1);
    return {
      image,
      images: 1,
      from: Math.floor(start / inStep) * inStep,
      to: Math.max(start + 1, Math.min(last + 1, s.inHeight)),
    };
  };
  const fit = (rows: number) => {
    const span = Math.ceil((s.multiply * (rows - 1) + s.kernel - 1) / s.divide) + inStep;
    return rows * outRow <= mostOut && Math.min(s.inHeight, span) * inRow <= most;
  };
  const byWork = Math.floor(MOST_WORK / convWork(s, 1) / outStep) * outStep;
  let rows = Math.max(outStep, Math.min(byWork, Math.floor(mostOut / outRow / outStep) * outStep));
  while (rows > outStep && !fit(rows)) rows -= outStep;
  if (!fit(rows)) {
    throw new ResourceError(
      `Cannot convolve ${named}: ${rows} rows with their neighbours do not fit ${
        formatBytes(most)
      }, ` +
        `one binding of this adapter holds ${formatBytes(gpu.maxBindingBytes)}`,
      { help: "use narrower images" },
    );
  }
  const count = Math.ceil(s.outHeight / rows); // bands of about one size
  rows = Math.ceil(s.outHeight / count / outStep) * outStep;
  const bands: ConvBand[] = [];
  for (let image = 0; image < s.images; image++) {
    for (let from = 0; from < s.outHeight; from += rows) {
      const to = Math.min(s.outHeight, from + rows);
      bands.push({
        source: source(image, from, to),
        target: { image, images: 1, from, to },
      });
    }
  }
  return bands;
}
