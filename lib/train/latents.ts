// Latents of a batch's images, as the flow loss and clean conditions need them: pixels in fixed patches, or the
// frozen autoencoder, one image at a time. (The reference pads images to one size and encodes them together, so
// that the padding changes their latents; using the model never does that.)

import { createHash } from "node:crypto";
import { noGrad } from "../autograd.ts";
import type { LatentCache, LatentMoments } from "../data/training/latent_cache.ts";
import { normalNoise } from "../data/noise.ts";
import type { PackedBatch } from "../data/pack.ts";
import { patchify } from "../data/patches.ts";
import type { Pixels } from "../data/transforms.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { latentSize, type UniMedVLConfig } from "../model/config.ts";
import { encodePixels } from "../model/latents.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";

/** Settings of {@link latentsOf}. */
export interface LatentsOptions {
  /** Where moments are kept between batches; its digest is {@link encoderDigest}. */
  cache?: LatentCache;
  /**
   * One key per VAE image, `LoadedBatch.imageKeys`: the posterior sample drawn with it is the same in whatever
   * batch the image is. Default: the posterior's mean.
   */
  keys?: readonly (readonly (number | string)[])[];
}

/**
 * Clean latents of every VAE token, in packed order: `(mean + exp(½ logvar) · ε − shift) · scale`, cut into tokens.
 *
 * @param autoencoder not needed where pixels are latents
 * @returns (N_vae, latent numbers)
 * @throws {TypeError} If the model needs an autoencoder and none is given, or keys are not one per image
 */
export async function latentsOf(
  { config }: { config: UniMedVLConfig },
  autoencoder: Autoencoder | undefined,
  packed: PackedBatch,
  { cache, keys }: LatentsOptions = {},
): Promise<Float32Array> {
  const { vaeImages, latentShapes } = packed;
  if (config.latent.kind === "pixels") return encodePixels(vaeImages, config);
  if (!autoencoder) throw new TypeError("Cannot make latents: the model's autoencoder is missing");
  if (keys && keys.length !== vaeImages.length) {
    throw new TypeError(
      `Cannot make latents: ${vaeImages.length} images have ${keys.length} keys`,
    );
  }
  const { scaleFactor: scale, shiftFactor: shift } = autoencoder.config;
  const out = new Float32Array(packed.vaeTokenIndexes.length * latentSize(config));
  const known = new Map<Pixels, LatentMoments>(); // noisy and clean copies are often one image
  let at = 0;
  for (const [i, image] of vaeImages.entries()) {
    const moments = known.get(image) ?? await momentsOf(autoencoder, image, cache);
    known.set(image, moments);
    const { mean, logvar, height, width } = moments;
    const noise = keys && normalNoise(mean.length, "posterior", ...keys[i]);
    const latents = mean.map((m, j) => {
      return ((noise ? m + Math.exp(0.5 * logvar[j]) * noise[j] : m) - shift) * scale;
    });
    const [rows, cols] = latentShapes[i];
    const tokens = patchify(latents, height, width, config.latentPatchSize, { rows, cols });
    out.set(tokens, at);
    at += tokens.length;
  }
  return out;
}

/** The moments of one image, from the cache if it has them. */
async function momentsOf(
  autoencoder: Autoencoder,
  image: Pixels,
  cache: LatentCache | undefined,
): Promise<LatentMoments> {
  const key = cache?.key(image);
  const kept = key === undefined ? undefined : await cache!.read(key);
  if (kept) return kept;
  const { mean, logvar } = tidy(() =>
    noGrad(() => {
      const shape = [1, 3, image.height, image.width];
      return autoencoder.encodeMoments(Tensor.from(autoencoder.gpu, image.data, shape));
    })
  );
  const [channels, height, width] = mean.shape.slice(1);
  const [m, v] = await readAll([mean, logvar]);
  mean.dispose();
  logvar.dispose();
  const moments = {
    channels,
    height,
    width,
    mean: m as Float32Array,
    logvar: v as Float32Array,
  };
  if (key !== undefined) await cache!.write(key, moments);
  return moments;
}

/**
 * SHA-256 of an encoder's sizes and weights, in hex: latents kept under it are those this encoder gives.
 * Reads all weights back, one at a time.
 */
export async function encoderDigest({ config, parameters }: Autoencoder): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(config));
  for (const [name, weight] of parameters.sub("encoder").entries()) {
    const [values] = await readAll([weight]);
    hash.update(`${name} ${weight.shape}\n`)
      .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}
