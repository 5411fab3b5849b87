// Images from text, and from images and an instruction.

import type { Image } from "../data/resize.ts";
import { UsageError } from "../errors.ts";
import { latentStride } from "../model/config.ts";
import { PAGE } from "../ops/cached_attention.ts";
import { drawInto, type Drawn, NoiseSource, sizeOf } from "./draw.ts";
import { drawnSize, interleave, type InterleaveOptions } from "./interleave.ts";
import type { OpenModel } from "./open_model.ts";
import { type Modality, presetPrompt, type ThinkSet } from "./prompts.ts";
import { needParts, Session, textBlock, tokensOf } from "./session.ts";

/** How an image is generated from text. */
export type GenerateOptions = Omit<InterleaveOptions, "understand">;

/** A generated image, with what think mode thought before it. */
export interface Generated extends Drawn {
  thought?: string;
}

/**
 * Draws an image from a text. Loads neither the image encoders nor, unless it thinks, the text head.
 *
 * Guidance by default as in BAGEL's demo: text 4, within (0.4, 1], global renormalization; 50 grid points.
 *
 * @param prompt what the image shows
 */
export async function generate(
  open: OpenModel,
  prompt: string,
  options: GenerateOptions = {},
): Promise<Generated> {
  refuseEmpty(prompt);
  const { thought, drawn } = await interleave(open, [prompt], options);
  return { ...drawn!, ...(thought === undefined ? {} : { thought }) };
}

function refuseEmpty(prompt: string): void {
  if (prompt.trim() !== "") return;
  throw new UsageError("Cannot generate from an empty prompt", {
    help: "say what the image shows",
  });
}

/**
 * Draws an image for each of several texts, all together: every step is one pass over all of them, and each image
 * has noise of its own. Without think mode.
 *
 * @returns in the order of the prompts
 */
export async function generateAll(
  open: OpenModel,
  prompts: readonly string[],
  options: Omit<GenerateOptions, "think" | "thinkInImageContext"> = {},
): Promise<Drawn[]> {
  if (prompts.length === 0) return [];
  prompts.forEach(refuseEmpty);
  const size = options.size === undefined ? drawnSize(open, undefined) : sizeOf(open, options.size);
  const noise = new NoiseSource(options.seed ?? 42, options.noise ?? "torch");
  const blocks = prompts.map((prompt) => textBlock(open, prompt, options.specialTokens));
  const stride = latentStride(open.config);
  const drawn = (size.width / stride) * (size.height / stride) + 2;
  const longest = Math.max(...blocks.map((block) => tokensOf(open, [block]))) + drawn;
  // Each image has a context with its text and an empty one, both with room for its latents.
  const session = new Session(
    open,
    longest,
    options,
    prompts.length * (longest + drawn + 2 * PAGE),
  );
  try {
    await needParts(open, ["und", "gen", "latent", "decoder"], options, longest);
    const contexts = prompts.map(() => session.context());
    await session.read(contexts.map((context, i) => ({ context, blocks: [blocks[i]] })));
    const jobs = contexts.map((main) => ({
      contexts: { main, withoutText: session.context(), withoutImages: main },
      ...size,
    }));
    return await drawInto(open, jobs, noise, options);
  } finally {
    session.dispose();
  }
}

/** How an image is edited. */
export interface EditOptions extends Omit<InterleaveOptions, "understand" | "think"> {
  /**
   * What is added to the instruction: `answer`, as UniMedVL's script does, the model's own answer to it;
   * `think`, the same in think mode; `none`. Default: answer.
   */
  plan?: "answer" | "think" | "none";
  /** Whose think prompts. Default: unimedvl. */
  thinkSet?: ThinkSet;
  /** Tokens of the plan at most. Default: 800. */
  maxTokens?: number;
}

/** An edited image, with the plan it was drawn by. */
export interface Edited extends Drawn {
  /** The model's answer to the instruction, if there was a plan. */
  plan?: string;
  /** The text the image was drawn by. */
  instruction: string;
}

/** UniMedVL's guidance for editing. */
const EDITING = {
  textGuidance: 4,
  imageGuidance: 2,
  interval: [0, 1],
  renorm: "text_channel",
} as const;

/**
 * Draws an image from images and an instruction (reference: UniMedVL's `interactive_image_generator`): the model
 * first answers the instruction, then draws by instruction and answer. Condition images are read by both
 * encoders; the size is that of the last image unless given.
 */
export async function edit(
  open: OpenModel,
  images: Image | readonly Image[],
  instruction: string,
  options: EditOptions = {},
): Promise<Edited> {
  const list = "data" in images ? [images] : [...images];
  if (list.length === 0) {
    throw new UsageError("Cannot edit without an image", { help: "give one or more" });
  }
  const { plan: kind = "answer", thinkSet = "unimedvl", maxTokens = 800, ...drawing } = options;
  let text = instruction;
  let plan: string | undefined;
  if (kind !== "none") {
    const question = kind === "think"
      ? `Analyze this medical image and develop an editing strategy for: '${instruction}'.`
      : instruction;
    const { seed: _drawn, ...writing } = drawing;
    const answer = await interleave(open, [...list, question], {
      ...writing,
      understand: true,
      think: kind === "think" ? thinkSet : false,
      maxTokens,
    });
    plan = answer.text ?? "";
    if (plan.trim() !== "") {
      text = kind === "think"
        ? `${instruction}\n\nBased on analysis: ${plan}`
        : `${instruction}\n\n${plan}`;
    }
  }
  const { drawn } = await interleave(open, [...list, text], {
    ...EDITING,
    ...open.defaults,
    ...drawing,
  });
  return { ...drawn!, instruction: text, ...(plan === undefined ? {} : { plan }) };
}

/**
 * Draws a mask of what is named, white on black: {@link edit} with the segmentation prompt and no plan.
 *
 * @param target what to segment: "left lung", "polyp"
 */
export function segment(
  open: OpenModel,
  image: Image,
  target: string,
  options: EditOptions & { modality?: Modality; preset?: string } = {},
): Promise<Edited> {
  const { modality, preset = "segmentation", ...rest } = options;
  const prompt = presetPrompt("segment", preset, {
    text: target,
    ...(modality ? { modality } : {}),
  });
  return edit(open, image, prompt, { plan: "none", ...rest });
}

/**
 * How an image would look under another condition, in words and as an image: {@link edit} with the
 * counterfactual prompt; the words are its plan.
 */
export async function counterfactual(
  open: OpenModel,
  image: Image,
  condition: string,
  options: EditOptions & { modality?: Modality } = {},
): Promise<Edited & { text: string }> {
  const { modality, ...rest } = options;
  const prompt = presetPrompt("report", "counterfactual", {
    text: condition,
    ...(modality ? { modality } : {}),
  });
  const edited = await edit(open, image, prompt, {
    ...rest,
    plan: rest.plan === "think" ? "think" : "answer",
  });
  return { ...edited, text: edited.plan ?? "" };
}
