// The image autoencoder of FLUX at any size: pixels ↔ latents of a fraction of their side. Images and
// latents are channels first, as files and the reference have them; everything between is channels last.

import { isRecording, needsGrad } from "../autograd.ts";
import { InputError, ResourceError, UsageError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import {
  attentionBlock,
  convolve,
  downsample,
  normalize,
  resnetBlock,
  upsample,
} from "../nn/image_blocks.ts";
import type { Parameters } from "../nn/parameters.ts";
import { affine } from "../ops/affine.ts";
import { toChannelsFirst, toChannelsLast } from "../ops/channels.ts";
import { columns } from "../ops/columns.ts";
import { latentSample } from "../ops/latent_sample.ts";
import { type Tensor, tidy } from "../tensor.ts";
import { autoencoderShapes } from "./autoencoder_shapes.ts";

/** Sizes of an autoencoder. */
export interface AutoencoderConfig {
  /** Side in pixels it was trained at; informational. */
  resolution: number;
  /** Channels of an image. */
  inChannels: number;
  /** Pixels per latent along a side: 2 to the number of levels less one. */
  downsample: number;
  /** Channels of the finest level, a multiple of 32. */
  ch: number;
  /** Channels of a decoded image. */
  outCh: number;
  /** Channels of each level in multiples of `ch`, finest first. */
  chMult: number[];
  /** Residual blocks per encoder level; a decoder level has one more. */
  numResBlocks: number;
  /** Channels of a latent. */
  zChannels: number;
  /** Latents are `(z - shiftFactor) · scaleFactor`. */
  scaleFactor: number;
  shiftFactor: number;
}

/** Mean and natural logarithm of the variance of the latents, before shift and scale. */
export interface Moments {
  mean: Tensor;
  logvar: Tensor;
}

/**
 * Checks what the sizes must satisfy.
 *
 * @throws {UsageError} Naming the field and its repair
 */
export function checkAutoencoderConfig(config: AutoencoderConfig): void {
  const refuse = (field: string, value: unknown, help: string): never => {
    throw new UsageError(`Cannot use the autoencoder config: ${field} is ${value}`, { help });
  };
  const { chMult, ch } = config;
  for (const field of ["inChannels", "outCh", "ch", "numResBlocks", "zChannels"] as const) {
    if (Number.isInteger(config[field]) && config[field] > 0) continue;
    refuse(field, config[field], `set ${field} to a whole number of at least 1`);
  }
  if (chMult.length === 0 || chMult.some((m) => !Number.isInteger(m) || m < 1)) {
    refuse("chMult", `[${chMult}]`, "give each level a whole number of at least 1");
  }
  if (ch % 32 !== 0) refuse("ch", ch, "channels are normalized in 32 groups: use a multiple of 32");
  const factor = 2 ** (chMult.length - 1);
  if (config.downsample !== factor) {
    refuse(
      "downsample",
      config.downsample,
      `${chMult.length} levels shrink an image ${factor} times`,
    );
  }
}

/** An autoencoder: config and weights on one device. */
export class Autoencoder {
  readonly gpu: Gpu;
  readonly config: AutoencoderConfig;
  /** Weights under the reference's names: `encoder.conv_in.weight`, … */
  readonly parameters: Parameters;

  /**
   * @throws {UsageError} If the config's sizes do not fit together
   * @throws {InputError} If a weight is missing or has another shape than the config says
   */
  constructor(gpu: Gpu, config: AutoencoderConfig, parameters: Parameters) {
    checkAutoencoderConfig(config);
    for (const [name, shape] of autoencoderShapes(config)) {
      const weight = parameters.find(name);
      if (weight?.shape.join() === shape.join()) continue;
      const [want, got] = [shape.join(", "), weight?.shape.join(", ")];
      throw new InputError(
        weight
          ? `Cannot use autoencoder weights: ${name} is (${got}), the config says (${want})`
          : `Cannot use autoencoder weights: ${name} (${want}) is missing`,
      );
    }
    this.gpu = gpu;
    this.config = config;
    this.parameters = parameters;
  }

  /**
   * Moments of the latents. Images of one batch share nothing but their size; zeros that pad an image to
   * that size do change its latents.
   *
   * @param images (B, channels, h, w) in [-1, 1], h and w at least `downsample`
   * @returns (B, zChannels, h/downsample, w/downsample) each
   * @throws {TypeError} If the shape is not that of images
   * @throws {ResourceError} If an intermediate image is larger than one binding of the adapter
   */
  encodeMoments(images: Tensor): Moments {
    const { inChannels, zChannels, numResBlocks, chMult } = this.config;
    this.#expect(images, inChannels, "encode");
    this.#expectRoom(images.dim(0), images.dim(2), images.dim(3), 0, "encode");
    const p = this.parameters.sub("encoder");
    const blocks: Block[] = [];
    for (let level = 0; level < chMult.length; level++) {
      for (let b = 0; b < numResBlocks; b++) {
        blocks.push((x) => resnetBlock(x, p.sub(`down.${level}.block.${b}`)));
      }
      if (level < chMult.length - 1) {
        blocks.push((x) => downsample(x, p.sub(`down.${level}.downsample`)));
      }
    }
    const moments = this.#chain(toChannelsLast(images), [
      (x) => convolve(x, p.sub("conv_in")),
      ...blocks,
      ...middle(p),
      (x) => convolve(normalize(x, p.sub("norm_out")), p.sub("conv_out")),
    ]);
    return {
      mean: toChannelsFirst(columns(moments, 0, zChannels)),
      logvar: toChannelsFirst(columns(moments, zChannels, zChannels)),
    };
  }

  /**
   * Latents: `(mean + exp(½ logvar) · noise - shiftFactor) · scaleFactor`.
   *
   * @param images (B, channels, h, w) in [-1, 1]
   * @param noise standard normal numbers in the shape of the latents, or `null` for the mean
   * @returns (B, zChannels, h/downsample, w/downsample)
   */
  encode(images: Tensor, noise: Tensor | null): Tensor {
    const { scaleFactor: scale, shiftFactor: shift } = this.config;
    const { mean, logvar } = this.encodeMoments(images);
    return noise
      ? latentSample(mean, logvar, noise, { scale, shift })
      : affine(mean, scale, -shift * scale);
  }

  /**
   * Images of latents.
   *
   * @param latents (B, zChannels, h, w), shifted and scaled as `encode` gives them
   * @returns (B, outCh, h·downsample, w·downsample), about [-1, 1], not clamped
   * @throws {TypeError} If the shape is not that of latents
   * @throws {ResourceError} If an intermediate image is larger than one binding of the adapter
   */
  decode(latents: Tensor): Tensor {
    const { zChannels, numResBlocks, chMult, scaleFactor, shiftFactor } = this.config;
    this.#expect(latents, zChannels, "decode");
    const [B, , h, w] = latents.shape;
    this.#expectRoom(B, h * this.config.downsample, w * this.config.downsample, 1, "decode");
    const p = this.parameters.sub("decoder");
    const blocks: Block[] = [];
    for (let level = chMult.length - 1; level >= 0; level--) {
      for (let b = 0; b <= numResBlocks; b++) {
        blocks.push((x) => resnetBlock(x, p.sub(`up.${level}.block.${b}`)));
      }
      if (level > 0) blocks.push((x) => upsample(x, p.sub(`up.${level}.upsample`)));
    }
    const images = this.#chain(toChannelsLast(latents), [
      (x) => affine(x, 1 / scaleFactor, shiftFactor),
      (x) => convolve(x, p.sub("conv_in")),
      ...middle(p),
      ...blocks,
      (x) => convolve(normalize(x, p.sub("norm_out")), p.sub("conv_out")),
    ]);
    return toChannelsFirst(images);
  }

  /** Gives the weights back. */
  dispose(): void {
    this.parameters.dispose();
  }

  /** One block after another; when no gradient is wanted, each input is given back once it was used. */
  #chain(x: Tensor, blocks: Block[]): Tensor {
    const trains = isRecording() &&
      (needsGrad(x) || [...this.parameters.entries()].some(([, weight]) => needsGrad(weight)));
    for (const block of blocks) {
      if (trains) {
        x = block(x);
        continue;
      }
      const y = tidy(() => block(x));
      x.dispose();
      x = y;
    }
    return x;
  }

  #expect(x: Tensor, channels: number, what: string): void {
    if (x.shape.length === 4 && x.shape[1] === channels) return;
    throw new TypeError(
      `Cannot ${what} (${x.shape.join(", ")}): not a batch of images with ${channels} channels`,
    );
  }

  /**
   * The largest intermediate image must fit one binding. An encoder level keeps its own channels; a decoder
   * level starts with those of the next coarser one (`ahead` = 1).
   */
  #expectRoom(images: number, h: number, w: number, ahead: number, what: string): void {
    const { chMult, ch } = this.config;
    const largest = Math.max(
      ...chMult.map((_, level) =>
        Math.ceil(h / 2 ** level) * Math.ceil(w / 2 ** level) * ch *
        chMult[Math.min(level + ahead, chMult.length - 1)]
      ),
    );
    const [bytes, most] = [4 * images * largest, this.gpu.maxBindingBytes];
    if (bytes <= most) return;
    throw new ResourceError(
      `Cannot ${what} ${images} × ${h} × ${w} pixels at once: they become ${formatBytes(bytes)}, ` +
        `one binding of this adapter holds ${formatBytes(most)}`,
      { help: "fewer or smaller images at a time, or a GPU with larger bindings" },
    );
  }
}

/** Channels-last image to channels-last image. */
type Block = (x: Tensor) => Tensor;

function middle(p: Parameters): Block[] {
  return [
    (x) => resnetBlock(x, p.sub("mid.block_1")),
    (x) => attentionBlock(x, p.sub("mid.attn_1")),
    (x) => resnetBlock(x, p.sub("mid.block_2")),
  ];
}
