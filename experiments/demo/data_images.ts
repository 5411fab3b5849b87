// Image files as the demo's small pictures: each file is decoded once, a few at a time, and kept at the
// model's size only. The whole image is kept: scaled to fit, centred, black around it. A crop would cut
// what questions ask about; stretching would change the shapes they name.

import { readImage } from "../../lib/data/image.ts";
import { type Image, resizeBicubic } from "../../lib/data/resize.ts";
import { normalize, type Pixels } from "../../lib/data/transforms.ts";

/** Files decoded at the same time: more do not help, and each holds a full-size image. */
const AT_ONCE = 4;

/** Options of {@linkcode readPictures}. */
export interface ReadPictures {
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Reads every path that is named, each once.
 *
 * @param size side of the pictures in pixels
 * @returns (3, size, size) in [-1, 1] by path; 12 KB each at size 32
 * @throws {InputError} From the reader, of the first bad file in order
 * @throws The signal's reason, when it is aborted
 */
export async function readPictures(
  paths: Iterable<string>,
  size: number,
  { onProgress, signal }: ReadPictures = {},
): Promise<Map<string, Pixels>> {
  const unique = [...new Set(paths)];
  const pictures = new Map<string, Pixels>();
  for (let start = 0; start < unique.length; start += AT_ONCE) {
    signal?.throwIfAborted();
    const part = unique.slice(start, start + AT_ONCE);
    const read = await Promise.allSettled(part.map((path) => readImage(path)));
    read.forEach((outcome, i) => {
      if (outcome.status === "rejected") throw outcome.reason;
      pictures.set(part[i], fitInto(outcome.value, size));
    });
    onProgress?.(pictures.size, unique.length);
  }
  return pictures;
}

/** The whole image in a square: longer edge `size`, bicubic, centred on black (−1). */
export function fitInto(image: Image, size: number): Pixels {
  const scale = size / Math.max(image.width, image.height);
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  const small = normalize(resizeBicubic(image, width, height));
  const left = Math.floor((size - width) / 2), top = Math.floor((size - height) / 2);
  const data = new Float32Array(3 * size * size).fill(-1);
  for (let c = 0; c < 3; c++) {
    for (let row = 0; row < height; row++) {
      const from = (c * height + row) * width;
      data.set(small.data.subarray(from, from + width), (c * size + top + row) * size + left);
    }
  }
  return { height: size, width: size, data };
}
