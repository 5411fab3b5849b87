// Training of an autoencoder: reconstruction and a weak pull of the latents towards N(0, 1) (Kingma and Welling 2014;
// weak as in Rombach et al. 2022, whose decoder is this one). No adversarial and no perceptual term: both need
// networks that a small lab would have to train first.

import type { Autoencoder } from "../model/autoencoder.ts";
import { add } from "../ops/add.ts";
import { affine } from "../ops/affine.ts";
import { axpy, sub } from "../ops/axpy.ts";
import { mul } from "../ops/mul.ts";
import { mean } from "../ops/sum.ts";
import { abs, exp, scale } from "../ops/unary.ts";
import { Tensor } from "../tensor.ts";

/** How pixels are compared: mean of squared, or of absolute differences. */
export const RECONSTRUCTIONS = ["mse", "l1"] as const;
/** One of {@link RECONSTRUCTIONS}. */
export type Reconstruction = typeof RECONSTRUCTIONS[number];

/** What {@link autoencoderLoss} weighs. */
export interface AutoencoderObjective {
  /** `mse` raises the PSNR, `l1` forgives single wrong pixels and keeps edges sharper. */
  reconstruction: Reconstruction;
  /**
   * Factor β of the divergence. Both terms are means, so that β means the same at any size; sums per image with a
   * factor of 10⁻⁶, as they are often given, are β = 10⁻⁶ · latent numbers / pixel values.
   */
  klWeight: number;
}

/** One-element losses, recorded. */
export interface AutoencoderLosses {
  /** `reconstruction + β · kl`. */
  total: Tensor;
  /** Mean over pixel values, images in [-1, 1]. */
  reconstruction: Tensor;
  /** Mean over latent numbers, in nats. */
  kl: Tensor;
}

/**
 * Encodes, draws latents, decodes, compares: `mean |x̂ - x|` or `mean (x̂ - x)²`, plus
 * `β · mean ½ (μ² + σ² - 1 - log σ²)` of the latents before shift and scale.
 *
 * @param images (B, channels, h, w) in [-1, 1], h and w multiples of `downsample`
 * @param noise standard normal numbers in the shape of the latents
 * @throws {TypeError} If the decoder's image has another shape than the one that went in
 */
export function autoencoderLoss(
  autoencoder: Autoencoder,
  images: Tensor,
  noise: Tensor,
  { reconstruction, klWeight }: AutoencoderObjective,
): AutoencoderLosses {
  const { mean: mu, logvar } = autoencoder.encodeMoments(images);
  // Shift and scale cancel out between the halves, so latents are drawn and decoded in the published convention.
  const { scaleFactor, shiftFactor } = autoencoder.config;
  const drawn = add(mu, mul(exp(scale(logvar, 0.5)), noise));
  const decoded = autoencoder.decode(affine(drawn, scaleFactor, -shiftFactor * scaleFactor));
  if (decoded.shape.join() !== images.shape.join()) {
    throw new TypeError(
      `Cannot compare a decoded (${decoded.shape.join(", ")}) with (${images.shape.join(", ")}): ` +
        `sides must be multiples of ${autoencoder.config.downsample}, and outCh as many as inChannels`,
    );
  }
  const difference = sub(decoded, images);
  const apart = mean(reconstruction === "l1" ? abs(difference) : mul(difference, difference));
  const kl = gaussianKl(mu, logvar);
  const losses = { reconstruction: apart.alias(), kl: kl.alias() }; // backward frees what it passes
  return { ...losses, total: axpy(klWeight, kl, apart) };
}

/**
 * Mean divergence of N(μ, σ²) from N(0, 1), in nats per number: `mean ½ (μ² + σ² - 1 - log σ²)` (Kingma and Welling
 * 2014, appendix B).
 *
 * @param mu (…)
 * @param logvar (…) the same shape, log σ²
 * @returns (1), at least 0 up to rounding
 * @throws {TypeError} If the shapes differ
 */
export function gaussianKl(mu: Tensor, logvar: Tensor): Tensor {
  const spread = add(mul(mu, mu), exp(logvar));
  return affine(mean(sub(spread, logvar)), 0.5, -0.5);
}

/** Shift and scale that bring latents to mean 0 and deviation 1, as configs have them. */
export interface LatentFactors {
  shiftFactor: number;
  scaleFactor: number;
}

/** Sums over latents of many images, from which {@link LatentStatistics.factors} follow. */
export class LatentStatistics {
  #count = 0;
  #sum = 0;
  #squares = 0;

  /** Takes the moments of some images in: of N(μ, σ²), `E z = μ` and `E z² = μ² + σ²`, whatever is drawn later. */
  add(mu: ArrayLike<number>, logvar: ArrayLike<number>): void {
    for (let i = 0; i < mu.length; i++) {
      this.#sum += mu[i];
      this.#squares += mu[i] ** 2 + Math.exp(logvar[i]);
    }
    this.#count += mu.length;
  }

  /**
   * `shift = E z`, `scale = 1 / √(E z² - (E z)²)`, over all latent numbers of all channels, which is the convention of
   * the published autoencoder.
   *
   * @throws {RangeError} If nothing was taken in, or the latents do not vary
   */
  factors(): LatentFactors {
    const shiftFactor = this.#sum / this.#count;
    const variance = this.#squares / this.#count - shiftFactor ** 2;
    if (!(variance > 0 && Number.isFinite(variance))) {
      throw new RangeError(
        `Cannot scale latents: ${this.#count} numbers have variance ${variance}`,
      );
    }
    return { shiftFactor, scaleFactor: 1 / Math.sqrt(variance) };
  }
}

/**
 * Peak signal-to-noise ratio in decibels of images in [-1, 1]: `10 log₁₀(4 / mean (x̂ - x)²)`, the decoded one held
 * to that range first.
 *
 * @throws {TypeError} If the numbers of values differ or there are none
 */
export function psnr(decoded: ArrayLike<number>, image: ArrayLike<number>): number {
  const n = image.length;
  if (n === 0 || decoded.length !== n) {
    throw new TypeError(`Cannot compare ${decoded.length} pixel values with ${n}`);
  }
  let squares = 0;
  for (let i = 0; i < n; i++) {
    squares += (Math.min(1, Math.max(-1, decoded[i])) - image[i]) ** 2;
  }
  return 10 * Math.log10(4 * n / squares);
}
