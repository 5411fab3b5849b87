// Every size of a model in one record, presets by name, and what the sizes must satisfy. Field names are
// the checkpoint's in camelCase.

import { UsageError } from "../errors.ts";
import type { AutoencoderConfig } from "./autoencoder.ts";

/** The two-expert decoder (Qwen2 shape). */
export interface LanguageConfig {
  /** Entries of the token table. */
  vocabSize: number;
  /** Width C of the residual stream. */
  hiddenSize: number;
  /** Width F of the gated feed-forward. */
  intermediateSize: number;
  numHiddenLayers: number;
  /** Query heads H; the head size is hiddenSize / H. */
  numAttentionHeads: number;
  /** Key-value heads K; H is a multiple of K. */
  numKeyValueHeads: number;
  rmsNormEps: number;
  /** Base θ of the rotary embedding. */
  ropeTheta: number;
}

/** The image encoder (SigLIP, NaViT-packed). */
export interface VisionConfig {
  hiddenSize: number;
  intermediateSize: number;
  /** Layers that are built: one less than a released `vit_config.json` says. */
  numHiddenLayers: number;
  numAttentionHeads: number;
  numChannels: number;
  /** Side in pixels of the learned position table's grid. */
  imageSize: number;
  /** Side of a patch in pixels. */
  patchSize: number;
  layerNormEps: number;
}

/** Where latents come from: the FLUX-style autoencoder, or the pixels themselves in fixed patches. */
export type LatentConfig =
  | { kind: "autoencoder"; autoencoder: AutoencoderConfig }
  | {
    kind: "pixels";
    /** Side in pixels of the square that becomes one token. */
    patchSize: number;
    /** Colour blocks along that side: brightness is kept for every pixel, colour for every block. */
    colorSide: number;
    /** Factors of brightness and colour that bring both near the variance of the noise. */
    scale: number;
    colorScale: number;
  };

/** A complete UniMedVL. */
export interface UniMedVLConfig {
  language: LanguageConfig;
  vision: VisionConfig;
  latent: LatentConfig;
  /** Latents per token side (the pixel kind uses 1). */
  latentPatchSize: number;
  /** Side of the latent position table's grid, in tokens. */
  maxLatentSize: number;
  /** Side of the ViT position tables' grid, in patches. */
  vitMaxNumPatchPerSide: number;
  /** Shift s of the training timesteps: t ← s·t / (1 + (s − 1)·t). */
  timestepShift: number;
}

/** Size of one head of the decoder. */
export function headSize(config: LanguageConfig): number {
  return config.hiddenSize / config.numAttentionHeads;
}

/** Rows of the image encoder's learned position table. */
export function learnedPositions({ imageSize, patchSize }: VisionConfig): number {
  return Math.floor(imageSize / patchSize) ** 2;
}

/** Numbers per latent token. */
export function latentSize(config: UniMedVLConfig): number {
  const { latent, latentPatchSize: p } = config;
  return latent.kind === "pixels"
    ? latent.patchSize ** 2 + 2 * latent.colorSide ** 2
    : p * p * latent.autoencoder.zChannels;
}

/** Pixels along the side of one latent token. */
export function latentStride(config: UniMedVLConfig): number {
  const { latent, latentPatchSize } = config;
  return latent.kind === "pixels"
    ? latent.patchSize
    : latent.autoencoder.downsample * latentPatchSize;
}

/** The autoencoder of FLUX, as published checkpoints use it. */
export const FLUX_AUTOENCODER: AutoencoderConfig = {
  resolution: 256,
  inChannels: 3,
  downsample: 8,
  ch: 128,
  outCh: 3,
  chMult: [1, 2, 4, 4],
  numResBlocks: 2,
  zChannels: 16,
  scaleFactor: 0.3611,
  shiftFactor: 0.1159,
};

/** Presets by name. */
export const PRESETS: Record<"tiny" | "small" | "unimedvl-14b", UniMedVLConfig> = {
  /** Trains in minutes on two cores: 32 × 32 images, 8-pixel patches, pixels as latents. */
  tiny: {
    language: {
      vocabSize: 128,
      hiddenSize: 96,
      intermediateSize: 192,
      numHiddenLayers: 3,
      numAttentionHeads: 4,
      numKeyValueHeads: 4,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
    },
    vision: {
      hiddenSize: 96,
      intermediateSize: 192,
      numHiddenLayers: 1,
      numAttentionHeads: 4,
      numChannels: 3,
      imageSize: 32,
      patchSize: 8,
      layerNormEps: 1e-6,
    },
    latent: { kind: "pixels", patchSize: 8, colorSide: 2, scale: 2, colorScale: 6 },
    latentPatchSize: 1,
    maxLatentSize: 4,
    vitMaxNumPatchPerSide: 4,
    timestepShift: 4,
  },
  /** Trains on a laptop's graphics chip: 43 million parameters, images up to 256 × 256, pixels as latents. */
  small: {
    language: {
      vocabSize: 8192,
      hiddenSize: 384,
      intermediateSize: 1024,
      numHiddenLayers: 8,
      numAttentionHeads: 6,
      numKeyValueHeads: 2,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
    },
    vision: {
      hiddenSize: 384,
      intermediateSize: 1536,
      numHiddenLayers: 6,
      numAttentionHeads: 6,
      numChannels: 3,
      imageSize: 256,
      patchSize: 16,
      layerNormEps: 1e-6,
    },
    latent: { kind: "pixels", patchSize: 8, colorSide: 2, scale: 2, colorScale: 6 },
    latentPatchSize: 1,
    maxLatentSize: 32,
    vitMaxNumPatchPerSide: 16,
    timestepShift: 4,
  },
  /** The published model: 14.6 billion parameters. */
  "unimedvl-14b": {
    language: {
      vocabSize: 152064,
      hiddenSize: 3584,
      intermediateSize: 18944,
      numHiddenLayers: 28,
      numAttentionHeads: 28,
      numKeyValueHeads: 4,
      rmsNormEps: 1e-6,
      ropeTheta: 1e6,
    },
    vision: {
      hiddenSize: 1152,
      intermediateSize: 4304,
      numHiddenLayers: 26,
      numAttentionHeads: 16,
      numChannels: 3,
      imageSize: 980,
      patchSize: 14,
      layerNormEps: 1e-6,
    },
    latent: { kind: "autoencoder", autoencoder: FLUX_AUTOENCODER },
    latentPatchSize: 2,
    maxLatentSize: 64,
    vitMaxNumPatchPerSide: 70,
    timestepShift: 1,
  },
};

/** What is wrong with a field, and the repair. */
export interface ConfigProblem {
  /** Path in the record, such as `language.hiddenSize`. */
  field: string;
  /** `language.hiddenSize is 0`. */
  what: string;
  help: string;
}

/** The first thing that sizes must satisfy and do not. */
export function configProblem(config: UniMedVLConfig): ConfigProblem | undefined {
  const { language: l, vision: v, latent } = config;
  const whole: [string, number][] = [
    ["language.vocabSize", l.vocabSize],
    ["language.hiddenSize", l.hiddenSize],
    ["language.intermediateSize", l.intermediateSize],
    ["language.numHiddenLayers", l.numHiddenLayers],
    ["language.numAttentionHeads", l.numAttentionHeads],
    ["language.numKeyValueHeads", l.numKeyValueHeads],
    ["vision.hiddenSize", v.hiddenSize],
    ["vision.intermediateSize", v.intermediateSize],
    ["vision.numHiddenLayers", v.numHiddenLayers],
    ["vision.numAttentionHeads", v.numAttentionHeads],
    ["vision.numChannels", v.numChannels],
    ["vision.imageSize", v.imageSize],
    ["vision.patchSize", v.patchSize],
    ["latentPatchSize", config.latentPatchSize],
    ["maxLatentSize", config.maxLatentSize],
    ["vitMaxNumPatchPerSide", config.vitMaxNumPatchPerSide],
  ];
  if (latent.kind === "pixels") {
    whole.push(["latent.patchSize", latent.patchSize], ["latent.colorSide", latent.colorSide]);
  }
  for (const [field, value] of whole) {
    if (Number.isInteger(value) && value >= 1) continue;
    const help = `set ${field} to a whole number of at least 1`;
    return { field, what: `${field} is ${value}`, help };
  }
  const positive: [string, number][] = [
    ["language.rmsNormEps", l.rmsNormEps],
    ["language.ropeTheta", l.ropeTheta],
    ["vision.layerNormEps", v.layerNormEps],
    ["timestepShift", config.timestepShift],
  ];
  if (latent.kind === "pixels") {
    positive.push(["latent.scale", latent.scale], ["latent.colorScale", latent.colorScale]);
  }
  for (const [field, value] of positive) {
    if (Number.isFinite(value) && value > 0) continue;
    return { field, what: `${field} is ${value}`, help: `set ${field} to a number above 0` };
  }
  const multiples: [string, number, number, string][] = [
    ["language.hiddenSize", l.hiddenSize, 4, "position tables have four parts"],
    ["language.hiddenSize", l.hiddenSize, l.numAttentionHeads, "heads share it evenly"],
    ["language head size", l.hiddenSize / l.numAttentionHeads, 2, "rotation takes pairs"],
    ["language.numAttentionHeads", l.numAttentionHeads, l.numKeyValueHeads, "groups are even"],
    ["vision.hiddenSize", v.hiddenSize, v.numAttentionHeads, "heads share it evenly"],
  ];
  if (latent.kind === "pixels") {
    const { patchSize, colorSide } = latent;
    multiples.push(["latent.patchSize", patchSize, colorSide, "colour blocks share it evenly"]);
  }
  for (const [field, value, unit, reason] of multiples) {
    if (value % unit === 0) continue;
    return { field, what: `${field} ${value} is no multiple of ${unit}`, help: reason };
  }
  if (v.imageSize < v.patchSize) {
    const [field, help] = ["vision.imageSize", "an image has at least one patch"];
    return { field, what: `${field} ${v.imageSize} is less than one patch`, help };
  }
  return undefined;
}

/**
 * Checks what the sizes must satisfy.
 *
 * @throws {UsageError} Naming the field and its repair
 */
export function checkConfig(config: UniMedVLConfig): void {
  const problem = configProblem(config);
  if (!problem) return;
  const { what, help } = problem;
  throw new UsageError(`Cannot use the model config: ${what}`, { help });
}
