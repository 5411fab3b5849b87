// Group normalization over channels-last images, optionally with the swish that follows it in every block
// of the autoencoder: fused, the value between the two is neither stored nor kept for training.

import applyCode from "../../kernels/group_norm.wgsl" with { type: "text" };
import backwardCode from "../../kernels/group_norm_backward.wgsl" with { type: "text" };
import backwardChunksCode from "../../kernels/group_norm_backward_chunks.wgsl" with {
  type: "text",
};
import chunksCode from "../../kernels/group_norm_chunks.wgsl" with { type: "text" };
import mergeCode from "../../kernels/group_norm_merge.wgsl" with { type: "text" };
import swish from "../../kernels/common/swish.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { chunkSums } from "./chunk_sums.ts";
import { columns } from "./columns.ts";

const knobs = ["SWISH"] as const;
const chunksKernel = new Kernel("group_norm_chunks", { main: chunksCode });
const mergeKernel = new Kernel("group_norm_merge", { main: mergeCode });
const applyKernel = new Kernel("group_norm", { main: applyCode, knobs });
const backwardChunks = new Kernel("group_norm_backward_chunks", {
  main: backwardChunksCode,
  parts: [swish],
  knobs,
});
const backwardKernel = new Kernel("group_norm_backward", {
  main: backwardCode,
  parts: [swish],
  knobs,
});

/** Pixels per invocation of the pointwise passes: amortizes reading the statistics. */
const RUN = 16;

/** Options of {@link groupNorm}. */
export interface GroupNormOptions {
  /** Groups of adjacent channels. Default: 32. */
  groups?: number;
  /** Added to the variance. Default: 1e-6. */
  eps?: number;
  /** Apply `u · σ(u)` to the result. Default: false. */
  swish?: boolean;
}

/**
 * `u = (x - m) / √(σ² + eps) · weight + bias`, with mean m and variance σ² of each image over all pixels and
 * the C / groups adjacent channels of a group (Wu & He 2018); with `swish`, `y = u · σ(u)`.
 *
 * @param x (B, h, w, C) channels last
 * @param weight (C)
 * @param bias (C)
 * @returns (B, h, w, C)
 * @throws {TypeError} If the shapes do not fit each other
 * @throws {RangeError} If C is not a multiple of `groups` and of 4
 */
export function groupNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  options: GroupNormOptions = {},
): Tensor {
  const { groups = 32, eps = 1e-6 } = options;
  const SWISH = Number(options.swish ?? false);
  check(x, weight, bias, groups);
  const gpu = x.gpu;
  const [images, h, w, channels] = x.shape;
  const pixels = h * w;
  const quads = channels / 4;
  const stats = statistics(x, groups, eps);
  const runs = Math.ceil(pixels / RUN);
  const n = images * runs * quads;
  const grid = foldGrid(Math.ceil(n / 64));
  const y = Tensor.empty(gpu, x.shape);
  applyKernel.run(gpu, {
    buffers: {
      x: x.buffer,
      stats: stats.buffer,
      weight: weight.buffer,
      bias: bias.buffer,
      y: y.buffer,
    },
    params: { n, pixels, quads, runs, run: RUN },
    knobs: { SWISH },
    grid,
  });
  stats.dispose();

  return record(y, [x, weight, bias], (dy, needs) => {
    const stats = statistics(x, groups, eps);
    const { chunk, chunks } = chunking(pixels);
    const parts = Tensor.empty(gpu, [images, chunks, 2, channels]);
    const buffers = {
      x: x.buffer,
      dy: dy.buffer,
      stats: stats.buffer,
      weight: weight.buffer,
      bias: bias.buffer,
    };
    const count = images * chunks * quads;
    backwardChunks.run(gpu, {
      buffers: { ...buffers, sums: parts.buffer },
      params: { n: count, pixels, quads, chunks, chunk },
      knobs: { SWISH },
      grid: foldGrid(Math.ceil(count / 64)),
    });
    const sums = chunkSums(parts, images, chunks, 2 * channels);
    let dx: Tensor | null = null;
    if (needs[0]) {
      dx = Tensor.empty(gpu, x.shape);
      backwardKernel.run(gpu, {
        buffers: { ...buffers, sums: sums.buffer, dx: dx.buffer },
        params: { n, pixels, quads, runs, run: RUN, per_group: channels / groups },
        knobs: { SWISH },
        grid,
      });
    }
    if (!needs[1] && !needs[2]) return [dx, null, null];
    const both = chunkSums(sums, 1, images, 2 * channels); // dbias, then dweight
    const part = (k: number) => columns(both, k * channels, channels).alias([channels]);
    return [dx, needs[1] ? part(1) : null, needs[2] ? part(0) : null];
  });
}

/** Pixels per partial sum: long enough to be worth a launch, short enough to occupy a device. */
function chunking(pixels: number): { chunk: number; chunks: number } {
  const chunk = Math.max(64, Math.ceil(pixels / 256));
  return { chunk, chunks: Math.ceil(pixels / chunk) };
}

/** (B, C, 2): mean and 1/√(σ² + eps) of each channel's group. Recomputed in backward: cheaper than kept. */
function statistics(x: Tensor, groups: number, eps: number): Tensor {
  const gpu = x.gpu;
  const [images, h, w, channels] = x.shape;
  const pixels = h * w;
  const quads = channels / 4;
  const { chunk, chunks } = chunking(pixels);
  const means = Tensor.empty(gpu, [images, chunks, channels]);
  const squares = Tensor.empty(gpu, [images, chunks, channels]);
  const n = images * chunks * quads;
  chunksKernel.run(gpu, {
    buffers: { x: x.buffer, means: means.buffer, squares: squares.buffer },
    params: { n, pixels, quads, chunks, chunk },
    grid: foldGrid(Math.ceil(n / 64)),
  });
  const stats = Tensor.empty(gpu, [images, channels, 2]);
  mergeKernel.run(gpu, {
    buffers: { means: means.buffer, squares: squares.buffer, stats: stats.buffer },
    params: { pixels, channels, per_group: channels / groups, chunks, chunk, eps },
    grid: [groups, images],
  });
  means.dispose();
  squares.dispose();
  return stats;
}

function check(x: Tensor, weight: Tensor, bias: Tensor, groups: number): void {
  const named = `(${x.shape.join(", ")})`;
  if (x.shape.length !== 4) {
    throw new TypeError(`Cannot normalize ${named} by groups: it has not four axes`);
  }
  const channels = x.dim(-1);
  for (const [name, t] of [["weight", weight], ["bias", bias]] as const) {
    if (t.shape.join() !== `${channels}`) {
      throw new TypeError(
        `Cannot normalize ${named} by groups: ${name} is (${
          t.shape.join(", ")
        }), not (${channels})`,
      );
    }
  }
  if (channels % groups !== 0 || channels % 4 !== 0) {
    throw new RangeError(
      `Cannot normalize ${named} by groups: ${channels} channels do not divide into ${groups} groups ` +
        "and into fours",
    );
  }
}
