// The four blocks an image autoencoder is made of, over channels-last images; weights under the names of
// published checkpoints (Rombach et al. 2022, after Esser et al. 2021).

import { reshape } from "../autograd.ts";
import { add } from "../ops/add.ts";
import { attention } from "../ops/attention.ts";
import { attentionMask, FULL } from "../ops/attention_mask.ts";
import { conv2d, type ConvOptions, padAll } from "../ops/conv2d.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { upsampleNearest2 } from "../ops/upsample_nearest.ts";
import type { Tensor } from "../tensor.ts";
import type { Parameters } from "./parameters.ts";

const SAME: ConvOptions = { padding: padAll(1) };
/** Halves even sizes: a row below and a column to the right are padded, as in the checkpoints' training. */
export const HALVE: ConvOptions = { stride: 2, padding: { left: 0, right: 1, top: 0, bottom: 1 } };

/** 3×3 (padded) or 1×1 convolution by the weight and bias of `p`. */
export function convolve(x: Tensor, p: Parameters): Tensor {
  const weight = p.get("weight");
  return conv2d(x, weight, p.get("bias"), weight.dim(-1) === 3 ? SAME : {});
}

/** GroupNorm(32), then swish unless told otherwise. */
export function normalize(x: Tensor, p: Parameters, swish = true): Tensor {
  return groupNorm(x, p.get("weight"), p.get("bias"), { swish });
}

/**
 * `x + conv2(swish(norm2(conv1(swish(norm1(x))))))`; a 1×1 `nin_shortcut` stands on the left summand when
 * the number of channels changes.
 *
 * @param x (B, h, w, C)
 * @returns (B, h, w, O)
 */
export function resnetBlock(x: Tensor, p: Parameters): Tensor {
  const inner = convolve(normalize(x, p.sub("norm1")), p.sub("conv1"));
  const outer = convolve(normalize(inner, p.sub("norm2")), p.sub("conv2"));
  const shortcut = p.find("nin_shortcut.weight") ? convolve(x, p.sub("nin_shortcut")) : x;
  return add(shortcut, outer);
}

/**
 * Self-attention of all pixels of an image with one head of all channels:
 * `x + proj_out(softmax(q kᵀ / √C) v)`, q, k, v of `norm(x)`.
 *
 * @param x (B, h, w, C)
 * @returns (B, h, w, C)
 */
export function attentionBlock(x: Tensor, p: Parameters): Tensor {
  const [images, h, w, channels] = x.shape;
  const rows = images * h * w;
  const inner = normalize(x, p.sub("norm"), false);
  const [q, k, v] = ["q", "k", "v"].map((name) =>
    reshape(convolve(inner, p.sub(name)), [rows, 1, channels])
  );
  const image = Int32Array.from({ length: rows }, (_, i) => Math.floor(i / (h * w)));
  const mode = new Int32Array(rows).fill(FULL); // every pixel sees every pixel of its image
  const mask = attentionMask(x.gpu, { sample: image, split: image, mode });
  const mixed = reshape(attention(q, k, v, mask), x.shape);
  return add(x, convolve(mixed, p.sub("proj_out")));
}

/**
 * Half the size by a 3×3 convolution of stride 2, zeros added right and below.
 *
 * @param x (B, h, w, C)
 * @returns (B, ⌊h/2⌋, ⌊w/2⌋, C)
 */
export function downsample(x: Tensor, p: Parameters): Tensor {
  return conv2d(x, p.get("conv.weight"), p.get("conv.bias"), HALVE);
}

/**
 * Twice the size by repeating pixels, then a 3×3 convolution.
 *
 * @param x (B, h, w, C)
 * @returns (B, 2h, 2w, C)
 */
export function upsample(x: Tensor, p: Parameters): Tensor {
  return convolve(upsampleNearest2(x), p.sub("conv"));
}
