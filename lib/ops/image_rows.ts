// Ranges of rows of channels-last images. A range is contiguous in memory, so that images larger than one
// binding of the adapter are worked on in bands.

import { isRecording, needsGrad } from "../autograd.ts";
import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Binding } from "../gpu/kernel.ts";
import type { Tensor } from "../tensor.ts";

/** Rows `from … to` (exclusive) of `images` images from number `image` on; of several images, all rows. */
export interface ImageRows {
  image: number;
  images: number;
  from: number;
  to: number;
}

/** Bindings start at multiples of this. */
const ALIGNMENT = 256;

/** Most bytes of one launch's images: a band is copied when it is normalized, and copies count. */
const BAND_BYTES = 2 ** 26;

/** Bytes of images that one launch works on, at most. */
export function bandBytes(gpu: Gpu): number {
  return Math.min(BAND_BYTES, gpu.maxBindingBytes);
}

/** All rows of all images of a (B, h, w, C) tensor. */
export function allRows(x: Tensor): ImageRows {
  return { image: 0, images: x.dim(0), from: 0, to: x.dim(1) };
}

/** How many rows. */
export function countRows({ images, from, to }: ImageRows): number {
  return images * (to - from);
}

/** The number of rows whose multiples a binding may start at: 1, 2, 4, 8 or 16. */
export function rowStep(rowBytes: number): number {
  return ALIGNMENT / Math.min(ALIGNMENT, rowBytes & -rowBytes);
}

/**
 * The binding of a range of rows.
 *
 * @param x (B, h, w, C), C a multiple of 4
 */
export function rowsBinding(x: Tensor, rows: ImageRows): Binding {
  const [images, h, w, C] = x.shape;
  const whole = countRows(rows) === images * h;
  if (whole && x.buffer.heldBytes <= x.gpu.maxBindingBytes) return x.buffer;
  const rowBytes = 4 * w * C;
  return {
    buffer: x.buffer,
    offset: (rows.image * h + rows.from) * rowBytes,
    sizeBytes: countRows(rows) * rowBytes,
  };
}

/**
 * Cuts images into ranges of rows of at most `most` bytes: all at once where they fit, else image by image.
 *
 * @param x (B, h, w, C), C a multiple of 4
 * @param what for messages: "normalize", say
 * @throws {ResourceError} If a row is larger than that, or an image starts where no binding can
 */
export function rowBands(x: Tensor, what: string, most = bandBytes(x.gpu)): ImageRows[] {
  const [images, h, w, C] = x.shape;
  const rowBytes = 4 * w * C;
  if (images * h * rowBytes <= most) return [allRows(x)];
  expectAlignedImages(x, what);
  const step = rowStep(rowBytes);
  const rows = Math.floor(most / rowBytes / step) * step;
  if (rows === 0) {
    throw new ResourceError(
      `Cannot ${what} (${x.shape.join(", ")}): ${step} rows take ${
        formatBytes(step * rowBytes)
      }, ` +
        `one binding of this adapter holds ${formatBytes(x.gpu.maxBindingBytes)}`,
      { help: "use narrower images" },
    );
  }
  const bands: ImageRows[] = [];
  for (let image = 0; image < images; image++) {
    for (let from = 0; from < h; from += rows) {
      bands.push({ image, images: 1, from, to: Math.min(h, from + rows) });
    }
  }
  return bands;
}

/**
 * @param bytes that each image has of what is bound. Default: its pixels
 * @throws {ResourceError} If there are several images and they do not all start where bindings may
 */
export function expectAlignedImages(
  x: Tensor,
  what: string,
  bytes = 4 * x.size / x.dim(0),
): void {
  if (x.dim(0) === 1 || bytes % ALIGNMENT === 0) return;
  throw new ResourceError(
    `Cannot ${what} (${x.shape.join(", ")}) in bands: an image takes ${bytes} bytes, ` +
      `no multiple of ${ALIGNMENT}`,
    { help: "give such images one at a time" },
  );
}

/**
 * Refuses what has to be bound whole and cannot be.
 *
 * @param what for the message: "convolve", say
 * @param bytes of the largest tensor
 * @param inputs what gradients would flow to. With these, only a call that records them is refused: bands have
 *   no gradient
 * @throws {ResourceError} If `bytes` exceed one binding
 */
export function expectOneBinding(
  x: Tensor,
  what: string,
  bytes: number,
  inputs?: readonly Tensor[],
): void {
  const most = x.gpu.maxBindingBytes;
  if (bytes <= most || (inputs && !(isRecording() && inputs.some(needsGrad)))) return;
  throw new ResourceError(
    `Cannot ${what} (${x.shape.join(", ")})${inputs ? " with gradients" : ""}: ` +
      `${formatBytes(bytes)} of pixels, one binding of this adapter holds ${formatBytes(most)}`,
    { help: `${inputs ? "use noGrad, or " : ""}fewer or smaller images at a time` },
  );
}
