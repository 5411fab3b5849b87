// Turning, mirroring and slicing are one walk: from a first pixel, one step across, one step down.

import type { Image } from "./resize.ts";

/** Steps through pixels or voxels, counted in them. */
export interface Walk {
  width: number;
  height: number;
  /** The first one. */
  start: number;
  /** From one column to the next. */
  across: number;
  /** From one row to the next. */
  down: number;
}

/** The (height, width, channels) values that a walk meets. */
export function follow<T extends NumberArray>(values: T, walk: Walk, channels: number): T {
  const { width, height, start, across, down } = walk;
  const Values = values.constructor as new (length: number) => T;
  const out = new Values(width * height * channels);
  for (let y = 0, i = 0; y < height; y++) {
    let at = (start + y * down) * channels;
    for (let x = 0; x < width; x++, at += across * channels) {
      for (let c = 0; c < channels; c++) out[i++] = values[at + c];
    }
  }
  return out;
}

/** Typed arrays of numbers. */
export type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/**
 * An image as it is to be shown, by its EXIF orientation: 1 as it is, 2 mirrored, 3 turned by 180°,
 * 4 upside down, 5 mirrored on the main diagonal, 6 turned clockwise, 7 mirrored on the other
 * diagonal, 8 turned anticlockwise. Other numbers count as 1.
 */
export function orient(image: Image, orientation: number): Image {
  const { width: w, height: h, data } = image;
  const [topRight, bottomLeft, bottomRight] = [w - 1, w * (h - 1), w * h - 1];
  const steps = [
    [topRight, -1, w],
    [bottomRight, -1, -w],
    [bottomLeft, 1, -w],
    [0, w, 1],
    [bottomLeft, -w, 1],
    [bottomRight, -w, -1],
    [topRight, w, -1],
  ][orientation - 2];
  if (!steps) return image;
  const [start, across, down] = steps;
  const [width, height] = orientation > 4 ? [h, w] : [w, h];
  const walk = { width, height, start, across, down };
  return { width, height, data: follow(data, walk, data.length / (w * h)) };
}
