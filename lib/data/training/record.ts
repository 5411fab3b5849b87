// A training record, whatever file it came from: texts and images in the order in which a model meets
// them, each with its use. What is drawn at random (which caption, how many edits) is drawn already.

import type { Pixels } from "../transforms.ts";
import type { PhantomPicture } from "./phantom_picture.ts";

/** What records teach: text → image, image → text, several images with texts, text alone. */
export const TASKS = ["t2i", "i2t", "interleaved", "text"] as const;
/** One of {@link TASKS}. */
export type Task = typeof TASKS[number];

/** Which part of a data set a record belongs to. */
export type Split = "train" | "val" | "test";

/**
 * An image that is not decoded yet: exactly one of `path`, `bytes` and `pixels` is set.
 * `decodeRef` (decode_ref.ts) reads all three.
 */
export interface ImageRef {
  /** For errors and lists: the path as the record writes it, or the record's place and the field. */
  name: string;
  /** The field that names it, as its format calls it. */
  field?: string;
  /** A real path under the data folder. */
  path?: string;
  /** An encoded file. */
  bytes?: Uint8Array;
  /** (3, h, w) in [-1, 1]. */
  pixels?: Pixels;
  /** In place of these: a phantom that the loader's workers draw, as drawing takes longer than sending its recipe. */
  phantom?: PhantomPicture;
}

/**
 * One text or one use of an image. `noisy` images are targets of the flow loss, `clean` ones are
 * latents that condition, `vit` ones are read by the vision encoder. With `dropout`, a part is a
 * condition that training leaves out now and then.
 */
export type Part =
  | { type: "text"; text: string; loss: boolean; dropout: boolean }
  | { type: "image"; image: ImageRef; use: "noisy" | "clean" | "vit"; dropout: boolean };

/** What is known of a record besides its parts. */
export interface RecordFacts {
  /** The file and the line, row or question: `data/train.jsonl line 12`. */
  where: string;
  task: Task;
  modality?: string;
  dataset?: string;
  subTask?: string;
  split?: Split;
}

/** One record as training uses it. */
export interface TrainingRecord extends RecordFacts {
  parts: Part[];
}

/** Everything a record can ever give, without choosing: what a check of the data looks at. */
export interface InspectedRecord extends RecordFacts {
  texts: { role: "input" | "output"; text: string }[];
  images: { role: "input" | "output"; image: ImageRef }[];
}

/** What {@link TrainingRecord.parts} hold; each image once, as output if it is a target anywhere. */
export function inspectParts({ parts, ...facts }: TrainingRecord): InspectedRecord {
  const texts: InspectedRecord["texts"] = [];
  const roles = new Map<ImageRef, "input" | "output">();
  for (const part of parts) {
    if (part.type === "text") {
      texts.push({ role: part.loss ? "output" : "input", text: part.text });
    } else if (part.use === "noisy" || !roles.has(part.image)) {
      roles.set(part.image, part.use === "noisy" ? "output" : "input");
    }
  }
  return { ...facts, texts, images: [...roles].map(([image, role]) => ({ role, image })) };
}

/**
 * The uses of an image that is edited or made, in the reference's order: [noisy] [clean] [vit].
 *
 * @param target whether the model is to make it
 * @param condition whether something later is made from it
 */
export function imageParts(image: ImageRef, target: boolean, condition: boolean): Part[] {
  const parts: Part[] = [];
  if (target) parts.push({ type: "image", image, use: "noisy", dropout: false });
  if (condition) {
    parts.push({ type: "image", image, use: "clean", dropout: true });
    parts.push({ type: "image", image, use: "vit", dropout: true });
  }
  return parts;
}
