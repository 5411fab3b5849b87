// Training samples of real images. Every batch is a function of (seed, step) alone, so that arms see the
// same understanding samples whether or not they also draw.

import { normalNoise } from "../../lib/data/noise.ts";
import { Draws, endlessOrder } from "../../lib/data/draws.ts";
import { DENOISE_SIGMA } from "../../lib/data/phantoms/pictures.ts";
import type { Sample } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import type { WordTokenizer } from "../../lib/data/words.ts";
import { questionSample } from "../../lib/study/vqa.ts";
import type { DemoConfig } from "./config.ts";
import { type DataItem, DENOISE_TEXT } from "./data_questions.ts";

/** An item with its picture. */
export interface Pictured extends DataItem {
  image: Pixels;
}

/** Batches by step, of images that have questions: each with a few of them, drawn anew. */
export function understandingOf(
  items: readonly Pictured[],
  tokenizer: WordTokenizer,
  { seed, images, questions: most }: DemoConfig,
): (step: number) => Sample[] {
  const asked = items.filter(({ questions }) => questions.length > 0);
  const at = endlessOrder(asked.length, seed, "data understanding");
  return (step) =>
    Array.from({ length: images }, (_, i) => {
      const { image, questions } = asked[at(step * images + i)];
      const order = new Draws("data asked", seed, step, i).order(questions.length);
      return questionSample(
        image,
        [...order.subarray(0, most)].map((k) => ({
          question: tokenizer.encode(questions[k].question),
          answer: tokenizer.encode(questions[k].answer),
        })),
      );
    });
}

/** Batches by step: the first half of a batch is drawn from captions, the second from noisy copies. */
export function generationOf(
  items: readonly Pictured[],
  tokenizer: WordTokenizer,
  { seed, drawings }: DemoConfig,
): (step: number) => Sample[] {
  const at = endlessOrder(items.length, seed, "data generation");
  const fromText = Math.ceil(drawings / 2);
  return (step) =>
    Array.from({ length: drawings }, (_, i) => {
      const { image, captions } = items[at(step * drawings + i)];
      if (i >= fromText) return denoiseSample(image, tokenizer, [seed, step, i]);
      const caption = new Draws("data caption", seed, step, i).pick(captions);
      return captionSample(image, caption, tokenizer);
    });
}

/** Caption, then the image to draw. */
export function captionSample(image: Pixels, caption: string, tokenizer: WordTokenizer): Sample {
  return {
    plan: [
      { type: "text", loss: false, ids: tokenizer.encode(caption) },
      { type: "vae_image", loss: true, image },
    ],
  };
}

/** A noisy copy for both encoders (clean latents, then ViT), the instruction, then the image to draw. */
export function denoiseSample(image: Pixels, tokenizer: WordTokenizer, key: number[]): Sample {
  const noise = normalNoise(image.data.length, "data denoise", ...key);
  const data = image.data.map((x, i) => Math.min(1, Math.max(-1, x + DENOISE_SIGMA * noise[i])));
  const noisy: Pixels = { ...image, data };
  return {
    plan: [
      { type: "vae_image", loss: false, image: noisy },
      { type: "vit_image", loss: false, image: noisy },
      { type: "text", loss: false, ids: tokenizer.encode(DENOISE_TEXT) },
      { type: "vae_image", loss: true, image },
    ],
  };
}
