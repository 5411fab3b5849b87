// From a record to a sample that can be packed: texts become ids, images are decoded and brought to the size
// of the encoder that reads them. This is the loader's work in its workers.

import { InputError } from "../../errors.ts";
import { type Image, resizeBicubic } from "../resize.ts";
import type { PlanItem, Sample } from "../sample.ts";
import type { Tokenizer } from "../tokenizer.ts";
import {
  DEFAULT_MAX_PIXELS,
  denormalize,
  normalize,
  type Pixels,
  type SizeRule,
  targetSize,
} from "../transforms.ts";
import { decodeRef } from "./decode_ref.ts";
import { PhantomRenderer } from "./phantom_picture.ts";
import { PixelCache } from "./pixel_cache.ts";
import type { ImageRef, Part, TrainingRecord } from "./record.ts";

/** A size rule whose area limit has a default. */
export type ResizeRule = Omit<SizeRule, "maxPixels"> & { maxPixels?: number };

/** Sizes of both image sides. */
export interface ImageRules {
  vae: ResizeRule;
  vit: ResizeRule;
}

/** Of pixels that a planner keeps: some five thousand of 32 × 32, five of 1024 × 1024. */
const CACHE_BYTES = 64 * 2 ** 20;

/** Makes samples of records. */
export class Planner {
  readonly #rules: { vae: SizeRule; vit: SizeRule };
  readonly #phantoms = new PhantomRenderer();
  readonly #cache: PixelCache;

  /** @param cacheBytes most bytes of pixels kept, for files that are asked for again */
  constructor(
    private readonly tokenizer: Tokenizer,
    images: ImageRules,
    cacheBytes = CACHE_BYTES,
  ) {
    this.#cache = new PixelCache(cacheBytes);
    const rule = (given: ResizeRule) => ({ maxPixels: DEFAULT_MAX_PIXELS, ...given });
    this.#rules = { vae: rule(images.vae), vit: rule(images.vit) };
  }

  /**
   * The plan of a record, in the order of its parts. Texts are plain text: no word of theirs becomes a special
   * token. A text without any token is left out. Where a record only asks about images (i2t), these share the
   * area limit of the ViT's rule, as in the reference.
   *
   * @throws {InputError} If an image cannot be read, or nothing is left to predict
   */
  async sample(record: TrainingRecord): Promise<Sample> {
    const seen = record.parts.filter((part) => part.type === "image" && part.use === "vit").length;
    const sharing = record.task === "i2t" ? Math.max(1, seen) : 1;
    const decoded = new Map<ImageRef, Image | Pixels>();
    const sized = { vae: new Map<ImageRef, Pixels>(), vit: new Map<ImageRef, Pixels>() };
    const plan: PlanItem[] = [];
    for (const part of record.parts) {
      if (part.type === "text") {
        const ids = Int32Array.from(this.tokenizer.encode(part.text));
        if (ids.length === 0) continue;
        plan.push({ type: "text", loss: part.loss, dropout: part.dropout, ids });
        continue;
      }
      const { image } = part;
      const side = part.use === "vit" ? "vit" : "vae";
      const pixels = sized[side].get(image) ??
        await this.#sized(image, side, side === "vit" ? sharing : 1, record.where, decoded);
      sized[side].set(image, pixels);
      plan.push(imageItem(part, pixels));
    }
    if (plan.some((item) => item.loss)) return { plan };
    throw new InputError(`Cannot train on ${record.where}: it has nothing to predict`, {
      help: "Give it a text to answer or an image to draw, or remove the record",
    });
  }

  /** An image under the rule of a side; what it was decoded to is shared by both sides. */
  async #sized(
    ref: ImageRef,
    side: "vae" | "vit",
    sharing: number,
    where: string,
    decoded: Map<ImageRef, Image | Pixels>,
  ): Promise<Pixels> {
    const key = ref.path === undefined ? undefined : `${side} ${sharing} ${ref.path}`;
    const kept = key === undefined ? undefined : this.#cache.get(key);
    if (kept) return kept;
    const image = decoded.get(ref) ?? await this.#decode(ref, where);
    decoded.set(ref, image);
    const pixels = resized(image, this.#rules[side], sharing);
    if (key !== undefined) this.#cache.set(key, pixels);
    return pixels;
  }

  async #decode(ref: ImageRef, where: string): Promise<Image | Pixels> {
    if (ref.phantom) return this.#phantoms.draw(ref.phantom);
    if (ref.pixels) return ref.pixels;
    const { width, height, data } = await decodeRef(ref, { where });
    return { width, height, data };
  }
}

function imageItem(part: Part & { type: "image" }, image: Pixels): PlanItem {
  const { use, dropout } = part;
  if (use === "vit") return { type: "vit_image", loss: false, dropout, image };
  return { type: "vae_image", loss: use === "noisy", dropout, image };
}

/** Under the rule, normalised; pixels that have the right size already stay as they are. */
function resized(image: Image | Pixels, rule: SizeRule, sharing: number): Pixels {
  const { width, height } = targetSize(image.width, image.height, rule, sharing);
  const isPixels = image.data instanceof Float32Array;
  if (isPixels && width === image.width && height === image.height) return image as Pixels;
  const bytes = isPixels ? denormalize(image as Pixels) : image as Image;
  return normalize(resizeBicubic(bytes, width, height));
}
