// Fine-tuning on a few hundred samples. What ruins such trainings (a lost language, a colour cast, forgetting after
// some thousand updates) is moving every weight of a large model far; here only low-rank adapters of the
// understanding side's attention move, at a rate that falls to zero, for a bounded number of updates. Every value
// is ours.

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
      steps: 200,
      learningRate: 1e-4,
      schedule: "cosine",
      warmup: 20,
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
    validate: { every: 25, samples: 64, generate: 0, ask: 64 },
    save: { every: 25, keep: 3 },
    guards: { nonFinite: "stop" },
    lora: { rank: 8, alpha: 16, targets: ["und.layers.*.attn.{q,k,v,o}"] },
  },
  origins: [],
};
