// One pass of the decoder over new tokens of one or more contexts: text, images for the ViT, latents. The
// tokens' keys and values go into the contexts' caches, and every token attends to what its context has read.

import { noGrad } from "../autograd.ts";
import { patchify, positionIds } from "../data/patches.ts";
import { timestepFeatures } from "../data/position_tables.ts";
import type { SpecialIds } from "../data/tokenizer.ts";
import type { Pixels } from "../data/transforms.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Batch } from "../model/batch.ts";
import {
  headSize,
  latentSize,
  latentStride,
  learnedPositions,
  type UniMedVLConfig,
} from "../model/config.ts";
import {
  decoderLayer,
  type Expert,
  EXPERTS,
  type Layout,
  type Streams,
} from "../model/language.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { attentionMask } from "../ops/attention_mask.ts";
import { type CacheSpan, cacheView } from "../ops/cached_attention.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { ropeTables } from "../ops/rope.ts";
import { lookupIndex, rowIndex } from "../ops/row_index.ts";
import { Tensor, tidy } from "../tensor.ts";
import type { Context } from "./cache.ts";

/** New tokens of a context; text is taken as it is, images get their start and end tokens. */
export type Block =
  | { kind: "text"; ids: ArrayLike<number> }
  | { kind: "vit"; image: Pixels }
  | {
    kind: "latents";
    /** (rows · columns, latent numbers) */
    tokens: Float32Array;
    rows: number;
    columns: number;
    /** Timestep in [0, 1]; 0 for clean latents. */
    t: number;
  };

/** Blocks to read into a context, in order. */
export interface Reading {
  context: Context;
  blocks: readonly Block[];
}

/** Options of {@link runPass}. */
export interface PassOptions {
  /**
   * False leaves the contexts as they were: their next tokens overwrite what this pass wrote (denoising).
   * Default: true.
   */
  keep?: boolean;
  /** Which experts' last hidden rows are wanted. Default: none. */
  wanted?: readonly Expert[];
  signal?: AbortSignal;
  /** Called before the first layer and after each; with it, long work is waited for layer by layer. */
  onLayer?: (done: number, total: number) => void;
}

/** Rows of a block's grid. @throws {InputError} If the image has no whole patch or does not fit the table */
function gridOf(height: number, width: number, patch: number, side: number, what: string) {
  const [rows, columns] = [Math.floor(height / patch), Math.floor(width / patch)];
  if (rows < 1 || columns < 1 || rows > side || columns > side) {
    throw new InputError(
      `Cannot read a ${width}×${height} image with the ${what}: its sides must be from ${patch} to ` +
        `${side * patch} pixels`,
      { help: `resize the image, or ask for another --size` },
    );
  }
  return { rows, columns };
}

/** How many tokens a block takes, and how far it moves the rotary position. */
export function blockTokens(block: Block, config: UniMedVLConfig): number {
  if (block.kind === "text") return block.ids.length;
  if (block.kind === "latents") return block.rows * block.columns + 2;
  const { height, width } = block.image;
  const { vision, vitMaxNumPatchPerSide: side } = config;
  const { rows, columns } = gridOf(height, width, vision.patchSize, side, "image encoder");
  return rows * columns + 2;
}

/** Host lists of one pass. */
class Lists {
  readonly positions: { [E in Expert]: number[] } = { und: [], gen: [] };
  /** Packed places of each expert's rows. */
  readonly places: { [E in Expert]: number[] } = { und: [], gen: [] };
  readonly spans: CacheSpan[] = [];
  readonly textIds: number[] = [];
  /** Rows of text tokens and of ViT tokens in the und stream. */
  readonly textRows: number[] = [];
  readonly vitRows: number[] = [];
  readonly patches: Float32Array[] = [];
  readonly vitPositions: number[] = [];
  readonly vitImage: number[] = [];
  readonly latents: Float32Array[] = [];
  readonly latentPlaces: number[] = [];
  readonly times: number[] = [];
  tokens = 0;
  images = 0;

  constructor(readonly config: UniMedVLConfig, readonly special: SpecialIds) {}

  add(block: Block, position: number): void {
    if (block.kind === "text") {
      for (let i = 0; i < block.ids.length; i++) this.#text(block.ids[i], position + i);
      return;
    }
    this.#text(this.special.soi, position);
    if (block.kind === "vit") this.#vit(block.image, position);
    else this.#latents(block, position);
    this.#text(this.special.eoi, position);
  }

  #place(expert: Expert, position: number): number {
    this.positions[expert].push(position);
    this.places[expert].push(this.tokens++);
    return this.positions[expert].length - 1;
  }

  #text(id: number, position: number): void {
    this.textIds.push(id);
    this.textRows.push(this.#place("und", position));
  }

  #vit({ data, height, width }: Pixels, position: number): void {
    const { vision, vitMaxNumPatchPerSide: side } = this.config;
    const { patchSize } = vision;
    const { rows, columns } = gridOf(height, width, patchSize, side, "image encoder");
    this.patches.push(patchify(data, height, width, patchSize));
    const ids = positionIds(rows, columns, side);
    for (const id of ids) {
      this.vitPositions.push(id); // one id for both tables, as in the reference
      this.vitImage.push(this.images);
      this.vitRows.push(this.#place("und", position));
    }
    this.images++;
  }

  #latents(block: Extract<Block, { kind: "latents" }>, position: number): void {
    const { rows, columns, tokens, t } = block;
    const { maxLatentSize: side } = this.config;
    const stride = latentStride(this.config);
    gridOf(rows * stride, columns * stride, stride, side, "latent position table");
    if (tokens.length !== rows * columns * latentSize(this.config)) {
      throw new TypeError(`Cannot read ${tokens.length} values as ${rows} × ${columns} latents`);
    }
    this.latents.push(tokens);
    for (const id of positionIds(rows, columns, side)) {
      this.latentPlaces.push(id);
      this.times.push(t);
      this.#place("gen", position);
    }
  }
}

/**
 * Runs the decoder over new tokens.
 *
 * @param readings contexts with their new blocks; a context may come once
 * @returns final-normed hidden rows of the wanted experts, in the order of the tokens; the caller's to dispose
 * @throws {InputError} If an image does not fit the position tables
 * @throws {ResourceError} If the cache or the device memory has no room
 */
export async function runPass(
  model: UniMedVL,
  special: SpecialIds,
  readings: readonly Reading[],
  options: PassOptions = {},
): Promise<Streams> {
  const { keep = true, wanted = [] } = options;
  const { gpu, config } = model;
  const lists = new Lists(config, special);
  const moved: { context: Context; tokens: number; positions: number }[] = [];
  for (const { context, blocks } of readings) {
    const counts = blocks.map((block) => blockTokens(block, config));
    const total = counts.reduce((a, b) => a + b, 0);
    context.reserve(total);
    let [length, position] = [context.length, context.rope];
    blocks.forEach((block, i) => {
      const causal = block.kind === "text";
      lists.add(block, position);
      lists.spans.push({ pages: context.pages, length, tokens: counts[i], causal });
      length += counts[i];
      position += causal ? counts[i] : 1;
    });
    moved.push({ context, tokens: total, positions: position - context.rope });
  }
  if (lists.tokens === 0) return {};
  const layers = readings[0].context.pool.layers;
  const words = await model.readEmbeddings?.(lists.textIds);
  const { layout, inputs } = tidy(() =>
    noGrad(() => {
      const layout = makeLayout(gpu, lists, layers);
      return { layout, inputs: model.embed(embedBatch(gpu, lists, layout, words)) };
    })
  );
  try {
    const hidden = await runLayers(model, inputs, layout, wanted, options);
    if (keep) {
      for (const { context, tokens, positions } of moved) context.advance(tokens, positions);
    }
    return hidden;
  } finally {
    disposeAll(layout);
  }
}

/**
 * Waits for the device where that is long compared with the wait itself (11 ms in Deno): while it computes nothing
 * else runs here, no progress line and no Ctrl-C, so long work is waited for piece by piece.
 */
class Pace {
  #last = Infinity;
  #skipped = 0;

  constructor(readonly gpu: Gpu) {}

  async wait(): Promise<void> {
    if (this.#last < LONG_MS && ++this.#skipped < SKIPPED) return;
    const start = performance.now();
    await this.gpu.settle();
    this.#last = (performance.now() - start) / (this.#skipped + 1);
    this.#skipped = 0;
  }
}

/** Work worth a wait of its own, and how many shorter pieces go by without. */
const LONG_MS = 50, SKIPPED = 8;

/** Layer by layer, each weights' source asked in turn; final norms of what is wanted. */
async function runLayers(
  model: UniMedVL,
  inputs: Streams,
  layout: Layout,
  wanted: readonly Expert[],
  { signal, onLayer }: PassOptions,
): Promise<Streams> {
  const { language } = model.config;
  const present = EXPERTS.filter((e) => inputs[e] !== undefined);
  let x = inputs;
  const total = language.numHiddenLayers;
  const pace = onLayer ? new Pace(model.gpu) : undefined;
  try {
    onLayer?.(0, total);
    await pace?.wait(); // for the embeddings: an image encoder is a model of its own
    for (let i = 0; i < total; i++) {
      signal?.throwIfAborted();
      const p = await model.layerWeights(i, present);
      const needUnd = i < total - 1 || wanted.includes("und");
      const before = x;
      x = tidy(() =>
        noGrad(() => decoderLayer({ ...before }, p, i, language, layout, { needUnd }))
      );
      for (const e of EXPERTS) if (before[e] !== x[e]) before[e]?.dispose();
      await model.releaseLayer(i);
      await pace?.wait();
      onLayer?.(i + 1, total);
    }
    const last = x;
    return tidy(() =>
      noGrad(() => {
        const out: Streams = {};
        for (const e of wanted) {
          const h = last[e];
          if (!h) continue;
          out[e] = rmsNorm(h, model.parameters.get(`${e}.norm.weight`), language.rmsNormEps);
        }
        return out;
      })
    );
  } finally {
    for (const e of EXPERTS) x[e]?.dispose();
  }
}

function makeLayout(gpu: Gpu, lists: Lists, layers: Parameters<typeof cacheView>[0]): Layout {
  const { language } = lists.config;
  const layout: Layout = {
    tokens: lists.tokens,
    rows: {},
    rope: {},
    mask: cacheView(layers, lists.spans),
  };
  for (const e of EXPERTS) {
    if (lists.places[e].length === 0) continue;
    layout.rows[e] = rowIndex(gpu, Int32Array.from(lists.places[e]), lists.tokens);
    layout.rope[e] = ropeTables(gpu, lists.positions[e], headSize(language), language.ropeTheta);
  }
  return layout;
}

function embedBatch(
  gpu: Gpu,
  lists: Lists,
  layout: Layout,
  words: Float32Array | undefined,
): Omit<Batch, "undIndexes" | "genIndexes"> {
  const { config } = lists;
  const { vision } = config;
  const batch: Omit<Batch, "undIndexes" | "genIndexes"> = { layout };
  const und = lists.positions.und.length;
  if (lists.textIds.length > 0) {
    batch.text = {
      ids: lookupIndex(gpu, Int32Array.from(lists.textIds), config.language.vocabSize),
      rows: rowIndex(gpu, Int32Array.from(lists.textRows), und),
      ...(words &&
        { embedded: Tensor.from(gpu, words, [lists.textIds.length, config.language.hiddenSize]) }),
    };
  }
  if (lists.vitRows.length > 0) {
    const n = lists.vitRows.length;
    const sample = Int32Array.from(lists.vitImage);
    batch.vit = {
      patches: Tensor.from(gpu, joined(lists.patches), [
        n,
        vision.patchSize ** 2 * vision.numChannels,
      ]),
      positions: lookupIndex(gpu, Int32Array.from(lists.vitPositions), learnedPositions(vision)),
      places: lookupIndex(
        gpu,
        Int32Array.from(lists.vitPositions),
        config.vitMaxNumPatchPerSide ** 2,
      ),
      mask: attentionMask(gpu, { sample, split: sample, mode: new Int32Array(n).fill(1) }),
      rows: rowIndex(gpu, Int32Array.from(lists.vitRows), und),
    };
  }
  if (lists.times.length > 0) {
    const distinct = [...new Set(lists.times)];
    const features = timestepFeatures(Float32Array.from(distinct));
    batch.latent = {
      noisy: Tensor.from(gpu, joined(lists.latents), [lists.times.length, latentSize(config)]),
      positions: lookupIndex(gpu, Int32Array.from(lists.latentPlaces), config.maxLatentSize ** 2),
      features: Tensor.from(gpu, features, [distinct.length, features.length / distinct.length]),
      timeRows: lookupIndex(
        gpu,
        Int32Array.from(lists.times, (t) => distinct.indexOf(t)),
        distinct.length,
      ),
    };
  }
  return batch;
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Gives back what a layout holds on the device. */
function disposeAll({ rows, rope, mask }: Layout): void {
  for (const e of EXPERTS) {
    const index = rows[e];
    for (const tensor of [index?.indices, index?.inverse, index?.segments]) tensor?.dispose();
    rope[e]?.cos.dispose();
    rope[e]?.sin.dispose();
  }
  mask.table.dispose();
  if ("kind" in mask) { for (const span of mask.spans) span.mask.table.dispose(); }
}
