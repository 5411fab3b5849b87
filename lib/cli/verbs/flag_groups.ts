// Flags that several verbs share, under the names of the library's options.

import { WINDOW_PRESETS } from "../../data/picture.ts";
import { RENORMS } from "../../infer/guidance.ts";
import { MODALITIES, type Modality } from "../../infer/prompts.ts";
import type { Flag, Flags, FlagValues } from "../flags.ts";
import { PROFILE_FLAGS } from "../profile_flag.ts";

/** The model and where it runs. */
export const MODEL_FLAGS = {
  model: { type: "string", unit: "DIR", help: "the model folder: config, tokenizer, weights" },
  lora: { type: "string", unit: "FILE", help: "adapters that were trained over this model" },
  adapter: {
    type: "string",
    default: "any",
    choices: ["any", "gpu", "software"],
    help: "what computes; any prefers hardware",
  },
  budget: {
    type: "bytes",
    unit: "SIZE",
    help: "most device memory, such as 8GB (default: 6GB; on a software adapter 60 % of memory)",
  },
  ...PROFILE_FLAGS,
} as const satisfies Flags;

/** How images are read. */
export const IMAGE_FLAGS = {
  image: { type: "string", unit: "PATH", help: "an image; may be repeated" },
  window: {
    type: "string",
    unit: "WINDOW",
    help: `of DICOM, NIfTI, 16-bit grey: center/width, auto, full, or for CT ${
      Object.keys(WINDOW_PRESETS).join(", ")
    } (default: the file's own)`,
  },
  slice: { type: "string", unit: "N|middle", help: "of a volume, from 0 (default middle)" },
  axis: {
    type: "string",
    choices: ["axial", "coronal", "sagittal"],
    help: "of a volume: plane of the slice (default axial)",
  },
  volume: { type: "integer", min: 0, help: "of a series of volumes (default 0)" },
  frame: { type: "integer", min: 0, help: "of DICOM, TIFF, WebP (default 0)" },
} as const satisfies Flags;

/** A text that is no argument. */
export const TEXT_FLAG = {
  text: { type: "string", unit: "TEXT", help: "the text, instead of an argument; - reads stdin" },
} as const satisfies Flags;

/** Prompts by name. */
export const PRESET_FLAGS = {
  preset: { type: "string", unit: "NAME", help: "a prompt by name" },
  listPresets: { type: "boolean", help: "list the prompts and the modalities; needs no model" },
} as const satisfies Flags;

/** The modality that presets name. */
export const MODALITY_FLAG = {
  modality: {
    type: "string",
    choices: Object.keys(MODALITIES) as Modality[],
    help: "named in the preset",
  },
} as const satisfies Flags;

/** How text is written. */
export const WRITING_FLAGS = {
  maxTokens: {
    type: "integer",
    default: 512,
    min: 1,
    unit: "tokens",
    help: "length of the text, at most",
  },
  temperature: {
    type: "number",
    default: 0,
    min: 0,
    help: "0 takes the most likely token, 1 the model's own odds",
  },
  topK: { type: "integer", default: 0, min: 0, help: "only this many, the likeliest; 0 for all" },
  topP: {
    type: "number",
    default: 1,
    help: "only the likeliest that together have this probability",
  },
} as const satisfies Flags;

/** What may be read. */
export const CONTEXT_FLAGS = {
  context: {
    type: "integer",
    default: 32768,
    min: 1,
    unit: "tokens",
    help: "room for prompt, images and answer together",
  },
  specialTokens: {
    type: "boolean",
    help: "special tokens such as <|im_end|> in the text count as such",
  },
} as const satisfies Flags;

/** Sizes of images that are only looked at. */
export const RULE_FLAG = {
  imageRule: {
    type: "string",
    default: "trainVit",
    choices: ["trainVit", "bagelVit", "trainEditVit", "unimedvlVit"],
    help: "size of images: shortest edge at least 378, 224, 224 or 387 pixels; 14 × 14 are a token",
  },
} as const satisfies Flags;

/** Thinking before the answer. */
export const THINK_FLAG = {
  think: {
    type: "string",
    choices: ["unimedvl", "bagel"],
    help: "think first, with the system prompt of that model",
  },
} as const satisfies Flags;

/** The seed of a verb that only writes. */
export const SEED_FLAG = {
  seed: { type: "integer", default: 0, min: 0, help: "decides what is drawn by chance" },
} as const satisfies Flags;

/** How an image is drawn. A model folder may have defaults of its own. */
export const DRAWING_FLAGS = {
  steps: { type: "integer", min: 2, help: "points of the time grid (default 50)" },
  shift: { type: "number", help: "shift of the time grid (default 3)" },
  seed: { type: "integer", min: 0, help: "decides noise and sampling (default 42)" },
  noise: {
    type: "string",
    choices: ["torch", "keyed"],
    help: "torch: as the reference draws it for a seed (default); keyed: our own",
  },
  textGuidance: { type: "number", help: "1 is none (default 4)" },
  imageGuidance: { type: "number", help: "1 is none (default 1.5; to edit 2)" },
  interval: {
    type: "list",
    unit: "LOW,HIGH",
    help: "timesteps with guidance, 1 = noise (default 0.4,1; to edit 0,1)",
  },
  renorm: {
    type: "string",
    choices: RENORMS,
    help: "size of the guided velocity (default global; to edit text_channel)",
  },
  renormMin: { type: "number", help: "its smallest factor; 1 is off (default 0)" },
  preview: { type: "boolean", help: "show the image as it becomes, in OUT.preview.png" },
  previewEvery: {
    type: "integer",
    min: 1,
    unit: "steps",
    help: "steps between previews (default 5)",
  },
} as const satisfies Flags;

/** How images are read as conditions of a drawing. */
export const CONDITION_FLAGS = {
  rules: {
    type: "string",
    choices: ["unimedvl", "bagel"],
    help: "whose image sizes (default unimedvl)",
  },
  posterior: {
    type: "string",
    choices: ["sample", "mean"],
    help: "latents of the images given (default sample)",
  },
} as const satisfies Flags;

/** The size of a drawing. */
export const SIZE_FLAG = {
  size: {
    type: "string",
    unit: "N|WxH",
    help: "pixels (default: the last image's, by the model's rule)",
  },
} as const satisfies Flags;

/** Where a drawing goes. */
export function pictureOut(verb: string) {
  return {
    out: { type: "string", unit: "FILE.png", default: `results/${verb}.png`, help: "the image" },
  } as const satisfies Flags;
}

/** Where an answer goes beside stdout. */
export const ANSWER_OUT = {
  out: { type: "string", unit: "FILE", help: "write the answer there too" },
} as const satisfies Flags;

/** Exit codes of verbs. */
export const VERB_EXITS = {
  3: "an image, the model folder or the prompt cannot be used",
  4: "no adapter, or out of memory or disk",
} as const;

/** A flag's values under another default. */
export function defaulting<F extends Flag, D>(flag: F, value: D): F & { default: D } {
  return { ...flag, default: value };
}

/** The values that were typed or have a default, of some flags. */
export function present<T extends object, K extends keyof T>(
  values: T,
  names: readonly K[],
): { [P in K]?: Exclude<T[P], undefined> } {
  const found: { [P in K]?: Exclude<T[P], undefined> } = {};
  for (const name of names) {
    if (values[name] !== undefined) found[name] = values[name] as Exclude<T[K], undefined>;
  }
  return found;
}

/** Values of {@link IMAGE_FLAGS}. */
export type ImageFlagValues = FlagValues<typeof IMAGE_FLAGS>;
/** Values of {@link MODEL_FLAGS}. */
export type ModelFlagValues = FlagValues<typeof MODEL_FLAGS>;
/** Values of {@link DRAWING_FLAGS}. */
export type DrawingFlagValues = FlagValues<typeof DRAWING_FLAGS>;
