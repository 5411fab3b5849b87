// Image-to-image pairs of a phantom: what the model is given, what it is asked, what it should draw.

import { Draws } from "../draws.ts";
import { INSTRUCTIONS, MODALITIES, type Modality } from "./factors.ts";
import { inModality, type Phantom, withoutLesion } from "./phantom.ts";

/** Image-to-image tasks, told apart in `picturePair`. */
export const PICTURE_TASKS = ["organ", "remove", "denoise", "translate"] as const;
export type PictureTask = typeof PICTURE_TASKS[number];

/** One image-to-image pair, images (size, size, 3) in [-1, 1]. */
export interface PicturePair {
  task: PictureTask;
  text: string;
  source: Float32Array;
  target: Float32Array;
}

/** Deviation of the noise that `denoise` adds, on the [-1, 1] scale. */
export const DENOISE_SIGMA = 0.4;

/**
 * The pair of one task:
 * - `organ`: the organ's mask as a flat picture, -1 outside and 1 inside
 * - `remove`: the lesion-free twin (of a healthy phantom: the image itself)
 * - `denoise`: the image from a copy with Gaussian noise, cut to [-1, 1]
 * - `translate`: the same case in another modality, named in the text: `draw mri`
 */
export function picturePair(p: Phantom, task: PictureTask): PicturePair {
  const draws = new Draws("pair", p.seed, p.split, p.index, task);
  switch (task) {
    case "organ":
      return { task, text: INSTRUCTIONS.organ, source: p.image, target: flatPicture(p.organMask) };
    case "remove":
      return {
        task,
        text: INSTRUCTIONS.remove,
        source: p.image,
        target: withoutLesion(p).image,
      };
    case "denoise": {
      const noisy = p.image.map((x) => {
        return Math.min(1, Math.max(-1, x + DENOISE_SIGMA * draws.normal()));
      });
      return { task, text: INSTRUCTIONS.denoise, source: noisy, target: p.image };
    }
    case "translate": {
      const modality = translatedTo(p, draws);
      const text = pairText(p, task);
      return { task, text, source: p.image, target: inModality(p, modality).image };
    }
  }
}

/** What stands for a case whose picture is not needed. */
type Case = Pick<Phantom, "seed" | "split" | "index" | "factors">;

/** The instruction of one task, as `picturePair` has it; nothing is drawn. */
export function pairText(p: Case, task: PictureTask): string {
  if (task !== "translate") return INSTRUCTIONS[task];
  const draws = new Draws("pair", p.seed, p.split, p.index, task);
  return `${INSTRUCTIONS.translate} ${translatedTo(p, draws)}`;
}

function translatedTo({ factors }: Case, draws: Draws): Modality {
  return draws.pick(MODALITIES.filter((m) => m !== factors.modality));
}

/** A mask of zeros and ones as a flat grey picture of -1 and 1, (size, size) → (size, size, 3). */
export function flatPicture(mask: Uint8Array): Float32Array {
  return Float32Array.from({ length: mask.length * 3 }, (_, i) => 2 * mask[Math.floor(i / 3)] - 1);
}
