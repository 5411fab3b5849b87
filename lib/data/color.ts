// Colour conversion of decoded images. Images of data sets follow the reference's rule: an RGBA image,
// or one whose palette or key colour has transparency, is put on white; grey with alpha just loses its
// alpha. Pictures that a user names have one rule: whatever has alpha is put on white.

import type { Image } from "./resize.ts";

/**
 * (h, w, C) bytes with C = 1 grey, 2 grey + alpha, 3 RGB or 4 RGB + alpha → (h, w, 3).
 *
 * @param alpha what to do with C = 4: put the image on white, or drop the fourth channel
 * @throws {TypeError} If the data does not fill 1 to 4 channels
 */
export function toRgb(image: Image, alpha: "white" | "drop" = "white"): Image {
  const { width, height, data } = image;
  const pixels = width * height;
  const channels = data.length / pixels;
  if (![1, 2, 3, 4].includes(channels)) {
    throw new TypeError(
      `Cannot convert ${width}x${height} to RGB: ${data.length} bytes are not 1 to 4 channels`,
    );
  }
  const out = new Uint8Array(pixels * 3);
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) {
      const value = data[i * channels + (channels < 3 ? 0 : c)];
      out[i * 3 + c] = channels === 4 && alpha === "white"
        ? onWhite(value, data[i * 4 + 3])
        : value;
    }
  }
  return { width, height, data: out };
}

/** value·a + 255·(1 - a) for a = alpha / 255, in Pillow's integer arithmetic. */
export function onWhite(value: number, alpha: number): number {
  const sum = value * alpha + 255 * (255 - alpha) + 128;
  return ((sum >> 8) + sum) >> 8;
}

/**
 * 16-bit grey → 8 bits, linearly from [min, max] of the image onto [0, 255]. Scanners store 10 to
 * 12 bits in 16, so that the upper byte alone would be nearly black. A constant image keeps its
 * upper byte.
 */
export function stretch16(values: Uint16Array): Uint8Array {
  let [min, max] = [65535, 0];
  for (const v of values) {
    if (v < min) min = v;
    if (v > max) max = v;
  }
  const out = new Uint8Array(values.length);
  const scale = 255 / (max - min);
  for (let i = 0; i < values.length; i++) {
    out[i] = max > min ? Math.round((values[i] - min) * scale) : values[i] >> 8;
  }
  return out;
}
