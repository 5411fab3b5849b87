// Every size of a model in one record, presets by name, and the reading of the reference's JSON files.
// Field names are the checkpoint's in camelCase.

import { InputError, UsageError } from "../errors.ts";
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
export const PRESETS: Record<"tiny" | "unimedvl-14b", UniMedVLConfig> = {
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
    latent: { kind: "pixels", patchSize: 8, colorSide: 2 },
    latentPatchSize: 1,
    maxLatentSize: 4,
    vitMaxNumPatchPerSide: 4,
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

/**
 * Checks what the sizes must satisfy.
 *
 * @throws {UsageError} Naming the field and its repair
 */
export function checkConfig(config: UniMedVLConfig): void {
  const { language: l, vision: v } = config;
  const whole = (value: number, field: string) => {
    if (!Number.isInteger(value) || value < 1) {
      throw new UsageError(`Cannot use the model config: ${field} is ${value}`, {
        help: `set ${field} to a whole number of at least 1`,
      });
    }
  };
  whole(l.vocabSize, "language.vocabSize");
  whole(l.numHiddenLayers, "language.numHiddenLayers");
  whole(config.maxLatentSize, "maxLatentSize");
  whole(config.vitMaxNumPatchPerSide, "vitMaxNumPatchPerSide");
  const divides = (big: number, small: number, what: string) => {
    whole(big, what);
    if (big % small !== 0) {
      throw new UsageError(
        `Cannot use the model config: ${what} ${big} is no multiple of ${small}`,
      );
    }
  };
  divides(l.hiddenSize, l.numAttentionHeads, "language.hiddenSize");
  divides(l.hiddenSize / l.numAttentionHeads, 2, "language head size");
  divides(l.numAttentionHeads, l.numKeyValueHeads, "language.numAttentionHeads");
  divides(l.hiddenSize, 4, "language.hiddenSize");
  divides(v.hiddenSize, v.numAttentionHeads, "vision.hiddenSize");
  divides(v.imageSize, v.patchSize, "vision.imageSize");
}

type Json = Record<string, unknown>;

/**
 * Reads a model config from the reference's files: `config.json` with nested `llm_config`, `vit_config`
 * and `vae_config`, or a released folder's `llm_config.json` and `vit_config.json`, where the ViT depth is
 * one more than what is built and the autoencoder is FLUX's.
 *
 * @param dir folder holding the files
 * @throws {InputError} Naming the file and field that is missing or of the wrong kind
 */
export async function readConfig(dir: string): Promise<UniMedVLConfig> {
  const main = await readJson(`${dir}/config.json`, true) ?? {};
  const nested = main.llm_config !== undefined && main.vit_config !== undefined;
  const llmFile = nested ? "config.json" : "llm_config.json";
  const vitFile = nested ? "config.json" : "vit_config.json";
  const llm = nested ? main.llm_config as Json : await readJson(`${dir}/llm_config.json`);
  const vit = nested ? main.vit_config as Json : await readJson(`${dir}/vit_config.json`);
  const number = (from: Json, file: string, name: string, fallback?: number) => {
    const value = from[name] ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) {
      throw new InputError(`Cannot read ${dir}/${file}: ${name} is ${JSON.stringify(value)}`, {
        help: `${name} must be a number`,
      });
    }
    return value;
  };
  const variant = llm.layer_module ?? "Qwen2MoTDecoderLayer";
  if (variant !== "Qwen2MoTDecoderLayer") {
    throw new InputError(
      `Cannot read ${dir}/${llmFile}: layer_module ${variant} is not supported`,
      {
        help: "only Qwen2MoTDecoderLayer, the published model's, is built",
      },
    );
  }
  const vitNumber = (name: string, fallback?: number) => number(vit, vitFile, name, fallback);
  const llmNumber = (name: string, fallback?: number) => number(llm, llmFile, name, fallback);
  const imageSize = vitNumber("image_size");
  const patchSize = vitNumber("patch_size");
  const config: UniMedVLConfig = {
    language: {
      vocabSize: llmNumber("vocab_size"),
      hiddenSize: llmNumber("hidden_size"),
      intermediateSize: llmNumber("intermediate_size"),
      numHiddenLayers: llmNumber("num_hidden_layers"),
      numAttentionHeads: llmNumber("num_attention_heads"),
      numKeyValueHeads: llmNumber("num_key_value_heads"),
      rmsNormEps: llmNumber("rms_norm_eps", 1e-6),
      ropeTheta: llmNumber("rope_theta"),
    },
    vision: {
      hiddenSize: vitNumber("hidden_size"),
      intermediateSize: vitNumber("intermediate_size"),
      numHiddenLayers: vitNumber("num_hidden_layers") - (nested ? 0 : 1),
      numAttentionHeads: vitNumber("num_attention_heads"),
      numChannels: vitNumber("num_channels", 3),
      imageSize,
      patchSize,
      layerNormEps: vitNumber("layer_norm_eps", 1e-6),
    },
    latent: {
      kind: "autoencoder",
      autoencoder: main.vae_config
        ? readAutoencoder(
          main.vae_config as Json,
          (n) => number(main.vae_config as Json, "config.json", n),
        )
        : FLUX_AUTOENCODER,
    },
    latentPatchSize: number(main, "config.json", "latent_patch_size", 2),
    maxLatentSize: number(main, "config.json", "max_latent_size", 64),
    vitMaxNumPatchPerSide: number(
      main,
      "config.json",
      "vit_max_num_patch_per_side",
      imageSize / patchSize,
    ),
    timestepShift: number(main, "config.json", "timestep_shift", 1),
  };
  checkConfig(config);
  return config;
}

function readAutoencoder(vae: Json, number: (name: string) => number): AutoencoderConfig {
  return {
    resolution: number("resolution"),
    inChannels: number("in_channels"),
    downsample: number("downsample"),
    ch: number("ch"),
    outCh: number("out_ch"),
    chMult: vae.ch_mult as number[],
    numResBlocks: number("num_res_blocks"),
    zChannels: number("z_channels"),
    scaleFactor: number("scale_factor"),
    shiftFactor: number("shift_factor"),
  };
}

async function readJson(path: string): Promise<Json>;
async function readJson(path: string, optional: true): Promise<Json | undefined>;
async function readJson(path: string, optional = false): Promise<Json | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound && optional) return undefined;
    throw new InputError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: not JSON (${(cause as Error).message})`, { cause });
  }
}
