// Pixels as latents: what takes the autoencoder's place in models too small to pay for one. A token is a
// square of pixels, times one scale for all. Lossless, nothing to train.

import { patchify, unpatchify } from "../data/patches.ts";
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
 * Latent tokens of images, one after the other.
 *
 * @param images (C, h, w) in [-1, 1]
 * @returns (tokens, p·p·C)
 * @throws {TypeError} If the model has an autoencoder
 */
export function encodePixels(images: readonly Pixels[], config: UniMedVLConfig): Float32Array {
  const { patchSize, scale } = pixelLatents(config);
  const parts = images.map(({ data, height, width }) => patchify(data, height, width, patchSize));
  const all = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return scale === 1 ? all : all.map((v) => v * scale);
}

/**
 * The image of `rows · columns` latent tokens, values clamped to [-1, 1].
 *
 * @param tokens (rows · columns, p·p·C)
 */
export function decodePixels(
  tokens: Float32Array,
  rows: number,
  columns: number,
  config: UniMedVLConfig,
): Pixels {
  const { patchSize, scale } = pixelLatents(config);
  if (tokens.length !== rows * columns * latentSize(config)) {
    throw new TypeError(`Cannot decode ${tokens.length} values as ${rows} × ${columns} tokens`);
  }
  const data = unpatchify(tokens, rows, columns, patchSize)
    .map((v) => Math.min(1, Math.max(-1, v / scale)));
  return { height: rows * patchSize, width: columns * patchSize, data };
}
