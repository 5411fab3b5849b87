// The training config: one JSON record that decides everything a training does. Every field says here what it
// means and in which unit; types, checks and the JSON Schema follow from this one description. A complete config
// has every field; what may be left out in a file is filled in by resolve.ts.

import { z } from "zod";

/** Kinds of samples a mix weighs. */
export const MIX_TASKS = ["t2i", "i2t", "interleaved", "text"] as const;

/** Formats of records; `auto` looks at the files. */
export const RECORD_FORMATS = [
  "auto",
  "unimedvl",
  "vlm",
  "t2i",
  "edit",
  "folder",
  "vqa-rad",
  "medpack",
  "phantoms",
] as const;

const NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

const count = () => z.int().min(1);
const share = () => z.number().min(0).max(1);
const decay = () => z.number().min(0).lt(1);

const SOURCE = z.strictObject({
  name: z.string().regex(NAME).describe(
    "Name in logs and random keys: a-z, 0-9 and inner hyphens. Left out: the last part of the path",
  ),
  path: z.string().min(1).describe(
    'File or folder of records, or "phantoms" for generated images',
  ),
  format: z.enum(RECORD_FORMATS).describe('Format of the records; "auto" looks at the files'),
  weight: z.number().positive().nullable().describe(
    "Share of the source among those of the same task. null: its number of records",
  ),
  split: z.enum(["train", "val", "test"]).nullable().describe(
    "Only records of this split; records without one count as train. null: all records",
  ),
  exclude: z.string().min(1).nullable().describe(
    "List of records to leave out, as deno task data check --fix writes it. null: none are",
  ),
  images: z.string().min(1).nullable().describe(
    "unimedvl, vlm: folder that image paths start from. null: the folder with the file",
  ),
});

const MODEL = z.strictObject({
  preset: z.string().min(1).describe(
    'Sizes of the model: "tiny", "small", "unimedvl-14b", or a folder whose config.json has them',
  ),
  checkpoint: z.string().min(1).nullable().describe(
    "Checkpoint folder or run to start from. null: weights are drawn",
  ),
  init: z.enum(["reference", "fan-in"]).describe(
    "How weights are drawn where no checkpoint gives them: the reference's N(0, 0.02), or by the size of a layer's input",
  ),
  dtype: z.enum(["f32", "bf16"]).describe(
    "Storage of trained weights on the device; bf16 keeps f32 masters in the optimizer",
  ),
});

const TOKENIZER = z.strictObject({
  kind: z.enum(["words", "qwen2"]).describe("Whole words for small models, or Qwen2's byte pairs"),
  words: z.string().min(1).nullable().describe(
    'words: file with {"type": "words", "words": [a list of texts]}, as words.json of a small model. null: that of the checkpoint, else the words of the phantoms',
  ),
  dir: z.string().min(1).nullable().describe(
    "qwen2: folder with vocab.json and merges.txt. null: the checkpoint's folder",
  ),
});

const DATA = z.strictObject({
  sources: z.array(SOURCE).describe("Where training records come from"),
  validation: z.array(SOURCE).describe("Where records of the validation loss come from"),
  workers: z.int().min(0).describe("Threads that read, resize and tokenize; 0: the main one does"),
  prefetch: count().describe("Batches made ahead of the one in use"),
  latentCache: z.string().min(1).nullable().describe(
    "Folder that keeps latents of the frozen autoencoder by content. null: encode every time",
  ),
  mostBad: share().describe(
    "Share of records that may be unusable; they are skipped and counted. 0: the first one stops the run",
  ),
  checkUpTo: z.int().min(0).describe(
    "Data of at most so many records is checked before the first step, as by deno task data check. Of more, and with 0, each record is only checked as it is read",
  ),
  leaks: z.enum(["refuse", "tell"]).describe(
    "Training records with an image that is held out too, or one that looks the same: refuse: they are unusable; tell: they are trained on, with a warning",
  ),
});

const SAMPLES = z.strictObject({
  samples: count().describe("Samples in a micro-batch"),
});

const TOKENS = z.strictObject({
  expectedTokens: count().describe("A micro-batch is given out once it holds this many tokens"),
  maxTokens: count().describe("Most tokens in a micro-batch"),
  preferBufferBefore: z.int().min(0).describe(
    "Below this many tokens, samples set aside earlier are taken first",
  ),
  buffer: z.int().min(0).describe("Most samples set aside because they did not fit"),
});

const OPTIMIZER = z.strictObject({
  beta1: decay().describe("AdamW: decay of the mean gradient"),
  beta2: decay().describe("AdamW: decay of the mean squared gradient"),
  epsilon: z.number().positive().describe("AdamW: added to the root of the mean square"),
  weightDecay: z.number().min(0).describe("AdamW: decay of weights per update, times the rate"),
  clip: z.number().positive().nullable().describe(
    "Largest global L2 norm of the gradient; longer ones are scaled down. null: no limit",
  ),
});

const CHECKPOINTING = z.strictObject({
  decoder: z.boolean().describe("Compute the decoder's layers again in the backward pass"),
  vit: z.boolean().describe("Compute the image encoder's layers again in the backward pass"),
  connector: z.boolean().describe("Compute the connector again in the backward pass"),
});

const sizeRule = (encoder: string) =>
  z.strictObject({
    min: count().describe("Shortest edge wanted, pixels; gives way to max"),
    max: count().describe("Longest edge, pixels"),
    stride: count().describe("Both edges become multiples of this, pixels"),
    maxPixels: count().describe("Area of all images of a sample together, pixels"),
  }).describe(`Size of images for ${encoder}`);

const STAGE = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9-]*$/).describe(
    "Name of the stage: a-z first, then a-z, 0-9 and hyphens",
  ),
  steps: count().describe("Updates of this stage"),
  learningRate: z.number().min(0).describe("Learning rate after the warm-up"),
  schedule: z.enum(["constant", "cosine", "linear"]).describe(
    "How the rate goes on after the warm-up",
  ),
  warmup: z.int().min(0).describe("Updates over which the rate rises from 0"),
  minLearningRate: z.number().min(0).describe("cosine and linear: the rate at the stage's end"),
  resetOptimizer: z.boolean().describe(
    "Begin with zero moments and step counts; the average of weights goes on",
  ),
  mix: z.strictObject({
    t2i: z.number().min(0).describe("Text to image"),
    i2t: z.number().min(0).describe("Image to text"),
    interleaved: z.number().min(0).describe("Texts and images in turn"),
    text: z.number().min(0).describe("Text alone"),
  }).describe("Weights of the tasks, in any unit: only their ratios count"),
  vae: sizeRule("the generation side (latents)"),
  vit: sizeRule("the understanding side (ViT)"),
  maxTokensPerSample: count().describe("Longer samples are left out and counted, tokens"),
  freeze: z.array(z.string().min(1)).describe(
    'Patterns of parameters that do not train in this stage, such as "vit.*"',
  ),
  loss: z.strictObject({
    text: z.number().min(0).describe("Weight of the cross-entropy"),
    flow: z.number().min(0).describe("Weight of the flow loss (mean squared error)"),
    reweightText: z.boolean().describe("Weigh a text by one over the root of its tokens"),
  }).describe("Weights of the losses"),
  timestepShift: z.number().positive().describe(
    "Shift s of the timesteps: t ← s·t / (1 + (s − 1)·t)",
  ),
  dropout: z.strictObject({
    text: share().describe("Chance that a text is dropped"),
    vit: share().describe("Chance that an image is dropped on the understanding side"),
    vae: share().describe("Chance that a clean image is dropped on the generation side"),
  }).describe("Chance that a condition is left out"),
  ema: decay().nullable().describe(
    "Decay of the moving average of weights per update. null: the average stands still; no average is kept if every stage says null",
  ),
});

const VALIDATE = z.strictObject({
  every: z.int().min(0).describe("Updates between validations; 0: none"),
  samples: count().describe("Samples of the validation loss"),
  generate: z.int().min(0).describe("Images drawn at each validation; 0: none"),
  ask: z.int().min(0).describe("Questions answered at each validation; 0: none"),
  patience: count().nullable().describe(
    "End the training after this many validations in a row whose loss is not the lowest. null: never",
  ),
});

const GUARDS = z.strictObject({
  nonFinite: z.enum(["stop", "skip"]).describe(
    "At a loss or gradient that is not finite: stop with the batch saved, or skip the update and count",
  ),
  mostSkipped: count().describe("skip: this many updates skipped in a row stop the run"),
  divergenceFactor: z.number().min(1).describe(
    "Warn when the mean loss of a window exceeds the best window's by this factor",
  ),
  divergenceWindow: count().describe("Updates in such a window"),
});

const LORA = z.strictObject({
  rank: count().describe("Rank r of each pair of adapters"),
  alpha: z.number().positive().describe("The adapters' product is scaled by alpha / rank"),
  targets: z.array(z.string().min(1)).describe(
    'Patterns of linear layers that get adapters, such as "und.layers.*.attn.q"',
  ),
});

/** A complete training config. */
export const TRAIN_CONFIG = z.strictObject({
  name: z.string().regex(NAME).describe(
    "Name of the training: a-z, 0-9 and inner hyphens",
  ),
  seed: z.int().min(0).describe("Key of everything random"),
  model: MODEL.describe("What is trained"),
  tokenizer: TOKENIZER.describe("How texts become tokens"),
  data: DATA.describe("What it is trained on"),
  batch: z.union([SAMPLES, TOKENS]).describe(
    "What a micro-batch holds: a number of samples, or a budget of tokens",
  ),
  accumulate: count().describe("Micro-batches of each process in the window of one update"),
  optimizer: OPTIMIZER.describe("AdamW"),
  activationCheckpointing: CHECKPOINTING.describe(
    "Save memory by computing activations twice; the gradients are the same",
  ),
  stages: z.array(STAGE).min(1).describe("Stages of the curriculum, in order"),
  validate: VALIDATE.describe("Checks while training"),
  save: z.strictObject({
    every: count().describe("Updates between checkpoints; the last update is always saved"),
    keep: count().describe("Newest checkpoints kept"),
    best: z.boolean().describe(
      'Also save after a validation whose loss is the stage\'s lowest, and keep it as "best"',
    ),
  }).describe("Checkpoints"),
  log: z.strictObject({
    every: count().describe("Updates between rows of metrics"),
  }).describe("The run record"),
  guards: GUARDS.describe("What to do when numbers go bad"),
  lora: LORA.nullable().describe(
    "Train low-rank adapters and nothing else. null: train the weights",
  ),
  parallel: z.strictObject({
    shardOptimizer: z.boolean().describe("Each process keeps a part of the optimizer's state"),
    bucketBytes: count().describe("Bytes of gradients exchanged at a time"),
  }).describe("Several processes"),
});

/** A complete training config, as resolved. */
export type TrainConfig = z.infer<typeof TRAIN_CONFIG>;

/** One stage of the curriculum. */
export type StageConfig = TrainConfig["stages"][number];

/** One source of records. */
export type SourceConfig = TrainConfig["data"]["sources"][number];

/** What a micro-batch holds. */
export type BatchConfig = TrainConfig["batch"];

/** Low-rank adapters. */
export type LoraConfig = NonNullable<TrainConfig["lora"]>;
