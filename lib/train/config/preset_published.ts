// The published curriculum at full size. Table 12 of the UniMedVL paper gives steps, rates, mixes, resolutions, the
// longest sample, frozen parts, the averaging, the dropout and the weights of the losses; batch size, warm-up,
// timestep shift and the optimizer's constants it does not print, so those are BAGEL's. The first stage's mix adds
// up to 105 as printed; only ratios count.

import { DEFAULT_MAX_PIXELS, SIZE_RULES } from "../../data/transforms.ts";
import type { Preset } from "./presets.ts";
import type { StageConfig } from "./schema.ts";

/** What the three stages share. */
const SHARED = {
  schedule: "constant",
  warmup: 2000,
  minLearningRate: 1e-7,
  resetOptimizer: true, // each stage is a training of its own that begins with the weights of the one before
  loss: { text: 0.25, flow: 1, reweightText: false },
  timestepShift: 1,
  dropout: { text: 0.3, vit: 0.05, vae: 0.05 },
  ema: 0.995,
} as const satisfies Partial<StageConfig>;

const { trainVae, trainVit } = SIZE_RULES;

/** `unimedvl-14b`. */
export const published: Preset = {
  purpose: "the published curriculum: 14.6 billion parameters, three stages, 275,000 updates",
  values: {
    name: "unimedvl-14b",
    seed: 4396,
    model: { preset: "unimedvl-14b", checkpoint: null, init: "reference", dtype: "bf16" },
    tokenizer: { kind: "qwen2" },
    data: { workers: 4, prefetch: 2, mostBad: 0.01 },
    batch: { expectedTokens: 32768, maxTokens: 36864, preferBufferBefore: 16384, buffer: 50 },
    accumulate: 1,
    optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-15, weightDecay: 0, clip: 1 },
    activationCheckpointing: { decoder: true, vit: true, connector: true },
    stages: [
      {
        ...SHARED,
        name: "foundation",
        steps: 85_000,
        learningRate: 5e-5,
        resetOptimizer: false,
        mix: { t2i: 25, i2t: 75, interleaved: 0, text: 5 },
        vae: { ...trainVae },
        vit: { ...trainVit },
        maxTokensPerSample: 18_500,
        freeze: ["autoencoder.*"],
      },
      {
        ...SHARED,
        name: "instruction",
        steps: 120_000,
        learningRate: 2.5e-5,
        mix: { t2i: 45, i2t: 40, interleaved: 10, text: 5 },
        vae: { ...trainVae },
        vit: { ...SIZE_RULES.trainEditVit },
        maxTokensPerSample: 20_000,
        freeze: ["autoencoder.*", "vit.*"],
      },
      {
        ...SHARED,
        name: "unified",
        steps: 70_000,
        learningRate: 1e-5,
        mix: { t2i: 35, i2t: 37, interleaved: 25, text: 3 },
        vae: { min: 32, max: 1024, stride: 16, maxPixels: DEFAULT_MAX_PIXELS },
        vit: { ...trainVit },
        maxTokensPerSample: 27_000,
        freeze: ["autoencoder.*", "vit.*"],
      },
    ],
    validate: { every: 2000, samples: 256, generate: 8, ask: 128 },
    save: { every: 2000, keep: 3 },
    log: { every: 10 },
    guards: { nonFinite: "skip" },
    parallel: { shardOptimizer: true },
  },
  origins: [
    ["seed", "BAGEL"],
    ["model.preset", "paper"],
    ["model.init", "BAGEL"],
    ["model.dtype", "BAGEL"],
    ["tokenizer.kind", "BAGEL"],
    ["data.workers", "BAGEL"],
    ["data.prefetch", "BAGEL"],
    ["batch", "BAGEL"],
    ["accumulate", "BAGEL"],
    ["optimizer", "BAGEL"],
    ["activationCheckpointing", "BAGEL"],
    ["stages.*.name", "paper"],
    ["stages.*.steps", "paper"],
    ["stages.*.learningRate", "paper"],
    ["stages.*.schedule", "BAGEL"],
    ["stages.*.warmup", "BAGEL"],
    ["stages.*.minLearningRate", "BAGEL"],
    ["stages.*.resetOptimizer", "BAGEL"],
    ["stages.*.mix", "paper"],
    ["stages.*.vae.min", "paper"],
    ["stages.*.vae.max", "paper"],
    ["stages.*.vae", "BAGEL"],
    ["stages.*.vit.min", "paper"],
    ["stages.*.vit.max", "paper"],
    ["stages.*.vit", "BAGEL"],
    ["stages.*.maxTokensPerSample", "paper"],
    ["stages.*.freeze", "paper"],
    ["stages.*.loss.reweightText", "BAGEL"],
    ["stages.*.loss", "paper"],
    ["stages.*.timestepShift", "BAGEL"],
    ["stages.*.dropout", "paper"],
    ["stages.*.ema", "paper"],
    ["save.every", "BAGEL"],
    ["log.every", "BAGEL"],
    ["parallel.shardOptimizer", "BAGEL"],
  ],
};
