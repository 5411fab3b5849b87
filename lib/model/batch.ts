// A packed batch on the device: what the forward pass needs of it, uploaded once. The packed record itself
// (token kinds, positions, losses) comes from lib/data/pack.ts.

import type { PackedBatch } from "../data/pack.ts";
import { timestepFeatures } from "../data/position_tables.ts";
import type { Gpu } from "../gpu/device.ts";
import { type AttentionMask, attentionMask } from "../ops/attention_mask.ts";
import { type RopeTables, ropeTables } from "../ops/rope.ts";
import { type RowIndex, rowIndex } from "../ops/row_index.ts";
import { Tensor } from "../tensor.ts";
import { headSize, latentSize, learnedPositions, type UniMedVLConfig } from "./config.ts";
import type { Layout } from "./language.ts";

/** Everything one forward pass reads, on the host. */
export interface ModelInputs {
  /** Token kinds, positions, splits and losses. */
  packed: PackedBatch;
  /** (N_vae, latent numbers) clean latents of every VAE token, in packed order. */
  latents?: Float32Array;
  /** (N_vae, latent numbers) standard normal noise; rows of clean tokens are not used. */
  noise?: Float32Array;
  /** (N_vae) timesteps in [0, 1], 0 for clean tokens: see {@link shiftTimesteps}. */
  timesteps?: Float32Array;
  /**
   * (N_vae, latent numbers) the tokens as they are at these timesteps, in place of `latents` and `noise`:
   * for sampling, where there is no target.
   */
  noisy?: Float32Array;
}

/** Text tokens and their rows in the und stream. */
interface TextPart {
  ids: RowIndex;
  rows: RowIndex;
  /** (N_text, C) rows of the token table, where they were looked up already. */
  embedded?: Tensor;
}

/** ViT tokens: patches, position ids, their attention, their rows in the und stream. */
interface VitPart {
  patches: Tensor;
  /** Position ids as rows of the learned table, and of the connector's table. */
  positions: RowIndex;
  places: RowIndex;
  mask: AttentionMask;
  rows: RowIndex;
}

/** VAE tokens: noisy latents, position ids, timestep features of each image and who uses which. */
interface LatentPart {
  noisy: Tensor;
  positions: RowIndex;
  features: Tensor;
  timeRows: RowIndex;
}

/** Text loss: rows of the und stream that predict, and what. */
interface TextTarget {
  rows: RowIndex;
  labels: Tensor;
  weights: Float32Array;
}

/** Flow: rows of the gen stream that predict, and the velocities they should, if known. */
interface FlowTarget {
  rows: RowIndex;
  velocity?: Tensor;
}

/** A batch ready for {@link UniMedVL.forward}. Its tensors belong to the scope it was made in. */
export interface Batch {
  layout: Layout;
  text?: TextPart;
  vit?: VitPart;
  latent?: LatentPart;
  textTarget?: TextTarget;
  flowTarget?: FlowTarget;
  /** Packed positions of the und and the gen rows. */
  undIndexes: Int32Array;
  genIndexes: Int32Array;
}

/**
 * Timesteps from their logits: `t = σ(raw)`, then `t ← s·t / (1 + (s − 1)·t)`; −∞ becomes exactly 0.
 *
 * @param raw logits, one per VAE token
 * @param shift s, at least 1 moves towards noise
 */
export function shiftTimesteps(raw: Float32Array, shift: number): Float32Array {
  return raw.map((r) => {
    const t = 1 / (1 + Math.exp(-r));
    return (shift * t) / (1 + (shift - 1) * t);
  });
}

/** Uploads a batch. @throws {TypeError} If an array has not the size the packed record calls for */
export function prepareBatch(gpu: Gpu, config: UniMedVLConfig, inputs: ModelInputs): Batch {
  const { packed } = inputs;
  const genIndexes = packed.vaeTokenIndexes;
  const undIndexes = mergedSorted(packed.textIndexes, packed.vitTokenIndexes);
  const undRow = inverse(undIndexes, packed.sequenceLength);
  const rowsOf = (indexes: Int32Array, row: Int32Array, total: number) =>
    rowIndex(gpu, indexes.map((i) => row[i]), total);

  const layout = makeLayout(gpu, config, packed, undIndexes, genIndexes);
  const batch: Batch = { layout, undIndexes, genIndexes };
  if (packed.textIndexes.length > 0) {
    batch.text = {
      ids: rowIndex(gpu, packed.textIds, config.language.vocabSize),
      rows: rowsOf(packed.textIndexes, undRow, undIndexes.length),
    };
  }
  if (packed.vitTokenIndexes.length > 0) {
    batch.vit = {
      ...vitPart(gpu, config, packed),
      rows: rowsOf(packed.vitTokenIndexes, undRow, undIndexes.length),
    };
  }
  if (genIndexes.length > 0) batch.latent = latentPart(gpu, config, inputs);
  if (packed.ceLossIndexes.length > 0) {
    batch.textTarget = {
      rows: rowsOf(packed.ceLossIndexes, undRow, undIndexes.length),
      labels: Tensor.from(gpu, packed.labelIds, [packed.labelIds.length]),
      weights: packed.ceLossWeights,
    };
  }
  if (packed.mseLossIndexes.length > 0) {
    batch.flowTarget = { rows: rowIndex(gpu, packed.mseRows, genIndexes.length) };
    if (!inputs.noisy) {
      batch.flowTarget.velocity = targetVelocity(gpu, config, inputs, packed.mseRows);
    }
  }
  return batch;
}

function makeLayout(
  gpu: Gpu,
  config: UniMedVLConfig,
  packed: PackedBatch,
  und: Int32Array,
  gen: Int32Array,
): Layout {
  const { language } = config;
  const layout: Layout = {
    tokens: packed.sequenceLength,
    rows: {},
    rope: {},
    mask: attentionMask(gpu, packed),
  };
  const tables = (indexes: Int32Array): RopeTables => {
    const positions = indexes.map((i) => packed.positionIds[i]);
    return ropeTables(gpu, positions, headSize(language), language.ropeTheta);
  };
  if (und.length > 0) {
    layout.rows.und = rowIndex(gpu, und, packed.sequenceLength);
    layout.rope.und = tables(und);
  }
  if (gen.length > 0) {
    layout.rows.gen = rowIndex(gpu, gen, packed.sequenceLength);
    layout.rope.gen = tables(gen);
  }
  return layout;
}

function vitPart(gpu: Gpu, config: UniMedVLConfig, packed: PackedBatch): Omit<VitPart, "rows"> {
  const n = packed.vitTokenIndexes.length;
  const width = config.vision.patchSize ** 2 * config.vision.numChannels;
  const patches = expectSize(packed.vitTokens, n * width, "vitTokens");
  const sample = new Int32Array(n);
  let start = 0;
  packed.vitSeqlens.forEach((length, image) => {
    sample.fill(image, start, start + length);
    start += length;
  });
  const mode = new Int32Array(n).fill(1);
  const learned = learnedPositions(config.vision);
  const fixed = config.vitMaxNumPatchPerSide ** 2;
  const positions = rowIndex(gpu, packed.vitPositionIds, learned);
  return {
    patches: Tensor.from(gpu, patches, [n, width]),
    positions,
    places: fixed === learned ? positions : rowIndex(gpu, packed.vitPositionIds, fixed),
    mask: attentionMask(gpu, { sample, split: sample, mode }),
  };
}

function latentPart(gpu: Gpu, config: UniMedVLConfig, inputs: ModelInputs): LatentPart {
  const { packed } = inputs;
  const n = packed.vaeTokenIndexes.length;
  const width = latentSize(config);
  const timesteps = expectSize(inputs.timesteps, n, "timesteps");
  const noisy = inputs.noisy
    ? expectSize(inputs.noisy, n * width, "noisy")
    : mixNoise(inputs, timesteps, n, width);
  const distinct = [...new Set(timesteps)];
  const place = new Map(distinct.map((t, i) => [t, i]));
  const features = timestepFeatures(Float32Array.from(distinct));
  return {
    noisy: Tensor.from(gpu, noisy, [n, width]),
    positions: rowIndex(gpu, packed.latentPositionIds, config.maxLatentSize ** 2),
    features: Tensor.from(gpu, features, [distinct.length, features.length / distinct.length]),
    timeRows: rowIndex(gpu, Int32Array.from(timesteps, (t) => place.get(t)!), distinct.length),
  };
}

/** `x_t = (1 − t)·x₀ + t·ε`, each token at its own timestep; clean tokens stay as they are. */
function mixNoise(
  inputs: ModelInputs,
  timesteps: Float32Array,
  tokens: number,
  width: number,
): Float32Array {
  const noisy = expectSize(inputs.latents, tokens * width, "latents").slice();
  if (timesteps.every((t) => t === 0)) return noisy;
  const noise = expectSize(inputs.noise, tokens * width, "noise");
  for (let row = 0; row < tokens; row++) {
    const t = timesteps[row];
    if (t === 0) continue;
    for (let i = row * width; i < (row + 1) * width; i++) {
      noisy[i] = (1 - t) * noisy[i] + t * noise[i];
    }
  }
  return noisy;
}

function targetVelocity(
  gpu: Gpu,
  config: UniMedVLConfig,
  inputs: ModelInputs,
  rows: Int32Array,
): Tensor {
  const width = latentSize(config);
  const total = inputs.packed.vaeTokenIndexes.length * width;
  const latents = expectSize(inputs.latents, total, "latents");
  const noise = expectSize(inputs.noise, total, "noise");
  const velocity = new Float32Array(rows.length * width);
  rows.forEach((row, r) => {
    for (let c = 0; c < width; c++) {
      velocity[r * width + c] = noise[row * width + c] - latents[row * width + c];
    }
  });
  return Tensor.from(gpu, velocity, [rows.length, width]);
}

function expectSize(data: Float32Array | undefined, size: number, what: string): Float32Array {
  if (data?.length !== size) {
    throw new TypeError(
      `Cannot prepare a batch: ${what} has ${
        data?.length ?? 0
      } values, the packed tokens need ${size}`,
    );
  }
  return data;
}

function mergedSorted(a: Int32Array, b: Int32Array): Int32Array {
  const all = new Int32Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all.sort();
}

/** Row of each packed position in a list of positions; −1 where it is not in the list. */
function inverse(indexes: Int32Array, total: number): Int32Array {
  const row = new Int32Array(total).fill(-1);
  indexes.forEach((position, i) => row[position] = i);
  return row;
}
