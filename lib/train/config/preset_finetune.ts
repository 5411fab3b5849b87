// Fine-tuning on a few hundred samples. What ruins such trainings (a lost language, a colour cast, forgetting after
// some thousand updates) is moving every weight of a large model far, for long, on nothing but the new samples. So only
// low-rank adapters move, a quarter of the samples should be of what the model knows already, and the training ends when
// the held-out loss falls no more; its best checkpoint is kept. In experiments/LOG.md (tuning on a few hundred questions)
// replay and stopping early kept more of what was known than the choice of weights did. Every value is ours.
//
// Replay is a second source: within a task, sources are drawn by their weights, so 3 for the new one and 1 for the known
// one make a quarter (experiments/configs/finetune-small.json).

import { SIZE_RULES } from "../../data/transforms.ts";
import type { Preset } from "./presets.ts";

/** `finetune-small`. */
export const finetuneSmall: Preset = {
  purpose: "adapters (LoRA) over a checkpoint on a few hundred questions and answers, one card",
  values: {
    name: "finetune-small",
    model: { preset: "unimedvl-14b", checkpoint: null, dtype: "bf16" },
    tokenizer: { kind: "qwen2" },
    data: { workers: 2 },
    batch: { samples: 4 },
    accumulate: 4,
    optimizer: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clip: 1 },
    activationCheckpointing: { decoder: true, vit: true, connector: false },
    stages: [{
      name: "finetune",
      // Three quarters of 16 samples a step: 400 samples are seen 12 times at most.
      steps: 400,
      learningRate: 1e-4,
      schedule: "constant",
      warmup: 10,
      minLearningRate: 0,
      mix: { t2i: 0, i2t: 1, interleaved: 0, text: 0 },
      vae: { ...SIZE_RULES.trainVae },
      vit: { ...SIZE_RULES.trainEditVit },
      maxTokensPerSample: 4096,
      freeze: ["autoencoder.*"],
      loss: { text: 1, flow: 0, reweightText: false },
      timestepShift: 1,
      dropout: { text: 0, vit: 0, vae: 0 },
      ema: null,
    }],
    // Of ten questions an image, 400 questions are 40 images: in 50 steps each image is seen 15 times, each question 1.5.
    validate: { every: 50, samples: 64, generate: 0, ask: 64, patience: 3 },
    save: { every: 50, keep: 2, best: true },
    guards: { nonFinite: "stop" },
    lora: {
      rank: 8,
      alpha: 16,
      targets: ["und.layers.*.{attn,mlp}", "vit.layers.*.{attn,mlp}", "connector"],
    },
  },
  origins: [],
};
