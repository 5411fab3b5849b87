// The image encoder as a part in training, on images with texts, and the model folder that comes of it: its weights in
// place of those of a drawn model or of a folder, everything else as it was.

import { noGrad } from "../autograd.ts";
import { ImageStream, type StreamedImage } from "../data/training/image_stream.ts";
import type { RecordSource } from "../data/training/source.ts";
import { openTokenizer } from "../data/tokenizer.ts";
import { WordTokenizer } from "../data/words.ts";
import { InputError } from "../errors.ts";
import { readDefaults } from "../infer/defaults.ts";
import { saveModelFolder } from "../infer/save_folder.ts";
import type { Gpu } from "../gpu/device.ts";
import { AUTOENCODER_FILE } from "../model/checkpoint_files.ts";
import { openCheckpoint } from "../model/checkpoint_folder.ts";
import { PRESETS } from "../model/config.ts";
import { initModel } from "../model/init.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { Parameters } from "../nn/parameters.ts";
import { sha256 } from "../study/provenance.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import {
  CONTRAST_PREFIX,
  imageDirections,
  initContrastive,
  recallAtOne,
  sigmoidPairLoss,
  textDirections,
} from "../train/contrastive.ts";
import { writeWhole } from "../write_whole.ts";
import { fullWeights } from "./full_weights.ts";
import { withVocabulary } from "./model.ts";
import { checkPartSettings, refused, vocabularyOf } from "./part_data.ts";
import type { Part, PartLook, PartSettings } from "./part_training.ts";

/** Settings of an image encoder's training; see {@link PartSettings} for the others. */
export interface VitSettings extends PartSettings {
  name: string;
  /** Path of records of images with texts, or `phantoms`. */
  data: string;
  /** Rows and columns of images, pixels: a multiple of the encoder's patches, at most its grid. */
  size: number;
  /** Pairs of an update: every text is compared with every image. */
  batch: number;
  /** Folder of a model whose image encoder is trained; empty: weights are drawn. */
  base: string;
  /** Sizes of a drawn model: `tiny` or `small`. */
  preset: string;
  /** Numbers of a direction. */
  width: number;
  /** Held-out pairs, no text twice, that are looked at. */
  heldOut: number;
}

/** The settings' defaults: captions of phantoms, the image encoder of `tiny`. */
export const VIT_DEFAULTS: VitSettings = {
  name: "vit",
  seed: 0,
  data: "phantoms",
  size: 32,
  batch: 32,
  steps: 600,
  learningRate: 1e-3,
  warmup: 40,
  weightDecay: 0,
  clip: 1,
  mostBad: 0,
  base: "",
  preset: "tiny",
  width: 64,
  heldOut: 64,
  lookEvery: 100,
  saveEvery: 200,
  keep: 3,
};

/** Fewest held-out pairs whose recall is measured. */
const LEAST_CANDIDATES = 8;
/** Images or texts that held-out directions are made of at a time. */
const TOGETHER = 32;

/** An image encoder in training. */
export class VitPart implements Part {
  readonly parameters = new Parameters();
  readonly dataSha256: string;
  readonly texts: Record<string, string>;

  private constructor(
    /** The whole model; only its image encoder is trained. */
    readonly model: UniMedVL,
    readonly tokenizer: WordTokenizer,
    private readonly settings: VitSettings,
    private readonly stream: ImageStream,
    fingerprint: string,
  ) {
    const { gpu, config: { vision } } = model;
    const { seed, width } = settings;
    for (const [name, tensor] of model.parameters.entries()) {
      tensor.requiresGrad = name.startsWith("vit.");
      if (tensor.requiresGrad) this.parameters.add(name, tensor);
    }
    const sizes = { width, vocabSize: tokenizer.size };
    initContrastive(gpu, sizes, vision, seed, this.parameters);
    this.dataSha256 = sha256(fingerprint);
    this.texts = { "words.json": JSON.stringify(tokenizer) + "\n" };
  }

  /**
   * Draws a model, or opens that of the settings' `base`, and reads what is held out.
   *
   * @throws {UsageError} If a setting does not make sense
   * @throws {InputError} If data or base cannot be used
   */
  static async open(gpu: Gpu, settings: VitSettings, source: RecordSource): Promise<VitPart> {
    checkPartSettings(settings);
    const { base, preset, width, size, seed, mostBad, heldOut } = settings;
    if (!(Number.isSafeInteger(width) && width >= 1)) {
      throw refused("width", width, "set it to a whole number of at least 1");
    }
    if (preset !== "tiny" && preset !== "small") {
      throw refused("preset", preset, "it is tiny or small");
    }
    const stream = await ImageStream.open(source, { size, seed, texts: true, mostBad, heldOut });
    const { model, tokenizer } = base === ""
      ? await drawn(gpu, settings, source)
      : await stored(gpu, base);
    const { patchSize, imageSize } = model.config.vision;
    if (size % patchSize !== 0 || size > imageSize) {
      model.dispose();
      throw refused(
        "size",
        size,
        `set it to a multiple of ${patchSize}, at most ${imageSize}: patches of the image encoder`,
      );
    }
    return new VitPart(model, tokenizer, settings, stream, source.fingerprint);
  }

  get split() {
    return this.stream.split;
  }

  /** What the held-out pairs cannot tell. */
  get warnings(): string[] {
    const { length } = this.stream.heldOut;
    if (length >= LEAST_CANDIDATES) return [];
    const few = this.settings.heldOut < LEAST_CANDIDATES
      ? `heldOut is ${this.settings.heldOut}, set it to ${LEAST_CANDIDATES} or more`
      : `give ${LEAST_CANDIDATES * 4} pairs or more, with texts that differ`;
    return [
      `recall will not be measured: among ${length} held-out ${length === 1 ? "pair" : "pairs"} ` +
      `it says little, a blind choice has ${(1 / length).toFixed(2)}; ${few}`,
    ];
  }

  async batch(step: number) {
    const { batch } = this.settings;
    const pairs: StreamedImage[] = [];
    for (let place = step * batch; place < (step + 1) * batch; place++) {
      pairs.push(await this.stream.at(place));
    }
    return () => {
      const texts = pairs.map(({ text }) => text);
      return { total: this.#loss(this.#images(pairs), this.#texts(pairs), texts), shown: {} };
    };
  }

  /**
   * Held-out loss, over as many pairs at a time as a batch has if there are so many; recall at 1 both ways unless
   * there are too few candidates for it, see {@link VitPart.warnings}.
   */
  async look(): Promise<PartLook> {
    const { stream: { heldOut: pairs }, settings: { width } } = this;
    const images: number[] = [];
    const texts: number[] = [];
    for (let from = 0; from < pairs.length; from += TOGETHER) {
      const some = pairs.slice(from, from + TOGETHER);
      const made = noGrad(() => tidy(() => [this.#images(some), this.#texts(some)]));
      const [x, y] = await readAll(made);
      for (const tensor of made) tensor.dispose();
      images.push(...x);
      texts.push(...y);
    }
    const [x, y] = [Float32Array.from(images), Float32Array.from(texts)];
    const loss = await this.#heldOutLoss(x, y);
    if (pairs.length < LEAST_CANDIDATES) return { metrics: { loss } };
    const { imageToText, textToImage, chance } = recallAtOne(x, y, x.length / width);
    return {
      metrics: { loss, "image-to-text": imageToText, "text-to-image": textToImage, chance },
    };
  }

  /** Mean loss of whole batches of directions; a rest would have fewer mismatches, and count as better. */
  async #heldOutLoss(x: Float32Array, y: Float32Array): Promise<number> {
    const { model: { gpu }, settings: { width, batch } } = this;
    const pairs = x.length / width;
    const together = Math.min(batch, pairs);
    const batches = Math.floor(pairs / together);
    const of = (data: Float32Array, i: number) =>
      Tensor.from(gpu, data.subarray(i * together * width, (i + 1) * together * width), [
        together,
        width,
      ]);
    const losses = noGrad(() =>
      tidy(() => Array.from({ length: batches }, (_, i) => this.#loss(of(x, i), of(y, i))))
    );
    const values = await readAll(losses);
    for (const tensor of losses) tensor.dispose();
    return values.reduce((total, [value]) => total + value, 0) / batches;
  }

  #loss(x: Tensor, y: Tensor, keys?: readonly string[]): Tensor {
    return sigmoidPairLoss(x, y, {
      logScale: this.parameters.get("contrast.scale"),
      bias: this.parameters.get("contrast.bias"),
    }, keys);
  }

  #images(pairs: readonly StreamedImage[]) {
    const { gpu, config } = this.model;
    return imageDirections(gpu, pairs.map(({ image }) => image), this.parameters, config.vision);
  }

  #texts(pairs: readonly StreamedImage[]) {
    const ids = pairs.map(({ text }) => this.tokenizer.encode(text));
    return textDirections(this.model.gpu, ids, this.parameters);
  }

  takeBad(): string[] {
    return this.stream.takeBad();
  }

  dispose(): void {
    this.parameters.sub(CONTRAST_PREFIX.slice(0, -1)).dispose();
    this.model.dispose();
  }
}

async function drawn(gpu: Gpu, { preset, seed }: VitSettings, source: RecordSource) {
  const sizes = PRESETS[preset as "tiny" | "small"];
  const tokenizer = await vocabularyOf(source, sizes.language.vocabSize);
  return { model: initModel(gpu, withVocabulary(sizes, tokenizer.size), seed), tokenizer };
}

async function stored(gpu: Gpu, base: string) {
  const tokenizer = await openTokenizer(base);
  if (!(tokenizer instanceof WordTokenizer)) {
    throw new InputError(
      `Cannot train the image encoder of ${base}: its tokenizer is not of words`,
      {
        help: "give the folder of a small model, with words.json",
      },
    );
  }
  const checkpoint = await openCheckpoint(base);
  try {
    return { model: await fullWeights(gpu, checkpoint, "f32"), tokenizer };
  } finally {
    checkpoint.close();
  }
}

/**
 * Writes the folder of the model with its trained image encoder; the autoencoder of the base goes along. Training goes
 * on from it, as `model.checkpoint`.
 *
 * @throws {ResourceError} If a file cannot be written
 */
export async function saveVitFolder(
  dir: string,
  { model, tokenizer }: VitPart,
  { base }: VitSettings,
): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  const draw = base === "" ? {} : await readDefaults(base);
  if (base !== "" && model.config.latent.kind === "autoencoder") {
    const file = await Deno.readFile(`${base}/${AUTOENCODER_FILE}`);
    await writeWhole(`${dir}/${AUTOENCODER_FILE}`, file);
  }
  await saveModelFolder(dir, model, tokenizer, draw, "F32");
}
