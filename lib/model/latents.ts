// Pixels as latents: what takes the autoencoder's place in models too small to pay for one. A token is a
// square of pixels: brightness as it is, colour averaged over blocks, so that a token has fewer numbers than
// the decoder's width (a wider token could not carry its own noise through). Nothing to train.

import type { Pixels } from "../data/transforms.ts";
import { type LatentConfig, latentSize, type UniMedVLConfig } from "./config.ts";

type PixelLatents = Extract<LatentConfig, { kind: "pixels" }>;

function pixelLatents(config: UniMedVLConfig): PixelLatents {
  if (config.latent.kind === "pixels") return config.latent;
  throw new TypeError(
    "Cannot take pixels as latents: this model's latents come from an autoencoder",
  );
}

/**
 * Latent tokens of images, one after the other. With `y = (r + g + b) / 3`, `u = (r − b) / 2` and
 * `v = (2g − r − b) / 4`, a token is `scale · y` of its p·p pixels row by row, then `colorScale · (u, v)` of
 * its c·c colour blocks.
 *
 * @param images (3, h, w) in [-1, 1]
 * @returns (tokens, p·p + 2·c·c)
 * @throws {TypeError} If the model has an autoencoder, or an image is not of whole tokens
 */
export function encodePixels(images: readonly Pixels[], config: UniMedVLConfig): Float32Array {
  const { patchSize: p, colorSide: c, scale, colorScale } = pixelLatents(config);
  const width = latentSize(config);
  const counts = images.map(({ height, width: w }) => {
    if (height % p === 0 && w % p === 0) return (height / p) * (w / p);
    throw new TypeError(`Cannot take a ${height}x${w} image as latents: sides must divide by ${p}`);
  });
  const out = new Float32Array(counts.reduce((a, b) => a + b, 0) * width);
  const share = colorScale * (c / p) ** 2; // of one pixel in its colour block
  let token = 0;
  for (const { data, height, width: w } of images) {
    const area = height * w;
    for (let row = 0; row < height / p; row++) {
      for (let column = 0; column < w / p; column++, token++) {
        const base = token * width;
        for (let y = 0; y < p; y++) {
          for (let x = 0; x < p; x++) {
            const at = (row * p + y) * w + column * p + x;
            const r = data[at], g = data[area + at], b = data[2 * area + at];
            const block = base + p * p + 2 * blockOf(y, x, p, c);
            out[base + y * p + x] = scale * (r + g + b) / 3;
            out[block] += share * (r - b) / 2;
            out[block + 1] += share * (2 * g - r - b) / 4;
          }
        }
      }
    }
  }
  return out;
}

/**
 * The image of `rows · columns` latent tokens, values clamped to [-1, 1].
 *
 * @param tokens (rows · columns, p·p + 2·c·c)
 */
export function decodePixels(
  tokens: Float32Array,
  rows: number,
  columns: number,
  config: UniMedVLConfig,
): Pixels {
  const { patchSize: p, colorSide: c, scale, colorScale } = pixelLatents(config);
  const width = latentSize(config);
  if (tokens.length !== rows * columns * width) {
    throw new TypeError(`Cannot decode ${tokens.length} values as ${rows} × ${columns} tokens`);
  }
  const w = columns * p, area = rows * p * w;
  const data = new Float32Array(3 * area);
  const clamp = (v: number) => Math.min(1, Math.max(-1, v));
  for (let at = 0; at < area; at++) {
    const row = Math.floor(at / w), column = at % w;
    const base = (Math.floor(row / p) * columns + Math.floor(column / p)) * width;
    const y = tokens[base + (row % p) * p + column % p] / scale;
    const block = base + p * p + 2 * blockOf(row % p, column % p, p, c);
    const u = tokens[block] / colorScale, v = tokens[block + 1] / colorScale;
    data[at] = clamp(y + u - (2 * v) / 3);
    data[area + at] = clamp(y + (4 * v) / 3);
    data[2 * area + at] = clamp(y - u - (2 * v) / 3);
  }
  return { height: rows * p, width: w, data };
}

function blockOf(y: number, x: number, p: number, c: number): number {
  return Math.floor((y * c) / p) * c + Math.floor((x * c) / p);
}
