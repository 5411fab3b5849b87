// Large pictures are reduced to at most MAX_PIXELS while they are read: by whole factors, so that
// one new pixel stands for k x k old ones.

import { type Image, resizeBicubic } from "./resize.ts";

/** Most pixels of a picture after reading. */
export const MAX_PIXELS = 20_000_000;

/** The size of a picture of at most 10⁹ pixels, reduced by the smallest whole factor that leaves MAX_PIXELS. */
export function reducedSize(width: number, height: number): { width: number; height: number } {
  let k = Math.max(1, Math.floor(Math.sqrt(width * height / MAX_PIXELS)));
  const part = (n: number) => Math.ceil(n / k);
  while (part(width) * part(height) > MAX_PIXELS) k++;
  return { width: part(width), height: part(height) };
}

/**
 * An image of any number of channels, reduced if it has more than MAX_PIXELS.
 *
 * @param notes gets a line if it was
 */
export function reduceImage(image: Image, notes: string[]): Image {
  const { width, height } = reducedSize(image.width, image.height);
  if (width === image.width && height === image.height) return image;
  notes.push(reductionNote(image, { width, height }));
  return resizeBicubic(image, width, height);
}

/** "reduced from 9000x8000 to 4500x4000". */
export function reductionNote(
  from: { width: number; height: number },
  to: { width: number; height: number },
): string {
  return `reduced from ${from.width}x${from.height} to ${to.width}x${to.height}`;
}
