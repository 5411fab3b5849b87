// Prompts one can ask for by name: the paper's understanding and generation tasks, its eight modalities, and the
// system prompts of the two think modes.

import { UsageError } from "../errors.ts";
import { nearestName } from "../data/edit_distance.ts";

/** The modalities of the paper, by the short names of its tables. */
export const MODALITIES = {
  cfp: "color fundus photography",
  cxr: "chest X-ray",
  ct: "CT",
  his: "histopathology",
  mri: "MRI",
  oct: "OCT",
  us: "ultrasound",
  endo: "endoscopy",
} as const;

/** A modality's short name. */
export type Modality = keyof typeof MODALITIES;

/** What a preset prompt is for. */
export interface PromptPreset {
  /** The verb that takes it. */
  verb: "ask" | "report" | "generate" | "edit" | "segment";
  /** What it is for, one line. */
  purpose: string;
  /** The text; `{modality}` and `{text}` stand for the modality in words and for the user's own text. */
  prompt: string;
}

/** Presets by name. The wordings are ours; only the opening of `synthesis` is the paper's. */
export const PROMPTS: Record<string, PromptPreset> = {
  modality: {
    verb: "ask",
    purpose: "which kind of image it is",
    prompt: "What imaging modality was used to take this image?",
  },
  anatomy: {
    verb: "ask",
    purpose: "which organ or region is shown",
    prompt: "Which organ or part of the body does this image show?",
  },
  abnormality: {
    verb: "ask",
    purpose: "whether something is abnormal, and what",
    prompt: "Is there an abnormality in this image? If so, describe it.",
  },
  location: {
    verb: "ask",
    purpose: "where the main finding lies",
    prompt: "Where in the image is the main abnormality located?",
  },
  diagnosis: {
    verb: "ask",
    purpose: "the most likely diagnosis",
    prompt: "What is the most likely diagnosis for this image?",
  },
  severity: {
    verb: "ask",
    purpose: "how severe the finding is",
    prompt: "How severe is the abnormality shown in this image?",
  },
  count: {
    verb: "ask",
    purpose: "how many lesions there are",
    prompt: "How many lesions can be seen in this image?",
  },
  caption: {
    verb: "ask",
    purpose: "a description in a sentence or two",
    prompt: "Describe this medical image briefly.",
  },
  reasoning: {
    verb: "ask",
    purpose: "an answer with its reasons (distilled chain of thought)",
    prompt: "{text} Explain your reasoning step by step before you answer.",
  },
  report: {
    verb: "report",
    purpose: "findings and impression",
    prompt:
      "Write a radiology report for this {modality} image, with the sections Findings and Impression.",
  },
  structured: {
    verb: "report",
    purpose: "a reading in five parts",
    prompt:
      "Read this {modality} image in five parts: image type and view, normal anatomy, abnormal findings, " +
      "overall impression, and suggestions for further examination.",
  },
  counterfactual: {
    verb: "report",
    purpose: "what would differ under another condition, in words and as an image",
    prompt: "Describe how this {modality} image would look if the following held: {text}",
  },
  synthesis: {
    verb: "generate",
    purpose: "an image from a description",
    prompt: "Please generate a realistic {modality} image showing {text}",
  },
  "super-resolution": {
    verb: "edit",
    purpose: "a sharper image of the same",
    prompt:
      "Restore this low-resolution {modality} image at high resolution, keeping all anatomy as it is.",
  },
  staining: {
    verb: "edit",
    purpose: "virtual immunohistochemistry of an H&E tile",
    prompt: "Render this H&E stained tile as an immunohistochemistry image: {text}",
  },
  "cross-modality": {
    verb: "edit",
    purpose: "the same anatomy in another sequence or modality",
    prompt: "Convert this {modality} image into {text}, keeping the anatomy as it is.",
  },
  segmentation: {
    verb: "segment",
    purpose: "a mask of what is named",
    prompt: "Segment the {text} in this {modality} image: draw it white on black.",
  },
};

/**
 * The text of a preset.
 *
 * @throws {UsageError} If there is no such preset for the verb, or it needs a text that was not given
 */
export function presetPrompt(
  verb: PromptPreset["verb"],
  name: string,
  fill: { text?: string; modality?: Modality } = {},
): string {
  const names = Object.keys(PROMPTS).filter((key) => PROMPTS[key].verb === verb);
  if (!names.includes(name)) {
    const near = nearestName(name, names);
    throw new UsageError(`Cannot ${verb} with preset "${name}": there is none of that name`, {
      help: `${near ? `did you mean ${near}? ` : ""}presets for ${verb} are ${names.join(", ")}`,
    });
  }
  const { prompt } = PROMPTS[name];
  if (prompt.includes("{text}") && !fill.text?.trim()) {
    throw new UsageError(`Cannot ${verb} with preset "${name}": it needs a text`, {
      help: `it reads: ${prompt}`,
    });
  }
  const modality = fill.modality ? MODALITIES[fill.modality] : "medical";
  return prompt.replaceAll("{modality}", modality).replaceAll("{text}", fill.text?.trim() ?? "");
}

/**
 * System prompts of think mode, byte for byte as the models were trained with them (reference-model.md §6.7;
 * both repositories, Apache-2.0).
 */
export const THINK_PROMPTS = {
  bagel: {
    understand:
      "You should first think about the reasoning process in the mind and then provide the user with the answer. \n" +
      "The reasoning process is enclosed within <think> </think> tags, i.e. <think> reasoning process here </think> answer here",
    draw:
      "You should first think about the planning process in the mind and then generate the image. \n" +
      "The planning process is enclosed within <think> </think> tags, i.e. <think> planning process here </think> image here",
  },
  unimedvl: {
    understand:
      "You should first think about the reasoning process in the mind and then provide the user with the answer.\n" +
      "The reasoning process is enclosed within <think> </think> tags, i.e. <think> reasoning process here </think> answer here",
    draw:
      "You should first think about the planning process in your mind, and then generate the image.\n" +
      "The planning process is enclosed within <think> </think> tags; that is, <think> planning process here </think> image here.\n",
  },
} as const;

/** A set of think prompts. */
export type ThinkSet = keyof typeof THINK_PROMPTS;

/** Splits what think mode wrote into the thought and what follows it; a text without tags is all answer. */
export function splitThought(text: string): { thought?: string; answer: string } {
  const found = /^\s*<think>([\s\S]*?)(?:<\/think>([\s\S]*))?$/.exec(text);
  if (!found) return { answer: text };
  return { thought: found[1].trim(), answer: (found[2] ?? "").trim() };
}
