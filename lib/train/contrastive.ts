// Image–text training of the image encoder: a picture and the text that belongs to it shall point the same way
// (Zhai et al. 2023, "Sigmoid loss for language image pre-training"). The text tower is the simplest one that can
// tell captions apart: the mean of a caption's word vectors through a small feed-forward, blind to word order.

import { reshape } from "../autograd.ts";
import { Draws } from "../data/draws.ts";
import { patchify, positionIds } from "../data/patches.ts";
import type { Pixels } from "../data/transforms.ts";
import type { Gpu } from "../gpu/device.ts";
import { learnedPositions, type VisionConfig } from "../model/config.ts";
import { encodePatches } from "../model/vision.ts";
import { geluMlp } from "../nn/mlp.ts";
import { Parameters } from "../nn/parameters.ts";
import { attentionMask } from "../ops/attention_mask.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { linear } from "../ops/linear.ts";
import { matmul } from "../ops/matmul.ts";
import { mul } from "../ops/mul.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rowIndex } from "../ops/row_index.ts";
import { sum } from "../ops/sum.ts";
import { exp, scale, softplus } from "../ops/unary.ts";
import { sizeOf, Tensor } from "../tensor.ts";

/** Sizes of what stands beside the image encoder. */
export interface ContrastiveConfig {
  /** Numbers of a direction that images and texts share. */
  width: number;
  /** Entries of the vocabulary. */
  vocabSize: number;
}

/** Names of what stands beside the image encoder begin with this. */
export const CONTRAST_PREFIX = "contrast.";

const START_SCALE = Math.log(10);
const START_BIAS = -10;

/** Name → shape of what stands beside the image encoder. */
export function contrastiveShapes(
  { width, vocabSize }: ContrastiveConfig,
  vision: VisionConfig,
): Map<string, number[]> {
  return new Map([
    ["contrast.image.weight", [width, vision.hiddenSize]],
    ["contrast.text.embed.weight", [vocabSize, width]],
    ["contrast.text.mlp.fc1.weight", [2 * width, width]],
    ["contrast.text.mlp.fc1.bias", [2 * width]],
    ["contrast.text.mlp.fc2.weight", [width, 2 * width]],
    ["contrast.text.mlp.fc2.bias", [width]],
    ["contrast.scale", [1, 1]],
    ["contrast.bias", [1]],
  ]);
}

/**
 * Fresh weights: N(0, 1/inputs), word vectors N(0, 1), biases 0, scale log 10 and bias -10 as published, under which
 * nearly every pair begins as a mismatch. Draws depend on the seed and the weight's name.
 *
 * @param into where they are added, as trainable
 */
export function initContrastive(
  gpu: Gpu,
  config: ContrastiveConfig,
  vision: VisionConfig,
  seed: number,
  into: Parameters,
): void {
  for (const [name, shape] of contrastiveShapes(config, vision)) {
    const values = new Float32Array(sizeOf(shape));
    if (name === "contrast.scale") values.fill(START_SCALE);
    else if (name === "contrast.bias") values.fill(START_BIAS);
    else if (name.endsWith(".weight")) {
      const draws = new Draws("contrastive", seed, name);
      const sd = name === "contrast.text.embed.weight" ? 1 : 1 / Math.sqrt(shape[1]);
      for (let i = 0; i < values.length; i++) values[i] = sd * draws.normal();
    }
    into.add(name, Tensor.from(gpu, values, shape));
  }
}

/**
 * Directions of images: patches through the image encoder, mean over the patches of each, linear map, unit length.
 *
 * @param images each at least one patch in height and width, at most the position table's grid
 * @param p parameters with the prefixes `vit` and `contrast`
 * @returns (B, width)
 */
export function imageDirections(
  gpu: Gpu,
  images: readonly Pixels[],
  p: Parameters,
  vision: VisionConfig,
): Tensor {
  const { patchSize: patch } = vision;
  const side = Math.sqrt(learnedPositions(vision));
  const patches = images.map(({ data, height, width }) => patchify(data, height, width, patch));
  const grids = images.map(({ height, width }) =>
    positionIds(Math.floor(height / patch), Math.floor(width / patch), side)
  );
  const counts = grids.map((ids) => ids.length);
  const sample = Int32Array.from(counts.flatMap((n, i) => new Array<number>(n).fill(i)));
  const rows = sample.length;
  const width = patches[0].length / counts[0];
  const features = encodePatches(
    Tensor.from(gpu, joined(patches), [rows, width]),
    rowIndex(gpu, Int32Array.from(grids.flatMap((ids) => [...ids])), side * side),
    attentionMask(gpu, { sample, split: sample, mode: new Int32Array(rows).fill(1) }),
    p,
    vision,
  );
  const pooled = matmul(averages(gpu, counts), features);
  return unit(linear(pooled, p.get("contrast.image.weight")));
}

/**
 * Directions of texts: mean of the word vectors, feed-forward, unit length.
 *
 * @param texts ids of each, at least one
 * @param p parameters with the prefix `contrast`
 * @returns (B, width)
 * @throws {RangeError} If a text has no ids
 */
export function textDirections(
  gpu: Gpu,
  texts: readonly ArrayLike<number>[],
  p: Parameters,
): Tensor {
  const empty = texts.findIndex((ids) => ids.length === 0);
  if (empty >= 0) throw new RangeError(`Cannot point text ${empty} anywhere: it has no words`);
  const table = p.get("contrast.text.embed.weight");
  const ids = rowIndex(gpu, Int32Array.from(texts.flatMap((t) => Array.from(t))), table.dim(0));
  const mean = matmul(averages(gpu, texts.map((t) => t.length)), gatherRows(table, ids));
  return unit(geluMlp(mean, p.sub("contrast.text.mlp")));
}

/**
 * Sigmoid loss over all pairs of a batch: `(1/B) Σ_ij -log σ(s_ij (e^τ x_i·y_j + b))`, where s_ij is 1 for pairs that
 * belong together and -1 for the others (Zhai et al. 2023, eq. 1 and algorithm 1).
 *
 * @param x (B, D) of unit length
 * @param y (B, D) of unit length
 * @param logScale (1, 1) τ
 * @param bias (1) b
 * @param keys what y_j is the partner of: pairs with equal keys belong together. Captions of the same words are one
 *   caption, and counting them as mismatches would teach that they differ. Default: x_i and y_i alone
 * @returns (1)
 * @throws {TypeError} If the shapes do not belong together
 */
export function sigmoidPairLoss(
  x: Tensor,
  y: Tensor,
  { logScale, bias }: { logScale: Tensor; bias: Tensor },
  keys?: readonly (string | number)[],
): Tensor {
  const [b] = x.shape;
  if (x.shape.length !== 2 || x.shape.join() !== y.shape.join() || (keys && keys.length !== b)) {
    throw new TypeError(
      `Cannot pair (${x.shape.join(", ")}) with (${y.shape.join(", ")})` +
        (keys ? ` by ${keys.length} keys` : ""),
    );
  }
  const products = reshape(matmul(x, y, { transposeB: true }), [b * b, 1]);
  const logits = linear(products, exp(logScale), bias); // one factor and one summand for all pairs
  const away = Float32Array.from({ length: b * b }, (_, k) => {
    const [i, j] = [Math.floor(k / b), k % b];
    return (keys ? keys[i] === keys[j] : i === j) ? -1 : 1;
  });
  const signed = mul(logits, Tensor.from(x.gpu, away, [b * b, 1]));
  return scale(sum(softplus(signed)), 1 / b);
}

/** Shares of queries whose nearest candidate is the right one. */
export interface Recall {
  /** Images that find their text among all texts. */
  imageToText: number;
  /** Texts that find their image. */
  textToImage: number;
  /** Expected share of a blind choice. */
  chance: number;
}

/**
 * Recall at 1 both ways.
 *
 * @param x (n · D) directions of images
 * @param y (n · D) directions of texts; the i-th belongs to the i-th image alone
 * @throws {TypeError} If the lengths do not belong together
 */
export function recallAtOne(x: Float32Array, y: Float32Array, n: number): Recall {
  const width = x.length / n;
  if (n === 0 || x.length !== y.length || !Number.isInteger(width)) {
    throw new TypeError(`Cannot compare ${x.length} numbers with ${y.length} as ${n} directions`);
  }
  const hits = (from: Float32Array, to: Float32Array) => {
    let right = 0;
    for (let i = 0; i < n; i++) {
      let best = -1;
      let most = -Infinity;
      for (let j = 0; j < n; j++) {
        let dot = 0;
        for (let c = 0; c < width; c++) dot += from[i * width + c] * to[j * width + c];
        if (dot > most) [best, most] = [j, dot];
      }
      if (best === i) right++;
    }
    return right / n;
  };
  return { imageToText: hits(x, y), textToImage: hits(y, x), chance: 1 / n };
}

const joined = (parts: readonly Float32Array[]) => {
  const out = new Float32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

/** (groups, rows) matrix that averages neighbouring rows, `counts[i]` of them into one. */
function averages(gpu: Gpu, counts: readonly number[]): Tensor {
  const rows = counts.reduce((a, b) => a + b, 0);
  const values = new Float32Array(counts.length * rows);
  let at = 0;
  counts.forEach((count, i) => {
    values.fill(1 / count, i * rows + at, i * rows + at + count);
    at += count;
  });
  return Tensor.from(gpu, values, [counts.length, rows]);
}

/** Rows of unit length: `x / ‖x‖`, which is a root-mean-square norm with weights 1/√D. */
function unit(x: Tensor): Tensor {
  const width = x.dim(1);
  const weight = new Float32Array(width).fill(1 / Math.sqrt(width));
  return rmsNorm(x, Tensor.from(x.gpu, weight, [width]), 1e-12);
}
