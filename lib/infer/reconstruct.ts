// UniMedVL's answer-then-reconstruct (reference: `inference_ver` 1): the model answers about images, then draws
// each of them again, with its answer as a condition.

import type { Image } from "../data/resize.ts";
import { latentStride } from "../model/config.ts";
import { PAGE } from "../ops/cached_attention.ts";
import { drawInto, type Drawn, NoiseSource } from "./draw.ts";
import { latentBlock, posteriorSize } from "./images.ts";
import { ConditionReader, Contexts, drawnSize, type InterleaveOptions } from "./interleave.ts";
import { normalize } from "../data/transforms.ts";
import { normalNoise } from "../data/noise.ts";
import type { OpenModel } from "./open_model.ts";
import type { Block } from "./pass.ts";
import { needParts, Session, textBlock, tokensOf } from "./session.ts";

/** How images are answered about and drawn again. */
export type ReconstructOptions = Omit<InterleaveOptions, "understand" | "think" | "size">;

/** An answer and the images drawn with it, none if the answer is blank. */
export interface Reconstructed {
  text: string;
  tokens: number[];
  images: Drawn[];
}

/**
 * Answers a question about images, then draws each image at its own size from images, question and answer.
 * Each drawn image is read, by its latents, before the next one is drawn. Guidance by default: text 4, image 2.
 */
export async function reconstruct(
  open: OpenModel,
  pictures: Image | readonly Image[],
  question: string,
  options: ReconstructOptions = {},
): Promise<Reconstructed> {
  const { maxTokens = 1000, rules } = options;
  const images = "data" in pictures ? [pictures] : pictures;
  const reader = new ConditionReader(open, options);
  const sizes = images.map((image) => drawnSize(open, image, rules));
  const noise = new NoiseSource(options.seed ?? 42, options.noise ?? "torch");
  const text = textBlock(open, question, options.specialTokens);
  const stride = latentStride(open.config);
  const drawn = sizes.map(({ width, height }) => (width / stride) * (height / stride) + 2);
  const textTokens = tokensOf(open, [text]);
  const read = textTokens + images.reduce((n, image) => n + reader.tokens(image, true), 0);
  const all = drawn.reduce((a, b) => a + b, 0);
  const longest = read + maxTokens + 2 + all + Math.max(0, ...drawn);
  const capacity = longest + textTokens + 2 * (maxTokens + 2) + all + 3 * Math.max(0, ...drawn) +
    4 * PAGE * (images.length + 2);
  const session = new Session(open, longest, options, capacity);
  try {
    await needParts(
      open,
      ["head", "und", "vit", "gen", "latent", "encoder", "decoder"],
      options,
      Math.max(read, ...drawn),
    );
    const contexts = new Contexts(session);
    for (const image of images) {
      await contexts.image([await reader.latents(image), reader.vit(image)]);
    }
    contexts.part();
    await contexts.text(text, false);
    const speaker = contexts.main.fork();
    const [{ ids, text: answer }] = await session.write([speaker], { ...options, maxTokens });
    speaker.dispose();
    if (answer.trim() === "") return { text: "", tokens: ids, images: [] };
    const { bos, eos } = open.special;
    await contexts.text({ kind: "text", ids: [bos, ...ids, eos] });

    const guidance = { textGuidance: 4, imageGuidance: 2, ...open.defaults, ...options };
    const results: Drawn[] = [];
    for (const [i, size] of sizes.entries()) {
      const [image] = await drawInto(
        open,
        [{ contexts: contexts.forDrawing(), ...size }],
        noise,
        guidance,
      );
      results.push(image);
      if (i + 1 === sizes.length) break;
      const block = await drawnBlock(open, image.image, options, i);
      const readings = [contexts.main, contexts.withoutText].map((context) => ({
        context,
        blocks: [block],
      }));
      await session.read(readings);
    }
    return { text: answer.trim(), tokens: ids, images: results };
  } finally {
    session.dispose();
  }
}

/** The latents of a drawn image, at the size it was drawn. */
function drawnBlock(
  open: OpenModel,
  image: Image,
  options: ReconstructOptions,
  i: number,
): Promise<Block> {
  const n = posteriorSize(open.model, image.height, image.width);
  const sampled = normalNoise(n, "posterior", options.seed ?? 42, "drawn", i);
  return latentBlock(
    open.model,
    open.encoder,
    normalize(image),
    options.posterior === "mean" ? null : sampled,
  );
}
