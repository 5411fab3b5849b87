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
  /**
   * Only records of one image and some text: text-to-image records, or questions with answers where these are more
   * than ten times as many.
   */
  texts: boolean;
  /** Most images in {@link ImageStream.heldOut}. */
  heldOut: number;
  /** The share of images that may be unreadable: they are left out and counted. Default: 0. */
  mostBad?: number;
}

/** How a source is shared out between training and looks. */
export interface ImageSplit {
  /** What is counted: distinct images, or pairs of an image and a text. */
  unit: "images" | "pairs";
  /** How many are trained on and how many never are; null in large data, which is not counted. */
  given: number | null;
  heldOut: number | null;
  /** How many of those held out are looked at. */
  looked: number;
}

/** One record of so many is held out, by the name of its first image: records that share it go together. */
const HELD_OUT = 8;
/** Small data holds so many out all the same, up to a quarter of its images. */
const LEAST_HELD_OUT = 8;
/** The largest share of images that is held out. */
const MOST_SHARE = 1 / 4;
/** Records up to which data is small: all are read when the stream is opened, so that what is broken is found then. */
const SMALL = 1000;
/** Captions are preferred to questions with answers while there are at most so many of these for each. */
const MOST_QUESTIONS = 10;
/** Other records that are tried in place of one that is held out or has no image. */
const TRIES = 100;
/** Most bad images that are named together. */
const MOST_TOLD = 5;
/** Where the share of bad images is set, for messages. */
const SETTING = "mostBad (--set mostBad=0.05)";
/** Decoded images that are kept, in bytes. */
const KEPT_BYTES = 2 ** 28;

/** A record as opening meets it. */
interface Met {
  index: number;
  /** Its first image's. */
  key: string;
  /** What no two that are looked at may share. */
  twin: string;
}

/** An endless stream of images of a source, and some that it never gives. */
export class ImageStream {
  readonly #order: RecordOrder;
  readonly #looked: RecordOrder;
  readonly #phantoms = new PhantomRenderer();
  readonly #kept = new Map<string, Pixels>();
  readonly #tally = { read: 0, bad: 0 };
  /** Images held out of small data beyond those that their names hold out. */
  readonly #more = new Set<string>();
  readonly #told = new Set<string>();
  /** Set once the stream is open: until then what is bad is gathered, to be told together. */
  #open = false;
  #bad: string[] = [];
  #heldOut: StreamedImage[] = [];
  #split: ImageSplit;

  private constructor(
    private readonly source: RecordSource,
    private readonly options: ImageStreamOptions,
  ) {
    const { name, tasks, blocks, path } = source;
    const count = (task: Task) => tasks.reduce((n, t) => n + Number(t === TASKS.indexOf(task)), 0);
    const captioned = count("t2i") > 0 && MOST_QUESTIONS * count("t2i") >= count("i2t");
    const wanted: Task[] = options.texts
      ? [captioned ? "t2i" : "i2t"]
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
    const unit = options.texts ? "pairs" : "images";
    this.#split = { unit, given: null, heldOut: null, looked: 0 };
  }

  /**
   * Opens a stream: reads what is held out, of small data everything.
   *
   * @throws {InputError} If no record of the source fits, none can be held out, or too many are bad
   */
  static async open(source: RecordSource, options: ImageStreamOptions): Promise<ImageStream> {
    const stream = new ImageStream(source, options);
    await stream.#holdOut();
    stream.#open = true;
    return stream;
  }

  /**
   * Images that {@link ImageStream.at} never gives, the same whatever the seed; with texts, no text twice. One image in
   * 8 is held out, of small data at least 8 or a quarter, whichever is less.
   */
  get heldOut(): readonly StreamedImage[] {
    return this.#heldOut;
  }

  /** How the source is shared out. */
  get split(): ImageSplit {
    return this.#split;
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
        (images) => this.#isHeldOut(keyOf(images[0])) ? undefined : draws.pick(images),
      );
      if (found) return found;
    }
    throw new InputError(
      `Cannot find an image to train on in ${this.source.path}: ${TRIES} records were held out, had none or were bad`,
      { help: "Give more data" },
    );
  }

  /** What was left out since the last call, in words; each image once. */
  takeBad(): string[] {
    const bad = this.#bad;
    this.#bad = [];
    return bad;
  }

  #isHeldOut(key: string): boolean {
    return this.#more.has(key) || heldOutByName(key);
  }

  async #holdOut(): Promise<void> {
    const { options: { heldOut: most }, source: { path } } = this;
    const small = this.#looked.count <= SMALL;
    // What is held out may not depend on how many are looked at, which a resumed run may change.
    const enough = Math.max(most, LEAST_HELD_OUT);
    const found: StreamedImage[] = [];
    const twins = new Set<string>();
    const given: Met[] = [];
    const held: Met[] = [];
    for (let n = 0; n < this.#looked.count && (small || found.length < enough); n++) {
      const { index } = this.#looked.at(n);
      const { met, sample } = await this.#meet(
        index,
        ({ key, twin }) => small || heldOutByName(key) && !twins.has(twin),
      );
      if (!met || small && !sample) continue;
      const byName = heldOutByName(met.key);
      const list = byName ? held : given;
      if (list.length < SMALL) list.push(met);
      if (!byName || !sample || twins.has(met.twin) || found.length >= enough) continue;
      found.push(sample);
      twins.add(met.twin);
    }
    if (this.#told.size > 0) this.#refuseTooManyBad();
    const images = new Set([...given, ...held].map(({ key }) => key)).size;
    const least = Math.min(LEAST_HELD_OUT, Math.floor(images * MOST_SHARE));
    for (const { index, key, twin } of given) {
      if (found.length >= least) break;
      if (this.#more.has(key) || twins.has(twin)) continue;
      const { sample } = await this.#meet(index, () => true);
      if (!sample) continue;
      this.#more.add(key);
      twins.add(twin);
      found.push(sample);
    }
    if (found.length === 0) {
      const what = this.options.texts ? "images with texts" : "images";
      throw new InputError(
        `Cannot hold ${what} of ${path} out: it has ${images} that can be read`,
        {
          help: `one in ${HELD_OUT} is held out, of fewer than 32 a quarter; give at least 4`,
        },
      );
    }
    this.#heldOut = found.slice(0, most);
    this.#split = { ...this.#split, looked: this.#heldOut.length };
    if (!small) return;
    const count = (wanted: boolean) => {
      const those = [...given, ...held].filter(({ key }) => this.#isHeldOut(key) === wanted);
      return this.options.texts ? those.length : new Set(those.map(({ key }) => key)).size;
    };
    this.#split = { ...this.#split, given: count(false), heldOut: count(true) };
  }

  /** A record as it is for holding out, and its first image if it is wanted and can be read. */
  async #meet(index: number, wanted: (met: Met) => boolean) {
    let met: Met | undefined;
    const sample = await this.#try(index, new Draws("held out", index), ([first], record) => {
      const key = keyOf(first);
      met = { index, key, twin: this.options.texts ? textOf(record) : key };
      return wanted(met) ? first : undefined;
    });
    return { met, sample };
  }

  /** A record with the image that `choose` picks, if it picks one and it can be read. */
  async #try(
    index: number,
    draws: Draws,
    choose: (images: ImageRef[], record: TrainingRecord) => ImageRef | undefined,
  ): Promise<StreamedImage | undefined> {
    this.#tally.read++;
    try {
      const record = await this.source.read(index, draws);
      const images = this.#imagesOf(record);
      const ref = images.length === 0 ? undefined : choose(images, record);
      return ref && await this.#sample(record, ref);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#tally.bad++;
      if (!this.#told.has(error.message)) this.#bad.push(error.message);
      this.#told.add(error.message);
      if (this.#open || this.#told.size >= MOST_TOLD) this.#refuseTooManyBad();
      return undefined;
    }
  }

  /** @throws {InputError} If more is bad than may be; of a stream that is being opened it names them all */
  #refuseTooManyBad(): void {
    const { mostBad = 0 } = this.options;
    const messages = [...this.#told];
    const together = this.#open ? messages.slice(-3) : [messages.join("; ")];
    refuseTooManyBad(this.#tally, mostBad, together, SETTING);
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

const heldOutByName = (key: string) => new Draws("held out", key).below(HELD_OUT) === 0;
