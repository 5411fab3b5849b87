// What every field of a training config is if nothing sets it: where a training script of the reference has a
// default, that one. Fields that are absent here must be set (the model, the stages, a stage's name, steps and
// rate, a source's path).

import { SIZE_RULES } from "../../data/transforms.ts";
import type { BatchConfig, LoraConfig, SourceConfig, StageConfig, TrainConfig } from "./schema.ts";

type Deep<T> = T extends unknown[] ? T : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;

/** Defaults of a config; what is missing has none. */
export const DEFAULTS = {
  name: "training",
  seed: 0,
  model: { checkpoint: null, init: "fan-in", dtype: "f32" },
  tokenizer: { kind: "words", words: null, dir: null },
  data: {
    sources: [],
    validation: [],
    workers: 1,
    prefetch: 2,
    latentCache: null,
    mostBad: 0,
    checkUpTo: 10_000,
    leaks: "refuse",
  },
  batch: { samples: 16 },
  accumulate: 1,
  optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-15, weightDecay: 0, clip: 1 },
  activationCheckpointing: { decoder: false, vit: false, connector: false },
  validate: { every: 0, samples: 32, generate: 0, ask: 0, patience: null },
  save: { every: 100, keep: 3, best: false },
  log: { every: 1 },
  guards: { nonFinite: "stop", mostSkipped: 3, divergenceFactor: 3, divergenceWindow: 50 },
  lora: null,
  parallel: { shardOptimizer: false, bucketBytes: 32 * 2 ** 20 },
} as const satisfies Deep<TrainConfig>;

/** Defaults of one stage. */
export const STAGE_DEFAULTS = {
  schedule: "constant",
  warmup: 0,
  minLearningRate: 0,
  resetOptimizer: false,
  mix: { t2i: 0, i2t: 0, interleaved: 0, text: 0 },
  vae: { ...SIZE_RULES.trainVae },
  vit: { ...SIZE_RULES.trainVit },
  maxTokensPerSample: 16384,
  freeze: [],
  loss: { text: 1, flow: 1, reweightText: false },
  timestepShift: 1,
  dropout: { text: 0.1, vit: 0.3, vae: 0.3 },
  ema: 0.9999,
} as const satisfies Deep<StageConfig>;

/** Defaults of one source; its name is the last part of its path. */
export const SOURCE_DEFAULTS = {
  format: "auto",
  weight: null,
  split: "train",
  exclude: null,
  images: null,
} as const satisfies Deep<SourceConfig>;

/** Defaults of one source of validation records. */
export const VALIDATION_DEFAULTS = {
  ...SOURCE_DEFAULTS,
  split: "val",
} as const satisfies Deep<SourceConfig>;

/** Defaults of a batch by tokens, once any of its fields is given. */
export const TOKEN_DEFAULTS = {
  expectedTokens: 32768,
  maxTokens: 36864,
  preferBufferBefore: 16384,
  buffer: 50,
} as const satisfies BatchConfig;

/** Defaults of adapters, once any of their fields is given. */
export const LORA_DEFAULTS = { rank: 8, alpha: 16, targets: [] } as const satisfies Deep<
  LoraConfig
>;
