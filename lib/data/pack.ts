// Packing: samples become one token sequence with index lists that say which token is text, ViT
// patch or latent, what is predicted, and which token may attend to which. The rules are those of
// the reference's data loader; branches and hidden splits are additions, off unless a plan asks.

import { type Mode, MODE_CODE, type PackedBatch } from "./packed_batch.ts";
import { patchify, positionIds, type PositionRule } from "./patches.ts";
import { gridOf, type PlanItem, type Sample, type TextItem, type TokenGrid } from "./sample.ts";
import type { VaeItem, VitItem } from "./sample.ts";
import type { Pixels } from "./transforms.ts";

export { allowed, type Mode, MODE_CODE, type PackedBatch } from "./packed_batch.ts";

/** Ids of the tokens that bracket texts and images. */
export interface SpecialIds {
  bos: number;
  eos: number;
  soi: number;
  eoi: number;
}

/** What packing needs to know besides the samples. */
export interface PackOptions extends TokenGrid {
  special: SpecialIds;
  /** Side of the ViT's position table, in patches. */
  vitSide: number;
  /** Side of the latent position table, in tokens. */
  latentSide: number;
  /** How patches find their row in those tables. Default "extrapolate". */
  positions?: PositionRule;
  /** Probability of dropping a condition, by kind. Default: nothing is dropped. */
  dropout?: { text: number; vit: number; vae: number };
  /** Uniform in [0, 1); called once per item with `dropout: true`, in order, with its sample's place. */
  drawDropout?: (sample: number) => number;
  /**
   * Standard normal; called once per noised image (once per split for frames), in order, with its
   * sample's place in the batch.
   */
  drawTimestep?: (sample: number) => number;
  /**
   * If given, one more sample of one causal split fills the list of splits (not the tokens) up to
   * this length, as the reference's block-mask path does.
   */
  padTo?: number;
}

/**
 * Packs samples into one sequence, in order.
 *
 * @throws {RangeError} If an image has no token or leaves its position table, if `padTo` is too
 * small, a trunk item follows a branch, or a frame has no split to continue
 * @throws {TypeError} If an image's data does not fill it, or a draw is needed and not given
 */
export function packBatch(samples: readonly Sample[], options: PackOptions): PackedBatch {
  const packer = new Packer(options);
  for (const sample of samples) packer.add(sample);
  return packer.finish();
}

/** The integer lists of a batch. */
const LISTS = [
  "positionIds",
  "sample",
  "split",
  "mode",
  "branch",
  "hidden",
  "textIds",
  "textIndexes",
  "ceLossIndexes",
  "labelIds",
  "vitPositionIds",
  "vitTokenIndexes",
  "vitSeqlens",
  "latentPositionIds",
  "vaeTokenIndexes",
  "mseLossIndexes",
  "mseRows",
] as const;

type Lists<List> = Record<typeof LISTS[number], List>;

/** The lists of one batch while it grows. */
class Packer {
  readonly #lists = Object.fromEntries(LISTS.map((name) => [name, []])) as unknown as Lists<
    number[]
  >;
  readonly #ceLossWeights: number[] = [];
  readonly #timesteps: number[] = [];
  readonly #vitTokens: Float32Array[] = [];
  readonly #vaeImages: Pixels[] = [];
  readonly #latentShapes: [number, number][] = [];
  readonly #sampleLens: number[] = [];
  readonly #splitLens: number[] = [];
  readonly #splitModes: Mode[] = [];

  constructor(private readonly options: PackOptions) {}

  /** Tokens so far. */
  get #length(): number {
    return this.#lists.positionIds.length;
  }

  add({ plan }: Sample) {
    const start = this.#length;
    const next = new Map([[0, 0]]); // next RoPE position, by branch
    let timestep = 0;
    let framesOpen = false;
    for (const item of plan) {
      const branch = item.branch ?? 0;
      if (branch === 0 && next.size > 1) {
        throw new RangeError("Cannot pack a plan with a trunk item after a branch");
      }
      const position = next.get(branch) ?? next.get(0)!;
      if (this.#drops(item)) {
        // Its place stays empty if it is an image; dropped text leaves no trace.
        next.set(branch, position + (item.type === "text" ? 0 : 1));
        continue;
      }
      const opens = item.type !== "vae_image" || (item.splitStart ?? true);
      if (!opens && !framesOpen) {
        throw new RangeError("Cannot pack a frame that continues a split: none is open");
      }
      framesOpen = item.type === "vae_image" && !(item.splitEnd ?? true);
      if (item.type === "text") {
        this.#openSplit("causal");
        this.#text(item, position);
        next.set(branch, position + item.ids.length + 2);
      } else if (item.type === "vit_image") {
        this.#openSplit("full");
        this.#vit(item, position);
        next.set(branch, position + 1);
      } else {
        if (opens) {
          const noise = item.loss && item.frameDelta === undefined;
          this.#openSplit(noise ? "noise" : "full");
          if (item.loss) timestep = this.#draw("drawTimestep");
        }
        this.#vae(item, position, item.loss ? timestep : -Infinity);
        next.set(branch, position + (item.frameDelta ?? (item.loss ? 0 : 1)));
      }
    }
    this.#sampleLens.push(this.#length - start);
  }

  #drops(item: PlanItem): boolean {
    const { dropout } = this.options;
    if (!item.dropout || !dropout) return false;
    const kind = { text: "text", vit_image: "vit", vae_image: "vae" } as const;
    return this.#draw("drawDropout") < dropout[kind[item.type]];
  }

  #draw(which: "drawDropout" | "drawTimestep"): number {
    const draw = this.options[which];
    if (!draw) throw new TypeError(`Cannot pack: the plan needs random numbers, give ${which}`);
    return draw(this.#sampleLens.length);
  }

  #openSplit(mode: Mode) {
    this.#splitLens.push(0);
    this.#splitModes.push(mode);
  }

  /** Appends one token to the open split. */
  #token(item: PlanItem, position: number) {
    const split = this.#splitLens.length - 1;
    const lists = this.#lists;
    lists.positionIds.push(position);
    lists.sample.push(this.#sampleLens.length);
    lists.split.push(split);
    lists.mode.push(MODE_CODE[this.#splitModes[split]]);
    lists.branch.push(item.branch ?? 0);
    lists.hidden.push(item.hidden ? 1 : 0);
    this.#splitLens[split]++;
  }

  #textToken(item: PlanItem, id: number, position: number) {
    this.#lists.textIds.push(id);
    this.#lists.textIndexes.push(this.#length);
    this.#token(item, position);
  }

  /** Gives the token that comes next a label. */
  #label(id: number, weight: number) {
    this.#lists.ceLossIndexes.push(this.#length);
    this.#lists.labelIds.push(id);
    this.#ceLossWeights.push(weight);
  }

  #text(item: TextItem, position: number) {
    const { bos, eos } = this.options.special;
    const n = item.ids.length;
    const weight = 1 / Math.sqrt(n + 1);
    for (let i = 0; i <= n; i++) { // BOS and the ids; each predicts what follows it
      if (item.loss) this.#label(i < n ? item.ids[i] : eos, weight);
      this.#textToken(item, i === 0 ? bos : item.ids[i - 1], position + i);
    }
    if (item.lastTokenLabel !== undefined) this.#label(item.lastTokenLabel, 1);
    this.#textToken(item, eos, position + n + 1);
  }

  /** SOI, `count` image tokens whose places go to `indexes`, EOI; all at one position. */
  #block(item: VitItem | VaeItem, position: number, count: number, indexes: number[]) {
    const { soi, eoi } = this.options.special;
    this.#textToken(item, soi, position);
    for (let i = 0; i < count; i++) {
      indexes.push(this.#length);
      this.#token(item, position);
    }
    if (item.lastTokenLabel !== undefined) this.#label(item.lastTokenLabel, 1);
    this.#textToken(item, eoi, position);
  }

  #vit(item: VitItem, position: number) {
    const { options } = this;
    const { rows, cols } = gridOf(item, options);
    const { data, height, width } = item.image;
    this.#vitTokens.push(patchify(data, height, width, options.vitPatch));
    for (const id of positionIds(rows, cols, options.vitSide, options.positions)) {
      this.#lists.vitPositionIds.push(id);
    }
    this.#lists.vitSeqlens.push(rows * cols);
    this.#block(item, position, rows * cols, this.#lists.vitTokenIndexes);
  }

  #vae(item: VaeItem, position: number, timestep: number) {
    const { options } = this;
    const { rows, cols } = gridOf(item, options);
    const count = rows * cols;
    const lists = this.#lists;
    this.#vaeImages.push(item.image);
    this.#latentShapes.push([rows, cols]);
    for (const id of positionIds(rows, cols, options.latentSide, options.positions)) {
      lists.latentPositionIds.push(id);
    }
    if (item.loss) {
      for (let i = 0; i < count; i++) {
        lists.mseLossIndexes.push(this.#length + 1 + i); // after SOI
        lists.mseRows.push(this.#timesteps.length + i);
      }
    }
    for (let i = 0; i < count; i++) this.#timesteps.push(timestep);
    this.#block(item, position, count, lists.vaeTokenIndexes);
  }

  finish(): PackedBatch {
    const { padTo } = this.options;
    const sequenceLength = this.#length;
    if (padTo !== undefined) {
      if (padTo < sequenceLength) {
        throw new RangeError(`Cannot pad ${sequenceLength} tokens to ${padTo}`);
      }
      this.#sampleLens.push(padTo - sequenceLength);
      this.#splitLens.push(padTo - sequenceLength);
      this.#splitModes.push("causal");
    }
    const arrays = Object.fromEntries(
      LISTS.map((name) => [name, Int32Array.from(this.#lists[name])]),
    ) as Lists<Int32Array<ArrayBuffer>>;
    return {
      ...arrays,
      sequenceLength,
      sampleLens: this.#sampleLens,
      splitLens: this.#splitLens,
      splitModes: this.#splitModes,
      ceLossWeights: Float32Array.from(this.#ceLossWeights),
      vitTokens: concat(this.#vitTokens),
      vaeImages: this.#vaeImages,
      latentShapes: this.#latentShapes,
      timesteps: Float32Array.from(this.#timesteps),
    };
  }
}

function concat(parts: Float32Array[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
