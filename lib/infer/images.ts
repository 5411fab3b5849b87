// Images on their way into a context and out of it: latents of an image, an image of latents.

import { patchify, unpatchify } from "../data/patches.ts";
import type { Pixels } from "../data/transforms.ts";
import { UsageError } from "../errors.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { latentStride } from "../model/config.ts";
import { decodePixels, encodePixels } from "../model/latents.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import type { StepsOptions } from "../ops/steps.ts";
import { Tensor } from "../tensor.ts";
import type { Block } from "./pass.ts";

/** How long work on an image may be watched and stopped. */
export interface ImageWork {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Rows and columns of latent tokens of an image of this size. @throws {UsageError} If it is not of whole tokens */
export function latentGrid(
  model: UniMedVL,
  height: number,
  width: number,
): { rows: number; columns: number } {
  const stride = latentStride(model.config);
  const most = stride * model.config.maxLatentSize;
  const fits = (side: number) => side >= stride && side <= most && side % stride === 0;
  if (fits(height) && fits(width)) return { rows: height / stride, columns: width / stride };
  throw new UsageError(`Cannot make an image of ${width}×${height}`, {
    help: `both sides must be multiples of ${stride} from ${stride} to ${most} pixels`,
  });
}

const steps = ({ signal, onProgress }: ImageWork): StepsOptions => ({
  signal,
  onProgress: onProgress && (({ done, total }) => onProgress(done, total)),
});

function needAutoencoder(autoencoder: Autoencoder | undefined): Autoencoder {
  if (autoencoder) return autoencoder;
  throw new TypeError(
    "Cannot convert images: this model needs its autoencoder, which is not loaded",
  );
}

/**
 * Clean latents of an image as a block to read.
 *
 * @param image (3, h, w) in [-1, 1], sides of whole latent tokens
 * @param noise standard normal numbers for the posterior sample, (1, z, h/f, w/f), as the reference draws
 *   them; `null` takes the mean
 */
export async function latentBlock(
  model: UniMedVL,
  autoencoder: Autoencoder | undefined,
  image: Pixels,
  noise: Float32Array | null,
  work: ImageWork = {},
): Promise<Extract<Block, { kind: "latents" }>> {
  work.signal?.throwIfAborted();
  const { config } = model;
  const { rows, columns } = latentGrid(model, image.height, image.width);
  if (config.latent.kind === "pixels") {
    return { kind: "latents", tokens: encodePixels([image], config), rows, columns, t: 0 };
  }
  const vae = needAutoencoder(autoencoder);
  const { downsample, zChannels } = vae.config;
  const shape = [1, zChannels, image.height / downsample, image.width / downsample];
  const pixels = Tensor.from(model.gpu, image.data, [1, 3, image.height, image.width]);
  const drawn = noise && Tensor.from(model.gpu, noise, shape);
  let latents: Tensor;
  try {
    latents = await vae.encodeAsync(pixels, drawn, steps(work));
  } finally {
    pixels.dispose();
    drawn?.dispose();
  }
  const plane = await latents.floats();
  latents.dispose();
  const grid = { rows, cols: columns };
  const tokens = patchify(plane, shape[2], shape[3], config.latentPatchSize, grid);
  return { kind: "latents", tokens, rows, columns, t: 0 };
}

/** Numbers of noise that {@link latentBlock} takes for an image of this size; 0 when latents are pixels. */
export function posteriorSize(model: UniMedVL, height: number, width: number): number {
  const { latent } = model.config;
  if (latent.kind === "pixels") return 0;
  const { downsample, zChannels } = latent.autoencoder;
  return zChannels * (height / downsample) * (width / downsample);
}

/**
 * The image of latent tokens.
 *
 * @returns (3, h, w), about [-1, 1]; an autoencoder's is not clamped
 */
export async function latentImage(
  model: UniMedVL,
  autoencoder: Autoencoder | undefined,
  tokens: Float32Array,
  rows: number,
  columns: number,
  work: ImageWork = {},
): Promise<Pixels> {
  work.signal?.throwIfAborted();
  const { config } = model;
  if (config.latent.kind === "pixels") return decodePixels(tokens, rows, columns, config);
  const vae = needAutoencoder(autoencoder);
  const side = config.latentPatchSize;
  const plane = unpatchify(tokens, rows, columns, side);
  const shape = [1, vae.config.zChannels, rows * side, columns * side];
  const latents = Tensor.from(model.gpu, plane, shape);
  let image: Tensor;
  try {
    image = await vae.decodeAsync(latents, steps(work));
  } finally {
    latents.dispose();
  }
  const data = await image.floats();
  image.dispose();
  return { height: image.dim(2), width: image.dim(3), data };
}
