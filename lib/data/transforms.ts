// From a decoded image to what the two encoders take: the size rule, bicubic resize and the scaling
// to [-1, 1]. Presets are the settings the reference was trained and run with.

import { type Image, resizeBicubic } from "./resize.ts";

/** Settings of the size rule, in pixels. */
export interface SizeRule {
  /** Longest edge allowed. */
  max: number;
  /** Shortest edge wanted; gives way to `max`. */
  min: number;
  /** Both edges become multiples of this. */
  stride: number;
  /** Area allowed for all images of a sample together. */
  maxPixels: number;
}

/** The area limit where none is configured: 14·14·9·1024. */
export const DEFAULT_MAX_PIXELS = 1_806_336;

/** The reference's settings, by use. */
export const SIZE_RULES = {
  /** Training: text to image, editing. */
  trainVae: { max: 1024, min: 512, stride: 16, maxPixels: DEFAULT_MAX_PIXELS },
  /** Training: ViT conditions of editing. */
  trainEditVit: { max: 518, min: 224, stride: 14, maxPixels: DEFAULT_MAX_PIXELS },
  /** Training on questions and answers; asking and answering. */
  trainVit: { max: 980, min: 378, stride: 14, maxPixels: 2_007_040 },
  /** BAGEL's demo. */
  bagelVae: { max: 1024, min: 512, stride: 16, maxPixels: DEFAULT_MAX_PIXELS },
  bagelVit: { max: 980, min: 224, stride: 14, maxPixels: DEFAULT_MAX_PIXELS },
  /** UniMedVL's generator. */
  unimedvlVae: { max: 1024, min: 32, stride: 16, maxPixels: DEFAULT_MAX_PIXELS },
  unimedvlVit: { max: 980, min: 387, stride: 14, maxPixels: DEFAULT_MAX_PIXELS },
} as const satisfies Record<string, SizeRule>;

/** Rounds to the nearest integer, halves to the even one. */
function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/**
 * The size an image of `width` × `height` is resized to. Three steps, each ending in multiples of
 * the stride: into [min, max]; under maxPixels / imageCount; under max again, which wins over min.
 *
 * The second step multiplies both edges by the ratio of the *areas*, not its root, and so shrinks
 * more than needed. The reference does this, and weights were trained with it.
 *
 * @param imageCount images in the sample, which share `maxPixels`
 * @throws {RangeError} If a size is not positive
 */
export function targetSize(
  width: number,
  height: number,
  rule: SizeRule,
  imageCount = 1,
): { width: number; height: number } {
  if (!(width >= 1 && height >= 1 && imageCount >= 1)) {
    throw new RangeError(
      `Cannot size ${imageCount} images of ${width}x${height}: all must be at least 1`,
    );
  }
  const divisible = (v: number) =>
    Math.max(rule.stride, roundHalfEven(v / rule.stride) * rule.stride);
  const scaled = (w: number, h: number, s: number) => [
    divisible(roundHalfEven(w * s)),
    divisible(roundHalfEven(h * s)),
  ];
  const into = Math.min(rule.max / Math.max(width, height), 1);
  let [w, h] = scaled(width, height, Math.max(into, rule.min / Math.min(width, height)));
  const area = rule.maxPixels / imageCount;
  if (w * h > area) [w, h] = scaled(w, h, area / (w * h));
  if (Math.max(w, h) > rule.max) [w, h] = scaled(w, h, rule.max / Math.max(w, h));
  return { width: w, height: h };
}

/** Resizes by a rule: {@link targetSize}, then bicubic. */
export function resizeByRule(image: Image, rule: SizeRule, imageCount = 1): Image {
  const { width, height } = targetSize(image.width, image.height, rule, imageCount);
  return resizeBicubic(image, width, height);
}

/** An image for an encoder: (C, h, w), values in [-1, 1]. */
export interface Pixels {
  height: number;
  width: number;
  data: Float32Array;
}

/** (h, w, C) bytes → (C, h, w) in [-1, 1]: (v / 255 - 0.5) / 0.5, each step rounded to f32. */
export function normalize(image: Image): Pixels {
  const { width, height } = image;
  const area = width * height;
  const channels = image.data.length / area;
  const table = Float32Array.from(
    { length: 256 },
    (_, v) => Math.fround(Math.fround(v / 255) - 0.5) / 0.5,
  );
  const data = new Float32Array(image.data.length);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < area; i++) data[c * area + i] = table[image.data[i * channels + c]];
  }
  return { height, width, data };
}

/**
 * (C, h, w) in [-1, 1] → (h, w, C) bytes: clamp(x/2 + 1/2, 0, 1) · 255, truncated, which is how
 * the reference stores its pictures.
 */
export function denormalize({ height, width, data }: Pixels): Image {
  const area = width * height;
  const channels = data.length / area;
  const out = new Uint8Array(data.length);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < area; i++) {
      const x = Math.fround(data[c * area + i] * 0.5 + 0.5);
      out[i * channels + c] = Math.fround(Math.min(Math.max(x, 0), 1) * 255);
    }
  }
  return { width, height, data: out };
}

/** The ViT's input for an image: resized by the rule and normalised, (3, h, w). */
export function vitTransform(
  image: Image,
  rule: SizeRule = SIZE_RULES.trainVit,
  imageCount = 1,
): Pixels {
  return normalize(resizeByRule(image, rule, imageCount));
}

/** The VAE's input for an image; the same steps under its own rule. */
export function vaeTransform(
  image: Image,
  rule: SizeRule = SIZE_RULES.trainVae,
  imageCount = 1,
): Pixels {
  return normalize(resizeByRule(image, rule, imageCount));
}
