// The autoencoder as a part in training, and the model folder that comes of it: the trained autoencoder under the
// released names, its latents scaled to deviation 1, beside weights that are drawn and wait to be trained.

import { noGrad } from "../autograd.ts";
import { normalNoise } from "../data/noise.ts";
import { writeSafetensors } from "../data/safetensors.ts";
import { ImageStream } from "../data/training/image_stream.ts";
import type { RecordSource } from "../data/training/source.ts";
import { denormalize, type Pixels } from "../data/transforms.ts";
import type { WordTokenizer } from "../data/words.ts";
import { saveModelFolder } from "../infer/save_folder.ts";
import type { Gpu } from "../gpu/device.ts";
import { Autoencoder, type AutoencoderConfig } from "../model/autoencoder.ts";
import { initAutoencoder } from "../model/autoencoder_weights.ts";
import { AUTOENCODER_FILE } from "../model/checkpoint_files.ts";
import { latentStride, PRESETS, type UniMedVLConfig } from "../model/config.ts";
import { initModel } from "../model/init.ts";
import { type Picture, strip } from "../show/png.ts";
import { sha256 } from "../study/provenance.ts";
import { readAll, Tensor, tidy } from "../tensor.ts";
import {
  autoencoderLoss,
  gaussianKl,
  type LatentFactors,
  LatentStatistics,
  psnr,
  type Reconstruction,
  RECONSTRUCTIONS,
} from "../train/autoencoder_training.ts";
import { withVocabulary } from "./model.ts";
import { checkPartSettings, refused } from "./part_data.ts";
import type { Part, PartLook, PartSettings } from "./part_training.ts";

/** Settings of an autoencoder's training; see {@link PartSettings} for the others. */
export interface VaeSettings extends PartSettings {
  name: string;
  /** Path of the records, or `phantoms`. */
  data: string;
  /** Rows and columns of images, pixels. */
  size: number;
  /** Images of an update. */
  batch: number;
  /** Sizes of the model whose latents these will be: `tiny` or `small`. */
  preset: string;
  /** Channels of the finest level, a multiple of 32; multiples of it by level; residual blocks; latent channels. */
  ch: number;
  chMult: number[];
  numResBlocks: number;
  zChannels: number;
  reconstruction: string;
  /** Factor β of the divergence, both terms being means. */
  klWeight: number;
  /** Held-out images that are looked at. */
  heldOut: number;
  /** Training images whose latents give shift and scale. */
  statistics: number;
}

/** The settings' defaults: phantoms of 32 pixels, 4 numbers for each 2 × 2 pixels. */
export const VAE_DEFAULTS: VaeSettings = {
  name: "vae",
  seed: 0,
  data: "phantoms",
  size: 32,
  batch: 4,
  steps: 400,
  learningRate: 2e-3,
  warmup: 20,
  weightDecay: 0,
  clip: 1,
  mostBad: 0,
  preset: "tiny",
  ch: 32,
  chMult: [1, 2],
  numResBlocks: 1,
  zChannels: 4,
  reconstruction: "mse",
  klWeight: 1e-4,
  heldOut: 32,
  statistics: 256,
  lookEvery: 50,
  saveEvery: 100,
  keep: 3,
};

/** Pictures of a sheet. */
const SHOWN = 8;

/** Sizes of the autoencoder that settings describe, latents as they come: scale 1, shift 0. */
export function vaeConfig(settings: VaeSettings): AutoencoderConfig {
  const { size, ch, chMult, numResBlocks, zChannels } = settings;
  return {
    resolution: size,
    inChannels: 3,
    downsample: 2 ** (chMult.length - 1),
    ch,
    outCh: 3,
    chMult,
    numResBlocks,
    zChannels,
    scaleFactor: 1,
    shiftFactor: 0,
  };
}

/**
 * A preset's model with latents of an autoencoder: tokens cover as many pixels as before, and its position table at
 * least images of `size`.
 */
export function withLatents(
  preset: UniMedVLConfig,
  autoencoder: AutoencoderConfig,
  size: number,
): UniMedVLConfig {
  const latentPatchSize = Math.max(1, Math.round(latentStride(preset) / autoencoder.downsample));
  const tokens = Math.ceil(size / (autoencoder.downsample * latentPatchSize));
  return {
    ...preset,
    latent: { kind: "autoencoder", autoencoder },
    latentPatchSize,
    maxLatentSize: Math.max(preset.maxLatentSize, tokens),
  };
}

/** An autoencoder in training. */
export class VaePart implements Part {
  readonly autoencoder: Autoencoder;
  readonly dataSha256: string;
  readonly texts: Record<string, string>;

  private constructor(
    private readonly gpu: Gpu,
    private readonly settings: VaeSettings,
    private readonly stream: ImageStream,
    fingerprint: string,
  ) {
    this.autoencoder = initAutoencoder(gpu, vaeConfig(settings), settings.seed, {
      trainable: true,
    });
    this.dataSha256 = sha256(fingerprint);
    this.texts = { "autoencoder.json": JSON.stringify(this.autoencoder.config, null, 2) + "\n" };
  }

  /**
   * Draws the weights and reads what is held out.
   *
   * @throws {UsageError} If a setting does not make sense
   * @throws {InputError} If the data cannot be used
   */
  static async open(gpu: Gpu, settings: VaeSettings, source: RecordSource): Promise<VaePart> {
    checkVaeSettings(settings);
    const { seed, size, mostBad, heldOut } = settings;
    const stream = await ImageStream.open(source, { size, seed, texts: false, mostBad, heldOut });
    return new VaePart(gpu, settings, stream, source.fingerprint);
  }

  get parameters() {
    return this.autoencoder.parameters;
  }

  get split() {
    return this.stream.split;
  }

  async batch(step: number) {
    const { batch, seed, reconstruction, klWeight } = this.settings;
    const images: Pixels[] = [];
    const noise: Float32Array[] = [];
    const [, ...latent] = this.#latentShape(1);
    const numbers = latent.reduce((a, b) => a * b);
    for (let place = step * batch; place < (step + 1) * batch; place++) {
      images.push((await this.stream.at(place)).image);
      noise.push(normalNoise(numbers, "posterior", seed, place));
    }
    return () => {
      const { total, ...shown } = autoencoderLoss(
        this.autoencoder,
        this.#stack(images),
        Tensor.from(this.gpu, joined(noise), this.#latentShape(batch)),
        { reconstruction: reconstruction as Reconstruction, klWeight },
      );
      return { total, shown };
    };
  }

  /** Held-out loss and PSNR of images decoded from their latents' means; a sheet of originals above reconstructions. */
  async look(): Promise<PartLook> {
    const { stream: { heldOut: samples }, settings: { reconstruction, klWeight } } = this;
    const rows: [Picture[], Picture[]] = [[], []];
    let decibels = 0;
    let loss = 0;
    for (const some of grouped(samples, this.settings.batch)) {
      const images = this.#stack(some.map(({ image }) => image));
      const made = noGrad(() =>
        tidy(() => {
          const { mean, logvar } = this.autoencoder.encodeMoments(images);
          // Latents as they come: scale 1, shift 0.
          return [this.autoencoder.decode(mean), gaussianKl(mean, logvar)];
        })
      );
      const [values, [kl]] = await readAll(made);
      for (const tensor of [images, ...made]) tensor.dispose();
      loss += klWeight * kl * some.length / samples.length;
      for (const [i, { image }] of some.entries()) {
        const { length } = image.data;
        const data = values.subarray(i * length, (i + 1) * length) as Float32Array;
        decibels += psnr(data, image.data) / samples.length;
        loss += distance(data, image.data, reconstruction as Reconstruction) / samples.length;
        if (rows[0].length === SHOWN) continue;
        rows[0].push(pictureOf(image));
        rows[1].push(pictureOf({ ...image, data }));
      }
    }
    return {
      metrics: { loss, psnr: decibels },
      picture: { kind: "held out above, reconstructed below", picture: strip(rows, { cell: 96 }) },
    };
  }

  takeBad(): string[] {
    return this.stream.takeBad();
  }

  /** Shift and scale of the latents of some training images. */
  async factors(): Promise<LatentFactors> {
    const statistics = new LatentStatistics();
    const places = Array.from({ length: this.settings.statistics }, (_, place) => place);
    for (const some of grouped(places, this.settings.batch)) {
      const pixels: Pixels[] = [];
      for (const place of some) pixels.push((await this.stream.at(place)).image);
      const images = this.#stack(pixels);
      const moments = noGrad(() => tidy(() => this.autoencoder.encodeMoments(images)));
      const [mean, logvar] = await readAll([moments.mean, moments.logvar]);
      for (const tensor of [images, moments.mean, moments.logvar]) tensor.dispose();
      statistics.add(mean, logvar);
    }
    return statistics.factors();
  }

  #stack(images: readonly Pixels[]): Tensor {
    const { size } = this.settings;
    const data = joined(images.map((image) => image.data));
    return Tensor.from(this.gpu, data, [images.length, 3, size, size]);
  }

  #latentShape(images: number): number[] {
    const { zChannels, downsample } = this.autoencoder.config;
    const side = this.settings.size / downsample;
    return [images, zChannels, side, side];
  }

  dispose(): void {
    this.autoencoder.dispose();
  }
}

/**
 * Writes the folder of a model whose latents a trained autoencoder makes: `ae.safetensors`, `config.json` with shift
 * and scale, and drawn weights with their vocabulary. Training goes on from it, as `model.checkpoint`.
 *
 * @throws {ResourceError} If a file cannot be written
 */
export async function saveVaeFolder(
  dir: string,
  part: VaePart,
  settings: VaeSettings,
  tokenizer: WordTokenizer,
): Promise<LatentFactors> {
  const factors = await part.factors();
  const { autoencoder } = part;
  const preset = withLatents(
    PRESETS[settings.preset as "tiny" | "small"],
    { ...autoencoder.config, ...factors },
    settings.size,
  );
  const model = initModel(autoencoder.gpu, withVocabulary(preset, tokenizer.size), settings.seed);
  try {
    await Deno.mkdir(dir, { recursive: true });
    const entries = [...autoencoder.parameters.entries()];
    const values = await readAll(entries.map(([, tensor]) => tensor));
    await writeSafetensors(
      `${dir}/${AUTOENCODER_FILE}`,
      entries.map(([name, { shape }], i) => [
        name,
        { dtype: "F32", shape, data: values[i] as Float32Array },
      ]),
    );
    await saveModelFolder(dir, model, tokenizer, {}, "F32");
  } finally {
    model.dispose();
  }
  return factors;
}

function checkVaeSettings(settings: VaeSettings): void {
  checkPartSettings(settings);
  const { size, chMult, preset, reconstruction, klWeight, statistics } = settings;
  const downsample = 2 ** (chMult.length - 1);
  if (size % downsample !== 0) {
    throw refused(
      "size",
      size,
      `set it to a multiple of ${downsample}: there are ${chMult.length} levels`,
    );
  }
  if (preset !== "tiny" && preset !== "small") {
    throw refused("preset", preset, "it is tiny or small");
  }
  if (!RECONSTRUCTIONS.includes(reconstruction as Reconstruction)) {
    throw refused("reconstruction", reconstruction, `it is ${RECONSTRUCTIONS.join(" or ")}`);
  }
  if (!(Number.isSafeInteger(statistics) && statistics >= 1)) {
    throw refused("statistics", statistics, "set it to a whole number of at least 1");
  }
  if (!(klWeight >= 0)) throw refused("klWeight", klWeight, "set it to 0 or more");
}

/** Mean of squared, or of absolute differences. */
function distance(decoded: Float32Array, image: Float32Array, kind: Reconstruction): number {
  let total = 0;
  for (let i = 0; i < image.length; i++) {
    const apart = decoded[i] - image[i];
    total += kind === "l1" ? Math.abs(apart) : apart * apart;
  }
  return total / image.length;
}

/** A list in pieces of at most `n`. */
function* grouped<T>(list: readonly T[], n: number): Generator<T[]> {
  for (let from = 0; from < list.length; from += n) yield list.slice(from, from + n);
}

function pictureOf(pixels: Pixels): Picture {
  const { width, height, data } = denormalize(pixels);
  return { width, height, rgb: data };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
