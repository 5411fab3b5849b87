// The model of a training: drawn anew, or from a checkpoint folder; with its vocabulary, its autoencoder where it has
// one, and what packing must know of it.

import type { PackOptions } from "../data/pack.ts";
import { type LatentCache, openLatentCache } from "../data/training/latent_cache.ts";
import { openTokenizerSpec, type TokenizerSpec } from "../data/training/tokenizer_spec.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { WordTokenizer } from "../data/words.ts";
import { UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { openCheckpoint } from "../model/checkpoint_folder.ts";
import { latentStride, PRESETS, type UniMedVLConfig } from "../model/config.ts";
import { initModel } from "../model/init.ts";
import { attachLora } from "../model/lora.ts";
import { readConfig } from "../model/read_config.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { checkTrainConfig } from "../train/config/check.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { encoderDigest } from "../train/latents.ts";
import { narrowMatrices } from "../train/narrow.ts";
import { fullWeights, storedWeights, wholeAutoencoder } from "./full_weights.ts";
import { modelFolder } from "../model/model_folder.ts";

/** Everything about the model that a training holds. */
export interface TrainModel {
  model: UniMedVL;
  tokenizer: Tokenizer;
  tokenizerSpec: TokenizerSpec;
  pack: Omit<PackOptions, "dropout" | "drawDropout" | "drawTimestep" | "padTo">;
  /** Frozen; absent where latents are pixels. */
  autoencoder?: Autoencoder;
  /** Where latents of the autoencoder are kept. */
  latentCache?: LatentCache;
  /** True if only adapters train, over weights that stay as they are stored. */
  adaptersOnly: boolean;
  /** Text files that make a checkpoint folder usable as a model. */
  texts: Record<string, string>;
  dispose(): void;
}

/**
 * Sizes of the model that a config names, those of its checkpoint before those of its preset.
 *
 * @throws {UsageError} If there is no such preset
 * @throws {InputError} If the checkpoint has no usable config.json
 */
export async function sizesOf(
  { model: { preset, checkpoint } }: TrainConfig,
): Promise<UniMedVLConfig> {
  if (checkpoint !== null) return await readConfig(await modelFolder(checkpoint));
  if (Object.hasOwn(PRESETS, preset)) return PRESETS[preset as keyof typeof PRESETS];
  if (await isFile(`${preset}/config.json`)) return await readConfig(preset);
  const presets = Object.keys(PRESETS).join(", ");
  throw new UsageError(`Cannot train a model ${JSON.stringify(preset)}: no such preset`, {
    help:
      `give model.preset one of ${presets} or a folder with config.json, or give model.checkpoint`,
  });
}

/**
 * Opens the model that a config names.
 *
 * @throws {UsageError} If the settings do not fit the model
 * @throws {InputError} If its files cannot be used
 */
export async function openTrainModel(
  gpu: Gpu,
  config: TrainConfig,
  onNote?: (text: string) => void,
): Promise<TrainModel> {
  const { model: { checkpoint } } = config;
  return checkpoint === null
    ? await drawnModel(gpu, config, onNote)
    : await storedModel(gpu, config, await modelFolder(checkpoint), onNote);
}

async function drawnModel(
  gpu: Gpu,
  config: TrainConfig,
  onNote?: (text: string) => void,
): Promise<TrainModel> {
  const { model: { init, dtype }, seed } = config;
  const tokenizerSpec = specOf(config, undefined);
  const tokenizer = await openTokenizerSpec(tokenizerSpec);
  const sizes = await sizesOf(config);
  const wide = tokenizer instanceof WordTokenizer ? withVocabulary(sizes, tokenizer.size) : sizes;
  checkTrainConfig(config, { model: wide, vocabulary: tokenizer.size });
  const model = initModel(gpu, wide, seed, { scheme: init });
  try {
    if (dtype === "bf16") narrowMatrices(model.parameters);
    adapt(model, config, onNote);
  } catch (cause) {
    model.dispose();
    throw cause;
  }
  return assemble(model, tokenizer, tokenizerSpec, undefined, () => model.dispose());
}

async function storedModel(
  gpu: Gpu,
  config: TrainConfig,
  dir: string,
  onNote?: (text: string) => void,
): Promise<TrainModel> {
  const checkpoint = await openCheckpoint(dir);
  const held: { dispose(): void }[] = [];
  try {
    for (const note of checkpoint.notes) onNote?.(note);
    const tokenizerSpec = specOf(config, dir);
    const tokenizer = await openTokenizerSpec(tokenizerSpec);
    checkTrainConfig(config, { model: checkpoint.config, vocabulary: tokenizer.size });
    const model = config.lora !== null
      ? await storedWeights(gpu, checkpoint)
      : await fullWeights(gpu, checkpoint, config.model.dtype);
    held.push(model);
    adapt(model, config, onNote);
    let autoencoder: Autoencoder | undefined;
    if (checkpoint.config.latent.kind === "autoencoder") {
      autoencoder = await wholeAutoencoder(gpu, checkpoint);
      held.push(autoencoder);
    }
    const opened = assemble(model, tokenizer, tokenizerSpec, autoencoder, () => {
      for (const each of held) each.dispose();
    });
    const { latentCache: folder } = config.data;
    if (autoencoder && folder !== null) {
      opened.latentCache = await openLatentCache(folder, {
        autoencoder: await encoderDigest(autoencoder),
        ...(onNote ? { onNote } : {}),
      });
    }
    return opened;
  } catch (cause) {
    for (const each of held) each.dispose();
    throw cause;
  } finally {
    checkpoint.close();
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
}

/** Attaches adapters, if the config asks for them. */
function adapt(
  model: UniMedVL,
  { lora, seed }: TrainConfig,
  onNote?: (text: string) => void,
): void {
  if (lora === null) return;
  const { layers, parameters } = attachLora(model, { ...lora, seed });
  onNote?.(`adapters of rank ${lora.rank} on ${layers.length} layers: ${parameters} numbers train`);
}

/** A tokenizer named by the config, by default that of the checkpoint. */
function specOf({ tokenizer }: TrainConfig, dir: string | undefined): TokenizerSpec {
  if (tokenizer.kind === "words") {
    const words = tokenizer.words ?? (dir === undefined ? undefined : `${dir}/words.json`);
    return { kind: "words", ...(words === undefined ? {} : { words }) };
  }
  return { kind: "qwen2", dir: tokenizer.dir ?? dir! }; // checked with the config
}

/** Token table rows come in multiples of this. */
const ROWS = 16;

/** The same sizes with a token table for a vocabulary. */
export function withVocabulary(config: UniMedVLConfig, words: number): UniMedVLConfig {
  const vocabSize = ROWS * Math.ceil(words / ROWS);
  return { ...config, language: { ...config.language, vocabSize } };
}

function assemble(
  model: UniMedVL,
  tokenizer: Tokenizer,
  tokenizerSpec: TokenizerSpec,
  autoencoder: Autoencoder | undefined,
  dispose: () => void,
): TrainModel {
  const { config } = model;
  return {
    model,
    tokenizer,
    tokenizerSpec,
    pack: {
      special: tokenizer.special,
      vitPatch: config.vision.patchSize,
      latentPixels: latentStride(config),
      vitSide: config.vitMaxNumPatchPerSide,
      latentSide: config.maxLatentSize,
    },
    ...(autoencoder ? { autoencoder } : {}),
    adaptersOnly: model.lora !== undefined,
    texts: tokenizer instanceof WordTokenizer
      ? { "words.json": JSON.stringify(tokenizer) + "\n" }
      : {},
    dispose,
  };
}
