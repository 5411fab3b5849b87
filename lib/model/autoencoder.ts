// The image autoencoder of FLUX at any size: pixels ↔ latents of a fraction of their side. Images and
// latents are channels first, as files and the reference have them; everything between is channels last.

import { isRecording, needsGrad, noGrad } from "../autograd.ts";
import { InputError, ResourceError, UsageError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Parameters } from "../nn/parameters.ts";
import { affine } from "../ops/affine.ts";
import { toChannelsFirst, toChannelsLast } from "../ops/channels.ts";
import { columns } from "../ops/columns.ts";
import { latentSample } from "../ops/latent_sample.ts";
import { finish, finishAsync, Held, type StepsOptions } from "../ops/steps.ts";
import type { Tensor } from "../tensor.ts";
import { expectRoom, passCosts } from "./autoencoder_costs.ts";
import { type Pass, passSteps } from "./autoencoder_pass.ts";
import { autoencoderShapes } from "./autoencoder_shapes.ts";
import { type Half, runStage, stagesOf } from "./autoencoder_stages.ts";

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

/** The halves of an autoencoder that are in use. */
export type AutoencoderParts = Half | "both";

/**
 * An autoencoder, or half of one: config and weights on one device.
 *
 * Where no gradient is recorded, images of any size go through in bands of rows that fit the adapter's bindings,
 * with the same numbers as at once; what they take is checked before.
 */
export class Autoencoder {
  readonly gpu: Gpu;
  readonly config: AutoencoderConfig;
  /** Weights under the reference's names: `encoder.conv_in.weight`, … */
  readonly parameters: Parameters;
  /** The halves whose weights it was given. */
  readonly parts: AutoencoderParts;

  /**
   * @param parameters of both halves, or of one: a half without any weight is absent
   * @throws {UsageError} If the config's sizes do not fit together
   * @throws {InputError} If a weight of a half is missing or has another shape than the config says
   */
  constructor(gpu: Gpu, config: AutoencoderConfig, parameters: Parameters) {
    checkAutoencoderConfig(config);
    const halves = (["encoder", "decoder"] as const).filter((half) =>
      !parameters.sub(half).entries().next().done
    );
    this.parts = halves.length === 1 ? halves[0] : "both";
    for (const [name, shape] of autoencoderShapes(config, this.parts)) {
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
   * @throws {TypeError} If the shape is not that of images, or there is no encoder
   * @throws {ResourceError} If it exceeds the memory budget or the adapter's largest buffer, or, with
   *   gradients, one binding of the adapter
   */
  encodeMoments(images: Tensor): Moments {
    const [mean, logvar] = this.#run("encoder", images);
    return { mean, logvar };
  }

  /**
   * Latents: `(mean + exp(½ logvar) · noise - shiftFactor) · scaleFactor`.
   *
   * @param images (B, channels, h, w) in [-1, 1]
   * @param noise standard normal numbers in the shape of the latents, or `null` for the mean
   * @returns (B, zChannels, h/downsample, w/downsample)
   */
  encode(images: Tensor, noise: Tensor | null): Tensor {
    const moments = this.#run("encoder", images);
    const latents = this.#latents(moments, noise);
    if (!latents.node) { for (const moment of moments) moment.dispose(); }
    return latents;
  }

  /**
   * `encode` with waits in between, for progress and to be called off; without gradients.
   *
   * @throws The reason of `options.signal` when it is aborted; nothing is left on the device then
   */
  async encodeAsync(
    images: Tensor,
    noise: Tensor | null,
    options: StepsOptions = {},
  ): Promise<Tensor> {
    const kept = noise?.alias().keep() ?? null; // the caller may dispose of it meanwhile
    try {
      const moments = await this.#runAsync("encoder", images, options);
      const latents = noGrad(() => this.#latents(moments, kept));
      for (const moment of moments) moment.dispose();
      return latents;
    } finally {
      kept?.dispose();
    }
  }

  /**
   * Images of latents.
   *
   * @param latents (B, zChannels, h, w), shifted and scaled as `encode` gives them
   * @returns (B, outCh, h·downsample, w·downsample), about [-1, 1], not clamped
   * @throws {TypeError} If the shape is not that of latents, or there is no decoder
   * @throws {ResourceError} If it exceeds the memory budget or the adapter's largest buffer, or, with
   *   gradients, one binding of the adapter
   */
  decode(latents: Tensor): Tensor {
    return this.#run("decoder", latents)[0];
  }

  /**
   * `decode` with waits in between, for progress and to be called off; without gradients.
   *
   * @throws The reason of `options.signal` when it is aborted; nothing is left on the device then
   */
  async decodeAsync(latents: Tensor, options: StepsOptions = {}): Promise<Tensor> {
    return (await this.#runAsync("decoder", latents, options))[0];
  }

  /**
   * Device memory, in bytes, that `encode` or `decode` takes at its largest without gradients, beside weights,
   * input and what a software adapter copies (`copyBytes` of `passCosts`).
   *
   * @param images how many of h × w pixels
   */
  peakBytes(what: "encode" | "decode", images: number, h: number, w: number): number {
    const half = what === "encode" ? "encoder" : "decoder";
    const pixels = half === "encoder" ? 1 : this.config.downsample;
    const size = { images, h: Math.floor(h / pixels), w: Math.floor(w / pixels) };
    return passCosts(this.gpu, this.config, half, size).peakBytes;
  }

  /** Gives the weights back. */
  dispose(): void {
    this.parameters.dispose();
  }

  #run(half: Half, x: Tensor): Tensor[] {
    this.#expect(half, x);
    if (this.#trains(half, x)) return this.#record(half, x);
    const held = new Held();
    try {
      const pass = this.#pass(half, x).pass;
      return finish(this.gpu, passSteps(held, x, pass));
    } finally {
      held.end();
    }
  }

  async #runAsync(half: Half, x: Tensor, options: StepsOptions): Promise<Tensor[]> {
    this.#expect(half, x);
    const { pass, work } = this.#pass(half, x);
    const kept = x.alias().keep(); // the caller may dispose of it meanwhile
    const held = new Held();
    try {
      return await finishAsync(this.gpu, passSteps(held, kept, pass), work, options);
    } finally {
      held.end();
      kept.dispose();
    }
  }

  #pass(half: Half, x: Tensor): { pass: Pass; work: number } {
    const [images, , h, w] = x.shape;
    const { together, work } = expectRoom(this.gpu, this.config, half, { images, h, w });
    const stages = stagesOf(this.config, half);
    const weights = this.parameters.sub(half);
    return { pass: { stages, weights, together, ...this.#ends(half) }, work };
  }

  /** What stands before and behind a half. */
  #ends(half: Half): Pick<Pass, "begin" | "finish"> {
    const { zChannels, scaleFactor, shiftFactor } = this.config;
    return half === "encoder"
      ? {
        begin: toChannelsLast,
        finish: (moments) => [
          toChannelsFirst(columns(moments, 0, zChannels)),
          toChannelsFirst(columns(moments, zChannels, zChannels)),
        ],
      }
      : {
        begin: (latents) => affine(toChannelsLast(latents), 1 / scaleFactor, shiftFactor),
        finish: (images) => [toChannelsFirst(images)],
      };
  }

  #trains(half: Half, x: Tensor): boolean {
    return isRecording() &&
      (needsGrad(x) || [...this.parameters.sub(half).entries()].some(([, w]) => needsGrad(w)));
  }

  /** With gradients, all at once. */
  #record(half: Half, x: Tensor): Tensor[] {
    this.#expectBindings(half, x);
    const weights = this.parameters.sub(half);
    const { begin, finish } = this.#ends(half);
    let y = begin(x);
    for (const stage of stagesOf(this.config, half)) y = runStage(stage, y, weights);
    return finish(y);
  }

  #latents([mean, logvar]: Tensor[], noise: Tensor | null): Tensor {
    const { scaleFactor: scale, shiftFactor: shift } = this.config;
    return noise
      ? latentSample(mean, logvar, noise, { scale, shift })
      : affine(mean, scale, -shift * scale);
  }

  #expect(half: Half, x: Tensor): void {
    const what = half === "encoder" ? "encode" : "decode";
    const { inChannels, zChannels } = this.config;
    if (this.parts !== "both" && this.parts !== half) {
      throw new TypeError(
        `Cannot ${what}: this autoencoder was given its ${this.parts} only, load its ${half} too`,
      );
    }
    const channels = half === "encoder" ? inChannels : zChannels;
    if (x.shape.length === 4 && x.shape[1] === channels) return;
    throw new TypeError(
      `Cannot ${what} (${x.shape.join(", ")}): not a batch of images with ${channels} channels`,
    );
  }

  /**
   * With gradients, the largest intermediate image must fit one binding. An encoder level keeps its own channels;
   * a decoder level starts with those of the next coarser one.
   */
  #expectBindings(half: Half, x: Tensor): void {
    const { chMult, ch, downsample } = this.config;
    const [ahead, pixels] = half === "encoder" ? [0, 1] : [1, downsample];
    const [images, h, w] = [x.dim(0), x.dim(2) * pixels, x.dim(3) * pixels];
    const largest = Math.max(
      ...chMult.map((_, level) =>
        Math.ceil(h / 2 ** level) * Math.ceil(w / 2 ** level) * ch *
        chMult[Math.min(level + ahead, chMult.length - 1)]
      ),
    );
    const [bytes, most] = [4 * images * largest, this.gpu.maxBindingBytes];
    if (bytes <= most) return;
    throw new ResourceError(
      `Cannot ${half === "encoder" ? "encode" : "decode"} ${images} × ${h} × ${w} pixels with ` +
        `gradients: they become ${formatBytes(bytes)}, one binding of this adapter holds ` +
        formatBytes(most),
      { help: "use noGrad, fewer or smaller images at a time, or a GPU with larger bindings" },
    );
  }
}
