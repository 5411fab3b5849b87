// Trainings without a large card: `tiny` learns generated images on two cores in minutes, `small` real ones on a
// laptop's graphics chip. Every value is ours.

import type { Preset } from "./presets.ts";
import type { StageConfig } from "./schema.ts";

/** What the tiny stages share. */
const TINY = {
  vae: { min: 32, max: 32, stride: 8, maxPixels: 32 * 32 * 4 },
  vit: { min: 32, max: 32, stride: 8, maxPixels: 32 * 32 * 4 },
  maxTokensPerSample: 256,
  minLearningRate: 0,
  loss: { text: 0.25, flow: 1, reweightText: false },
  timestepShift: 4,
  dropout: { text: 0.1, vit: 0.05, vae: 0.05 },
  ema: 0.99,
} as const satisfies Partial<StageConfig>;

/** `tiny`. */
export const tiny: Preset = {
  purpose: "three stages on generated images, minutes on two cores",
  values: {
    name: "tiny",
    model: { preset: "tiny", init: "fan-in" },
    tokenizer: { kind: "words" },
    data: {
      sources: [{ path: "phantoms" }],
      validation: [{ path: "phantoms" }],
    },
    batch: { samples: 16 },
    stages: [
      {
        ...TINY,
        name: "foundation",
        steps: 320,
        learningRate: 1e-3,
        warmup: 20,
        mix: { t2i: 25, i2t: 75, interleaved: 0, text: 5 },
        freeze: ["autoencoder.*"],
      },
      {
        ...TINY,
        name: "instruction",
        steps: 200,
        learningRate: 5e-4,
        warmup: 5,
        mix: { t2i: 45, i2t: 40, interleaved: 10, text: 5 },
        freeze: ["autoencoder.*", "vit.*"],
      },
      {
        ...TINY,
        name: "unified",
        steps: 120,
        learningRate: 2e-4,
        schedule: "cosine",
        warmup: 5,
        mix: { t2i: 35, i2t: 37, interleaved: 25, text: 3 },
        freeze: ["autoencoder.*", "vit.*"],
      },
    ],
    validate: { every: 80, samples: 32, generate: 4, ask: 16 },
    save: { every: 80, keep: 3 },
  },
  origins: [],
};

/** What the small stages share. */
const SMALL = {
  schedule: "cosine",
  vae: { min: 128, max: 128, stride: 8, maxPixels: 128 * 128 * 4 },
  vit: { min: 128, max: 128, stride: 16, maxPixels: 128 * 128 * 4 },
  maxTokensPerSample: 1536,
  loss: { text: 0.25, flow: 1, reweightText: false },
  timestepShift: 4,
  dropout: { text: 0.1, vit: 0.05, vae: 0.05 },
  ema: 0.999,
} as const satisfies Partial<StageConfig>;

/** `small`. */
export const small: Preset = {
  purpose: "three stages from random weights on one small card: 43 million parameters",
  values: {
    name: "small",
    model: { preset: "small", init: "fan-in", dtype: "f32" },
    tokenizer: { kind: "words" },
    data: { workers: 2, mostBad: 0.01 },
    batch: { expectedTokens: 6144, maxTokens: 8192, preferBufferBefore: 4096, buffer: 50 },
    accumulate: 2,
    optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05, clip: 1 },
    stages: [
      {
        ...SMALL,
        name: "foundation",
        steps: 20_000,
        learningRate: 5e-4,
        minLearningRate: 1e-4,
        warmup: 500,
        mix: { t2i: 25, i2t: 75, interleaved: 0, text: 5 },
        freeze: ["autoencoder.*"],
      },
      {
        ...SMALL,
        name: "instruction",
        steps: 20_000,
        learningRate: 1e-4,
        minLearningRate: 5e-5,
        warmup: 200,
        mix: { t2i: 45, i2t: 40, interleaved: 10, text: 5 },
        freeze: ["autoencoder.*", "vit.*"],
      },
      {
        ...SMALL,
        name: "unified",
        steps: 10_000,
        learningRate: 5e-5,
        minLearningRate: 5e-6,
        warmup: 200,
        mix: { t2i: 35, i2t: 37, interleaved: 25, text: 3 },
        freeze: ["autoencoder.*", "vit.*"],
      },
    ],
    validate: { every: 500, samples: 128, generate: 8, ask: 64 },
    save: { every: 500, keep: 3 },
    log: { every: 5 },
  },
  origins: [],
};
