// The blocks of image_blocks.ts without gradients, for images of any size: in steps, in bands, in place. A block
// uses up its input and keeps no more than it must: at 1024 × 1024 pixels one image of 256 channels is 1 GiB.

import { affine } from "../ops/affine.ts";
import { convolveSteps, type NormWeights } from "../ops/conv2d_steps.ts";
import { type ConvOptions, padAll } from "../ops/conv2d.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { matmul } from "../ops/matmul.ts";
import { softmax } from "../ops/softmax.ts";
import type { Held, Steps } from "../ops/steps.ts";
import { upsampleConvolveSteps } from "../ops/upsample_convolve.ts";
import { Tensor, tidy } from "../tensor.ts";
import { HALVE } from "./image_blocks.ts";
import type { Parameters } from "./parameters.ts";

/** Bytes of attention scores at a time, at most. */
export const SCORE_BYTES = 2 ** 25;

/** Channels last (B, h, w, C) → (B, h', w', O); takes its input, and gives its result, in charge of `held`. */
export type BlockSteps = (held: Held, x: Tensor, p: Parameters) => Steps<Tensor>;

/** 3×3 (padded) or 1×1 convolution by the weight and bias of `p`. */
export const convolveBlock: BlockSteps = function* (held, x, p) {
  const y = yield* convolution(held, x, p);
  held.drop(x);
  return y;
};

/** `conv(swish(norm(x)))` by the weights `norm_out` and `conv_out` of `p`. */
export const outputBlock: BlockSteps = function* (held, x, p) {
  const y = yield* convolution(held, x, p.sub("conv_out"), { norm: normWeights(p, "norm_out") });
  held.drop(x);
  return y;
};

/** `resnetBlock`; a shortcut without weights is the input itself, added to in place. */
export const resnetSteps: BlockSteps = function* (held, x, p) {
  const inner = yield* convolution(held, x, p.sub("conv1"), { norm: normWeights(p, "norm1") });
  let y = x;
  if (p.find("nin_shortcut.weight")) {
    y = yield* convolution(held, x, p.sub("nin_shortcut"));
    held.drop(x);
  }
  yield* convolution(held, inner, p.sub("conv2"), { norm: normWeights(p, "norm2"), into: y });
  held.drop(inner);
  return y;
};

/**
 * `attentionBlock`, by products of matrices: as many queries at a time as {@link SCORE_BYTES} holds scores of.
 * Heads as wide as all channels leave the kernels of `attention` little to share.
 */
export const attentionSteps: BlockSteps = function* (held, x, p) {
  const [images, h, w, channels] = x.shape;
  const { weight, bias } = normWeights(p, "norm");
  const normal = held.hold(groupNorm(x, weight, bias));
  const q = yield* convolution(held, normal, p.sub("q"));
  const k = yield* convolution(held, normal, p.sub("k"));
  const v = yield* convolution(held, normal, p.sub("v"));
  held.drop(normal);
  const mixed = held.hold(Tensor.empty(x.gpu, x.shape));
  const pixels = h * w;
  const step = Math.max(1, Math.min(pixels, Math.floor(SCORE_BYTES / 4 / pixels)));
  for (let image = 0; image < images; image++) {
    const start = image * pixels;
    for (let from = 0; from < pixels; from += step) {
      const count = Math.min(step, pixels - from);
      tidy(() => {
        const queries = affine(rows(q, start + from, count), channels ** -0.5);
        const scores = matmul(queries, rows(k, start, pixels), { transposeB: true });
        const weights = softmax(scores);
        scores.dispose();
        const sums = matmul(weights, rows(v, start, pixels));
        const at = 4 * channels * (start + from);
        x.gpu.copy(sums.buffer, 0, mixed.buffer, at, 4 * sums.size);
      });
      yield 2 * count * pixels * channels;
    }
  }
  for (const spent of [q, k, v]) held.drop(spent);
  yield* convolution(held, mixed, p.sub("proj_out"), { into: x });
  held.drop(mixed);
  return x;
};

/** `downsample`. */
export const downsampleSteps: BlockSteps = function* (held, x, p) {
  const y = yield* convolution(held, x, p.sub("conv"), HALVE);
  held.drop(x);
  return y;
};

/** `upsample`, up to rounding. */
export const upsampleSteps: BlockSteps = function* (held, x, p) {
  const conv = p.sub("conv");
  const y = yield* upsampleConvolveSteps(held, x, conv.get("weight"), conv.get("bias"));
  held.drop(x);
  return y;
};

function convolution(
  held: Held,
  x: Tensor,
  p: Parameters,
  options: { norm?: NormWeights; into?: Tensor } & ConvOptions = {},
): Steps<Tensor> {
  const weight = p.get("weight");
  const padding = options.padding ?? padAll(weight.dim(-1) >> 1);
  return convolveSteps(held, x, weight, p.get("bias"), { ...options, padding });
}

function normWeights(p: Parameters, name: string): NormWeights {
  const norm = p.sub(name);
  return { weight: norm.get("weight"), bias: norm.get("bias") };
}

/** Pixels `from … from + count` of all images as a matrix (count, C): a view of all, or a copy. */
function rows(x: Tensor, from: number, count: number): Tensor {
  const channels = x.dim(-1);
  if (count * channels === x.size) return x.alias([count, channels]);
  const y = Tensor.empty(x.gpu, [count, channels]);
  x.gpu.copy(x.buffer, 4 * from * channels, y.buffer, 0, 4 * y.size);
  return y;
}
