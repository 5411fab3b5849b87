// The whole model: text, ViT and VAE tokens through one two-expert decoder, with both heads and both
// per-token losses (reference: Bagel.forward).

import { checkpointed, isRecording } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Parameters } from "../nn/parameters.ts";
import { keepSite, type Site } from "../nn/site.ts";
import { add } from "../ops/add.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { linear } from "../ops/linear.ts";
import { linearCrossEntropy, LOGITS_BYTES } from "../ops/linear_cross_entropy.ts";
import { mse } from "../ops/mse.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import { silu } from "../ops/unary.ts";
import type { Tensor } from "../tensor.ts";
import type { Batch } from "./batch.ts";
import type { UniMedVLConfig } from "./config.ts";
import {
  type ActivationCheckpointing,
  decode,
  type DecoderOptions,
  type Expert,
  type Streams,
} from "./language.ts";
import type { LoraInfo } from "./lora.ts";
import { connect, encodePatches } from "./vision.ts";

/** What a forward pass gives. */
export interface Outputs {
  /** Decoder inputs per expert, rows in packed order. */
  inputs: Streams;
  /** Final-normed hidden rows per expert. */
  hidden: Streams;
  /** (M, V) logits at the positions with a text loss; absent where a recorded pass would need too much memory. */
  logits?: Tensor;
  /** (M, latent numbers) predicted velocity at the positions with a flow loss. */
  velocity?: Tensor;
  /** (M) cross-entropy per predicted token. */
  textLoss?: Tensor;
  /** (M) squared error of the velocity, mean over the latent's numbers, per token. */
  flowLoss?: Tensor;
}

/** Rows of the token table, read when they are wanted: at inference the table need not be on the device. */
export type EmbeddingReader = (ids: ArrayLike<number>) => Promise<Float32Array>;

/** Where decoder layers come from when the device does not hold them all: see layer_stream.ts. */
export interface LayerSource {
  /** Weights of layer `index` for the experts, under their full names; valid until released. */
  take(index: number, experts: readonly Expert[]): Promise<Parameters>;
  release(index: number): Promise<void> | void;
  dispose(): void;
}

/** Options of {@link UniMedVL.forward}. */
export interface ForwardOptions extends Omit<DecoderOptions, "needUnd"> {
  /** Final hidden rows of the und expert even where no text loss needs them. Default: false. */
  allHidden?: boolean;
  /** Logits that a recorded pass holds at once, in bytes: beyond that the text loss is made without them. */
  logitsBytes?: number;
}

/** A model: config and weights on one device. */
export class UniMedVL {
  readonly gpu: Gpu;
  readonly config: UniMedVLConfig;
  /** Weights under our names (see weights.ts). */
  readonly parameters: Parameters;
  /** What `attachLora` made; its tensors are among `parameters`, named `lora.…`. */
  lora: LoraInfo | undefined;
  /** Set when decoder layers are streamed: then they are not among `parameters`. */
  layers: LayerSource | undefined;
  /** Set when the token table is not among `parameters`. */
  readEmbeddings: EmbeddingReader | undefined;

  constructor(gpu: Gpu, config: UniMedVLConfig, parameters: Parameters) {
    this.gpu = gpu;
    this.config = config;
    this.parameters = parameters;
  }

  /** Weights of a decoder layer, wherever they are; give them back with `releaseLayer`. */
  layerWeights(index: number, experts: readonly Expert[]): Promise<Parameters> | Parameters {
    return this.layers ? this.layers.take(index, experts) : this.parameters;
  }

  /** Says that the work with a layer is recorded. */
  releaseLayer(index: number): Promise<void> | void {
    return this.layers?.release(index);
  }

  /**
   * One pass over a packed batch.
   *
   * @param options `site` sees every named value; `blocked` cuts gradient routes; `checkpoint` saves memory
   */
  forward(
    batch: Batch,
    options: ForwardOptions = {},
  ): Outputs {
    const site = options.site ?? keepSite;
    const p = this.parameters;
    const inputs = this.embed(batch, site, options.checkpoint);
    const needUnd = batch.textTarget !== undefined || options.allHidden === true ||
      site !== keepSite;
    const streams = { ...inputs };
    const hidden = decode(streams, p, this.config.language, batch.layout, { ...options, needUnd });
    const out: Outputs = { inputs, hidden };
    if (batch.textTarget && hidden.und) {
      const rows = gatherRows(hidden.und, batch.textTarget.rows);
      const head = p.get("text.head.weight");
      const { labels } = batch.textTarget;
      const bytes = 4 * rows.dim(0) * head.dim(0);
      const large = bytes > (options.logitsBytes ?? LOGITS_BYTES);
      if (large && site === keepSite && isRecording()) {
        out.textLoss = linearCrossEntropy(rows, head, labels, options);
      } else {
        out.logits = site("logits", linear(rows, head));
        out.textLoss = crossEntropy(out.logits, labels);
      }
    }
    if (batch.flowTarget && hidden.gen) {
      out.velocity = site("velocity", this.velocity(gatherRows(hidden.gen, batch.flowTarget.rows)));
      const { velocity } = batch.flowTarget;
      if (velocity) out.flowLoss = mse(out.velocity, velocity);
    }
    return out;
  }

  /** What the decoder reads: embedded text and image tokens of each expert, rows in packed order. */
  embed(
    batch: Omit<Batch, "undIndexes" | "genIndexes">,
    site: Site = keepSite,
    checkpoint: ActivationCheckpointing = {},
  ): Streams {
    const inputs: Streams = {};
    const und = this.#undInputs(batch, site, checkpoint);
    if (und) inputs.und = und;
    if (batch.latent) inputs.gen = site("latent.embed", this.#genInputs(batch.latent));
    return inputs;
  }

  /** The flow head: final-normed gen rows (M, C) → velocities (M, latent numbers). */
  velocity(rows: Tensor): Tensor {
    const p = this.parameters;
    return linear(rows, p.get("latent.out.weight"), p.get("latent.out.bias"));
  }

  /** Gives the weights back. */
  dispose(): void {
    this.parameters.dispose();
    this.layers?.dispose();
  }

  #undInputs(
    batch: Pick<Batch, "text" | "vit">,
    site: Site,
    checkpoint: ActivationCheckpointing,
  ): Tensor | undefined {
    const p = this.parameters;
    const { text, vit } = batch;
    const words = text &&
      site("text.embed", text.embedded ?? gatherRows(p.get("text.embed.weight"), text.ids));
    const images = vit && this.#images(vit, site, checkpoint);
    if (!words || !images) return words ?? images;
    return mergeRows([words, images], [text.rows, vit.rows], text.rows.size + vit.rows.size);
  }

  /** Patches → decoder width. */
  #images(
    { patches, positions, places, mask }: NonNullable<Batch["vit"]>,
    site: Site,
    checkpoint: ActivationCheckpointing,
  ): Tensor {
    const p = this.parameters;
    const { vision } = this.config;
    const features = encodePatches(patches, positions, mask, p, vision, site, checkpoint.vit);
    return checkpoint.connector && site === keepSite
      ? checkpointed(([x]) => [connect(x, places, p)], [features])[0]
      : connect(features, places, p, site);
  }

  /** Noisy latents → decoder width, plus timestep and position. */
  #genInputs({ noisy, positions, features, timeRows }: NonNullable<Batch["latent"]>): Tensor {
    const p = this.parameters;
    const projected = linear(noisy, p.get("latent.in.weight"), p.get("latent.in.bias"));
    const time = timeEmbedding(features, p);
    const placed = add(projected, gatherRows(time, timeRows));
    return add(placed, gatherRows(p.get("latent.position"), positions));
  }
}

/**
 * Timestep embedding: `fc2(silu(fc1(features)))`, features as made by `timestepFeatures`.
 *
 * @param features (M, 256)
 * @returns (M, C)
 */
export function timeEmbedding(features: Tensor, p: Parameters): Tensor {
  const t = p.sub("latent.time");
  const hidden = silu(linear(features, t.get("fc1.weight"), t.get("fc1.bias")));
  return linear(hidden, t.get("fc2.weight"), t.get("fc2.bias"));
}
