// Images, with or without a text, of one size: what the trainings of the two encoders read. Which image a place in the
// stream holds follows from seed and place alone, so that a stopped training goes on with the images that come next.

import { InputError } from "../../errors.ts";
import { Draws } from "../draws.ts";
import { type Image, resizeBicubic } from "../resize.ts";
import { normalize, type Pixels } from "../transforms.ts";
import { decodeRef } from "./decode_ref.ts";
import { PhantomRenderer } from "./phantom_picture.ts";
import { type ImageRef, type Task, TASKS, type TrainingRecord } from "./record.ts";
import { RecordOrder } from "./record_order.ts";
import type { RecordSource } from "./source.ts";
import { refuseTooManyBad } from "./too_many_bad.ts";

/** An image ready for an encoder. */
export interface StreamedImage {
  /** (3, size, size) in [-1, 1]. */
  image: Pixels;
  /** All texts of its record, joined by spaces; empty where texts were not asked for. */
  text: string;
  /** The record's place. */
  where: string;
}

/** How {@link ImageStream} reads. */
export interface ImageStreamOptions {
  /** Rows and columns: the shorter edge is resized to it, the longer one cut on both sides. */
  size: number;
  seed: number;
  /** Only records of one image and some text. Text-to-image records if there are any, else questions with answers. */
  texts: boolean;
  /** The share of images that may be unreadable: they are left out and counted. Default: 0. */
  mostBad?: number;
}

/** One record of so many is held out, by the name of its first image: records that share it go together. */
const HELD_OUT = 8;
/** Other records that are tried in place of one that is held out or has no image. */
const TRIES = 100;
/** Decoded images that are kept, in bytes. */
const KEPT_BYTES = 2 ** 28;

/** An endless stream of images of a source, and some that it never gives. */
export class ImageStream {
  readonly #order: RecordOrder;
  readonly #looked: RecordOrder;
  readonly #phantoms = new PhantomRenderer();
  readonly #kept = new Map<string, Pixels>();
  readonly #tally = { read: 0, bad: 0 };
  #bad: string[] = [];

  /** @throws {InputError} If no record of the source fits */
  constructor(private readonly source: RecordSource, private readonly options: ImageStreamOptions) {
    const { name, tasks, blocks, path } = source;
    const has = (task: Task) => tasks.includes(TASKS.indexOf(task));
    const wanted: Task[] = options.texts
      ? [has("t2i") ? "t2i" : "i2t"]
      : ["t2i", "i2t", "interleaved"];
    const fits = wanted.map((task) => TASKS.indexOf(task));
    const records = Uint32Array.from(tasks.keys()).filter((i) => fits.includes(tasks[i]));
    if (records.length === 0) {
      throw new InputError(`Cannot use ${path}: it has no records of ${wanted.join(" or ")}`, {
        help: options.texts ? "Give data of images with texts" : "Give data with images",
      });
    }
    this.#order = new RecordOrder(records, blocks, [options.seed, name]);
    this.#looked = new RecordOrder(records, blocks, ["held out", name]);
  }

  /**
   * The image at a place in the stream.
   *
   * @throws {InputError} Naming file, record and field of an image that cannot be read, if it is one too many
   */
  async at(place: number): Promise<StreamedImage> {
    const { seed } = this.options;
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const index = attempt === 0
        ? this.#order.at(place).index
        : this.#order.pick(new Draws("instead", seed, place, attempt));
      const draws = new Draws("record", seed, place, attempt);
      const found = await this.#try(
        index,
        draws,
        (images) => isHeldOut(images[0]) ? undefined : draws.pick(images),
      );
      if (found) return found;
    }
    throw new InputError(
      `Cannot find an image to train on in ${this.source.path}: ${TRIES} records were held out, had none or were bad`,
      { help: "Give more data" },
    );
  }

  /**
   * Up to `count` images that {@link ImageStream.at} never gives, the same whatever the seed; with texts, no text twice.
   *
   * @throws {InputError} If there are none
   */
  async heldOut(count: number): Promise<StreamedImage[]> {
    const found: StreamedImage[] = [];
    const seen = new Set<string>();
    for (let n = 0; n < this.#looked.count && found.length < count; n++) {
      const { index } = this.#looked.at(n);
      const sample = await this.#try(index, new Draws("held out", index), ([first], record) => {
        const twin = this.options.texts ? textOf(record) : keyOf(first);
        if (!isHeldOut(first) || seen.has(twin)) return undefined;
        seen.add(twin);
        return first;
      });
      if (sample) found.push(sample);
    }
    if (found.length > 0) return found;
    throw new InputError(`Cannot hold images of ${this.source.path} out: it has too few`, {
      help: `one in ${HELD_OUT} is held out; give more data`,
    });
  }

  /** What was left out since the last call, in words. */
  takeBad(): string[] {
    const bad = this.#bad;
    this.#bad = [];
    return bad;
  }

  /** A record with the image that `choose` picks, if it picks one and it can be read. */
  async #try(
    index: number,
    draws: Draws,
    choose: (images: ImageRef[], record: TrainingRecord) => ImageRef | undefined,
  ): Promise<StreamedImage | undefined> {
    try {
      const record = await this.source.read(index, draws);
      const images = this.#imagesOf(record);
      const ref = images.length === 0 ? undefined : choose(images, record);
      if (!ref) return undefined;
      const sample = await this.#sample(record, ref);
      this.#tally.read++;
      return sample;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#tally.read++;
      this.#tally.bad++;
      this.#bad.push(error.message);
      refuseTooManyBad(this.#tally, this.options.mostBad ?? 0, this.#bad, "mostBad");
      return undefined;
    }
  }

  #imagesOf(record: TrainingRecord): ImageRef[] {
    const all = record.parts.flatMap((part) => part.type === "image" ? [part.image] : []);
    const distinct = [...new Map(all.map((ref) => [ref.name, ref])).values()];
    if (!this.options.texts) return distinct;
    return distinct.length === 1 && textOf(record) !== "" ? distinct : [];
  }

  async #sample(record: TrainingRecord, ref: ImageRef): Promise<StreamedImage> {
    const text = this.options.texts ? textOf(record) : "";
    return { image: await this.#square(ref, record.where), text, where: record.where };
  }

  async #square(ref: ImageRef, where: string): Promise<Pixels> {
    const known = this.#kept.get(ref.name);
    if (known) return known;
    const { size } = this.options;
    const image = ref.phantom
      ? this.#phantoms.draw({ ...ref.phantom, size })
      : normalize(squareOf(await decodeRef(ref, { where }), size));
    if ((this.#kept.size + 1) * image.data.byteLength <= KEPT_BYTES) {
      this.#kept.set(ref.name, image);
    }
    return image;
  }
}

/** The middle square of an image, resized to `size`. */
export function squareOf(image: Image, size: number): Image {
  const { width, height } = image;
  const scale = size / Math.min(width, height);
  const fitted = (edge: number) => Math.max(size, Math.round(edge * scale));
  const resized = resizeBicubic(image, fitted(width), fitted(height));
  const channels = resized.data.length / (resized.width * resized.height);
  const [left, top] = [resized.width - size, resized.height - size].map((n) => Math.floor(n / 2));
  const data = new Uint8Array(size * size * channels);
  for (let y = 0; y < size; y++) {
    const from = ((top + y) * resized.width + left) * channels;
    data.set(resized.data.subarray(from, from + size * channels), y * size * channels);
  }
  return { width: size, height: size, data };
}

const textOf = ({ parts }: TrainingRecord) =>
  parts.flatMap((part) => part.type === "text" ? [part.text.trim()] : []).filter(Boolean).join(" ");

/** What tells images apart: of a phantom all views belong together. */
const keyOf = ({ name, phantom }: ImageRef) =>
  phantom ? `${phantom.seed} ${phantom.split} ${phantom.index}` : name;

const isHeldOut = (ref: ImageRef) => new Draws("held out", keyOf(ref)).below(HELD_OUT) === 0;
