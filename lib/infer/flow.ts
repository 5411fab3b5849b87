// Drawing images: Euler steps from noise along the predicted velocity. Many prompts are drawn at once, as
// samples of one packed batch.

import { noGrad } from "../autograd.ts";
import { normalNoise } from "../data/noise.ts";
import { packBatch, type PackedBatch, type PackOptions } from "../data/pack.ts";
import type { Sample } from "../data/sample.ts";
import type { Pixels } from "../data/transforms.ts";
import { prepareBatch } from "../model/batch.ts";
import { latentSize } from "../model/config.ts";
import { decodePixels, encodePixels } from "../model/latents.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { tidy } from "../tensor.ts";

/** How images are drawn. */
export interface DrawOptions {
  /** Grid points of the time axis; there are points − 1 steps. Default: 25. */
  points?: number;
  /** Shift of the time grid, as in training. Default: the model's. */
  shift?: number;
  /** Key of the starting noise. Default: 0. */
  seed?: number;
  signal?: AbortSignal;
}

/**
 * The time grid: `τ = linspace(1, 0, points)`, `t = s·τ / (1 + (s − 1)·τ)`, every step rounded to f32 and the
 * second half counted from the end, as the reference's tensor library does: bounds of guidance are compared
 * with these numbers.
 *
 * @throws {RangeError} If there are fewer than two points
 */
export function timeGrid(points: number, shift: number): number[] {
  if (!(points >= 2)) throw new RangeError(`Cannot make a time grid of ${points} points`);
  const f = Math.fround;
  const step = f(-1 / (points - 1));
  return Array.from({ length: points }, (_, i) => {
    const tau = i < points / 2 ? f(1 + f(step * i)) : f(0 - f(step * (points - 1 - i)));
    return f(f(shift * tau) / f(1 + f((shift - 1) * tau)));
  });
}

/**
 * Draws the image that each sample predicts: its one VAE item with a loss, whose pixels only give the size.
 *
 * @param model one whose latents are pixels
 * @returns images in the order of the samples, (C, h, w) in [-1, 1]
 * @throws {TypeError} If a sample predicts no image, or more than one
 */
export async function drawImages(
  model: UniMedVL,
  samples: readonly Sample[],
  pack: PackOptions,
  options: DrawOptions = {},
): Promise<Pixels[]> {
  for (const [i, { plan }] of samples.entries()) {
    const drawn = plan.filter((item) => item.type === "vae_image" && item.loss).length;
    if (drawn !== 1) throw new TypeError(`Cannot draw sample ${i}: it predicts ${drawn} images`);
  }
  if (samples.length === 0) return [];
  const packed = packBatch(samples, { ...pack, drawTimestep: () => 0 });
  const { config } = model;
  const drawn = await drawPacked(model, packed, encodePixels(packed.vaeImages, config), options);
  return drawn.map(({ tokens, rows, columns }) => decodePixels(tokens, rows, columns, config));
}

/** Latent tokens of one drawn image, (rows · columns, latent numbers). */
export interface DrawnLatents {
  tokens: Float32Array;
  rows: number;
  columns: number;
}

/**
 * Draws what a packed batch predicts: every image with a flow loss, all at once.
 *
 * @param clean (N_vae, latent numbers) clean latents; those of images that are drawn are not looked at
 * @returns one entry per drawn image, in packed order
 */
export async function drawPacked(
  model: UniMedVL,
  packed: PackedBatch,
  clean: Float32Array,
  options: DrawOptions = {},
): Promise<DrawnLatents[]> {
  const { config } = model;
  const { points = 25, shift = config.timestepShift, seed = 0 } = options;
  const width = latentSize(config);
  const x = clean.slice();
  const noise = normalNoise(packed.mseRows.length * width, "draw", seed);
  packed.mseRows.forEach((row, i) => {
    x.set(noise.subarray(i * width, (i + 1) * width), row * width);
  });
  const grid = timeGrid(points, shift);
  for (let step = 0; step + 1 < grid.length; step++) {
    options.signal?.throwIfAborted();
    const t = grid[step];
    const timesteps = new Float32Array(packed.vaeTokenIndexes.length);
    for (const row of packed.mseRows) timesteps[row] = t;
    const velocity = tidy(() =>
      noGrad(() => {
        const batch = prepareBatch(model.gpu, config, { packed, noisy: x, timesteps });
        return model.forward(batch).velocity!;
      })
    );
    const v = await velocity.floats();
    velocity.dispose();
    const dt = t - grid[step + 1];
    packed.mseRows.forEach((row, i) => {
      for (let c = 0; c < width; c++) x[row * width + c] -= dt * v[i * width + c];
    });
  }
  const rows = new Set(packed.mseRows);
  const images: DrawnLatents[] = [];
  let row = 0;
  for (const [h, w] of packed.latentShapes) {
    const tokens = x.slice(row * width, (row + h * w) * width);
    if (rows.has(row)) images.push({ tokens, rows: h, columns: w });
    row += h * w;
  }
  return images;
}
