// Weights of an autoencoder: read from the reference's file (`ae.safetensors`), or drawn.

import { openSafetensors } from "../data/safetensors.ts";
import { Draws } from "../data/draws.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import {
  Autoencoder,
  type AutoencoderConfig,
  type AutoencoderParts,
  checkAutoencoderConfig,
} from "./autoencoder.ts";
import { autoencoderShapes } from "./autoencoder_shapes.ts";

/** How an autoencoder is made. */
export interface AutoencoderOptions {
  /** Whether `backward` gives gradients of its weights. Default: false, as in the reference's training. */
  trainable?: boolean;
  /** The halves to make; drawing needs no encoder, conditions no decoder. Default: both. */
  parts?: AutoencoderParts;
}

const LISTED = 8;

/**
 * Loads an autoencoder. Names may carry the prefix `vae_model.`, as in full checkpoints; other tensors of
 * the file are passed over.
 *
 * @param path a safetensors file with the reference's names
 * @throws {InputError} Listing every tensor that is missing or of another shape
 */
export async function loadAutoencoder(
  gpu: Gpu,
  config: AutoencoderConfig,
  path: string,
  options: AutoencoderOptions = {},
): Promise<Autoencoder> {
  checkAutoencoderConfig(config);
  const file = await openSafetensors(path);
  try {
    const shapes = autoencoderShapes(config, options.parts);
    const prefix = [...shapes.keys()].some((name) => file.tensors.has(`vae_model.${name}`))
      ? "vae_model."
      : "";
    const wrong: string[] = [];
    for (const [name, shape] of shapes) {
      const found = file.tensors.get(prefix + name)?.shape;
      if (!found) wrong.push(`${prefix}${name} is missing`);
      else if (found.join() !== shape.join()) {
        const [ours, theirs] = [shape.join(", "), found.join(", ")];
        wrong.push(`${prefix}${name} is (${ours}) by the config, (${theirs}) in the file`);
      }
    }
    if (wrong.length > 0) {
      const more = wrong.length > LISTED ? `; and ${wrong.length - LISTED} more` : "";
      throw new InputError(
        `Cannot load weights from ${path}: ${wrong.slice(0, LISTED).join("; ")}${more}`,
        { help: "use the config that belongs to this file" },
      );
    }
    const parameters = new Parameters();
    for (const [name, shape] of shapes) {
      const values = await file.readFloat32(prefix + name);
      parameters.add(name, Tensor.from(gpu, values, shape), options.trainable ?? false);
    }
    return new Autoencoder(gpu, config, parameters);
  } finally {
    file.close();
  }
}

/**
 * An autoencoder with fresh weights: convolutions N(0, 1/inputs), biases 0, norms 1. Draws depend on the
 * seed and the weight's name alone.
 *
 * @throws {UsageError} If the config's sizes do not fit together
 */
export function initAutoencoder(
  gpu: Gpu,
  config: AutoencoderConfig,
  seed: number,
  options: AutoencoderOptions = {},
): Autoencoder {
  checkAutoencoderConfig(config);
  const parameters = new Parameters();
  for (const [name, shape] of autoencoderShapes(config, options.parts)) {
    const values = new Float32Array(sizeOf(shape));
    if (shape.length === 4) {
      const draws = new Draws("autoencoder", seed, name);
      const sd = 1 / Math.sqrt(sizeOf(shape.slice(1)));
      for (let i = 0; i < values.length; i++) values[i] = sd * draws.normal();
    } else if (name.endsWith(".weight")) values.fill(1);
    parameters.add(name, Tensor.from(gpu, values, shape), options.trainable ?? false);
  }
  return new Autoencoder(gpu, config, parameters);
}
