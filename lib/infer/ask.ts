// Questions about images, and reports (reference: `InterleaveInferencer.chat` and the VQA script).

import type { Image } from "../data/resize.ts";
import { UsageError } from "../errors.ts";
import { PAGE } from "../ops/cached_attention.ts";
import type { OpenModel } from "./open_model.ts";
import {
  type Modality,
  presetPrompt,
  splitThought,
  THINK_PROMPTS,
  type ThinkSet,
} from "./prompts.ts";
import {
  needParts,
  noteUnknown,
  ruleFor,
  Session,
  textBlock,
  tokensOf,
  vitBlock,
  type WritingOptions,
} from "./session.ts";

/** How a question is answered. */
export interface AskOptions extends WritingOptions {
  /** Tokens at most. Default: 512. */
  maxTokens?: number;
  /** Think first, with the system prompt of one of the two models. Default: false. */
  think?: ThinkSet | false;
}

/** An answer. */
export interface Answer {
  text: string;
  /** What think mode thought before it. */
  thought?: string;
  /** Ids of everything written. */
  tokens: number[];
  /** Natural logarithm of each token's probability under the model. */
  logprobs: number[];
  /** False if the answer was cut at `maxTokens`. */
  ended: boolean;
  /** Tokens of prompt and images. */
  promptTokens: number;
}

/** One question with its images. */
export interface Question {
  images: readonly Image[];
  question: string;
}

/**
 * Answers a question about images: every image for the ViT, then the question, then the answer. Greedy unless a
 * temperature is given. Loads neither the gen expert nor the autoencoder.
 *
 * @param images one image, several, or none
 * @throws {InputError} If prompt, images and answer exceed the context
 * @throws {ResourceError} If model or cache exceed the memory budget
 */
export async function ask(
  open: OpenModel,
  images: Image | readonly Image[],
  question: string,
  options: AskOptions = {},
): Promise<Answer> {
  const list = "data" in images ? [images] : images;
  return (await askAll(open, [{ images: list, question }], options))[0];
}

/**
 * Answers several questions at once, each about its own images; the answers are those that {@link ask} gives.
 * `onText` gets the first one's text.
 */
export async function askAll(
  open: OpenModel,
  questions: readonly Question[],
  options: AskOptions = {},
): Promise<Answer[]> {
  const { maxTokens = 512, think = false } = options;
  if (questions.length === 0) return [];
  if (!(Number.isInteger(maxTokens) && maxTokens >= 1)) {
    throw new UsageError(`Cannot answer in ${maxTokens} tokens`, { help: "a whole number from 1" });
  }
  const rule = ruleFor(open.config, options.imageRule ?? "trainVit");
  const jobs = questions.map(({ images, question }) => [
    ...(think ? [textBlock(open, THINK_PROMPTS[think].understand)] : []),
    ...images.map((image) => vitBlock(image, rule, images.length)),
    textBlock(open, question, options.specialTokens),
  ]);
  const counts = jobs.map((blocks) => tokensOf(open, blocks));
  const longest = Math.max(...counts) + maxTokens + 2;
  const hasImages = questions.some(({ images }) => images.length > 0);
  const session = new Session(open, longest, options, counts.length * (longest + PAGE));
  try {
    await needParts(
      open,
      ["head", "und", ...(hasImages ? ["vit" as const] : [])],
      options,
      counts.reduce((a, b) => a + b, 0),
    );
    noteUnknown(open, questions.map(({ question }) => question), options);
    const contexts = jobs.map(() => session.context());
    await session.read(jobs.map((blocks, i) => ({ context: contexts[i], blocks })));
    const written = await session.write(contexts, { ...options, maxTokens });
    return written.map(({ text, ids, logprobs, ended }, i) => {
      const { thought, answer } = think ? splitThought(text) : { thought: undefined, answer: text };
      return {
        text: answer.trim(),
        ...(thought === undefined ? {} : { thought }),
        tokens: ids,
        logprobs,
        ended,
        promptTokens: counts[i],
      };
    });
  } finally {
    session.dispose();
  }
}

/** How a report is written. */
export interface ReportOptions extends AskOptions {
  /** Named in the prompt. Default: "medical". */
  modality?: Modality;
  /** A report preset of `PROMPTS`. Default: report. */
  preset?: string;
  /** Replaces the preset's text. */
  instruction?: string;
}

/** Writes a report about images: {@link ask} with a prompt for reports, 800 tokens at most by default. */
export function report(
  open: OpenModel,
  images: Image | readonly Image[],
  options: ReportOptions = {},
): Promise<Answer> {
  const { instruction, preset = "report", modality, ...rest } = options;
  const prompt = instruction ??
    presetPrompt("report", preset, modality ? { modality } : {});
  return ask(open, images, prompt, { maxTokens: 800, ...rest });
}
