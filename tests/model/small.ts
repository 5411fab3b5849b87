// What tests of the model and its training share: a model of a few thousand weights with every part of the
// large one, seeded pictures, and packed inputs with their noise.

import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch, type PackOptions } from "../../lib/data/pack.ts";
import type { PlanItem, Sample } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { WORD_IDS } from "../../lib/data/words.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { type ModelInputs, shiftTimesteps } from "../../lib/model/batch.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import { initModel } from "../../lib/model/init.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { readAll, type Tensor } from "../../lib/tensor.ts";
import { normals, uniform } from "../helpers.ts";

/** Two layers, grouped queries, two ViT layers; 16 × 16 pictures are 4 patches and 16 latent tokens. */
export const SMALL: UniMedVLConfig = {
  language: {
    vocabSize: 24,
    hiddenSize: 32,
    intermediateSize: 40,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
  },
  vision: {
    hiddenSize: 24,
    intermediateSize: 40,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    numChannels: 3,
    imageSize: 32,
    patchSize: 8,
    layerNormEps: 1e-6,
  },
  latent: { kind: "pixels", patchSize: 4, colorSide: 1, scale: 2, colorScale: 3 },
  latentPatchSize: 1,
  maxLatentSize: 8,
  vitMaxNumPatchPerSide: 4,
  timestepShift: 1,
};

/** Packing for {@link SMALL}. */
export const PACK: PackOptions = {
  special: WORD_IDS,
  vitPatch: 8,
  latentPixels: 4,
  vitSide: 4,
  latentSide: 8,
};

/** A model whose flow head is drawn too: with the usual head of zeros no gradient passes it at first. */
export function smallModel(gpu: Gpu, seed = 1, config = SMALL): UniMedVL {
  const model = initModel(gpu, config, seed);
  const head = model.parameters.get("latent.out.weight");
  head.write(normals(head.size, seed + 77, 0.2));
  return model;
}

/** A picture of soft noise, values in [-1, 1]. */
export function picture(seed: number, height = 16, width = 16): Pixels {
  const next = uniform(seed);
  const data = Float32Array.from({ length: 3 * height * width }, () => 2 * next() - 1);
  return { height, width, data };
}

/** Ids outside the special ones. */
export function words(...ids: number[]): number[] {
  return ids.map((id) => 6 + id);
}

/** Items of a plan. */
export const text = (...ids: number[]): PlanItem => ({
  type: "text",
  loss: false,
  ids: words(...ids),
});
export const answer = (...ids: number[]): PlanItem => ({
  type: "text",
  loss: true,
  ids: words(...ids),
});
export const seen = (image: Pixels): PlanItem => ({ type: "vit_image", loss: false, image });
export const clean = (image: Pixels): PlanItem => ({ type: "vae_image", loss: false, image });
export const drawn = (image: Pixels): PlanItem => ({ type: "vae_image", loss: true, image });

/** Samples of every kind: a question, text → image, image → image. */
export const QUESTION: Sample = { plan: [seen(picture(1)), text(1, 2), answer(3)] };
export const TO_IMAGE: Sample = { plan: [text(4, 5), drawn(picture(2))] };
export const EDIT: Sample = {
  plan: [clean(picture(3)), seen(picture(3)), text(6), drawn(picture(4))],
};

/** Packs samples; timesteps and noise depend on the seed alone. */
export function inputsOf(samples: readonly Sample[], seed = 1, config = SMALL): ModelInputs {
  const times = normals(64, 1000 + seed);
  let next = 0;
  const packed = packBatch(samples, { ...PACK, drawTimestep: () => times[next++] });
  if (packed.vaeTokenIndexes.length === 0) return { packed };
  const latents = encodePixels(packed.vaeImages, config);
  return {
    packed,
    latents,
    noise: normalNoise(latents.length, "test", seed),
    timesteps: shiftTimesteps(packed.timesteps, config.timestepShift),
  };
}

/** Values of tensors by name, read with one wait. */
export async function valuesOf(
  entries: Iterable<readonly [string, Tensor]>,
): Promise<Map<string, Float32Array>> {
  const list = [...entries];
  const values = await readAll(list.map(([, tensor]) => tensor));
  return new Map(list.map(([name], i) => [name, values[i] as Float32Array]));
}

/** The weights of a model. */
export function weightsOf(model: UniMedVL): Promise<Map<string, Float32Array>> {
  return valuesOf(model.parameters.entries());
}

/** Gradients under their parameters' names. */
export function named(
  model: UniMedVL,
  gradients: ReadonlyMap<Tensor, Tensor>,
): Promise<Map<string, Float32Array>> {
  const list: [string, Tensor][] = [];
  for (const [name, weight] of model.parameters.entries()) {
    const gradient = gradients.get(weight);
    if (gradient) list.push([name, gradient]);
  }
  return valuesOf(list);
}

/** Whether two lists of floats hold the same bits. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bits = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);
  const [x, y] = [bits(a), bits(b)];
  return x.length === y.length && x.every((v, i) => v === y[i]);
}

/** Names whose values differ in some bit, or that only one side has. */
export function differing(
  a: ReadonlyMap<string, Float32Array>,
  b: ReadonlyMap<string, Float32Array>,
): string[] {
  const names = new Set([...a.keys(), ...b.keys()]);
  return [...names].filter((name) => {
    const [x, y] = [a.get(name), b.get(name)];
    return !x || !y || !sameBits(x, y);
  });
}

/** Parameters on the way of an image or text to an answer: image encoder, connector, text, und expert. */
export function isUndSide(name: string): boolean {
  return /^(vit|connector|text|und)\./.test(name);
}
