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
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { chunkSums } from "./chunk_sums.ts";
import { columns } from "./columns.ts";
import {
  allRows,
  bandBytes,
  expectAlignedImages,
  expectOneBinding,
  type ImageRows,
  rowBands,
  rowsBinding,
} from "./image_rows.ts";

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

/** Chunks of pixels are multiples of this: then each starts where a binding may. */
const CHUNK_STEP = 16;

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
 * @throws {ResourceError} If gradients are recorded and `x` is larger than one binding of the adapter; without
 *   them it is worked on in bands
 */
export function groupNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  options: GroupNormOptions = {},
): Tensor {
  const { groups = 32, eps = 1e-6 } = options;
  const SWISH = Number(options.swish ?? false);
  expectGroups(x, weight, bias, groups);
  expectOneBinding(x, "normalize", 4 * x.size, [x, weight, bias]);
  const gpu = x.gpu;
  const [images, h, w, channels] = x.shape;
  const pixels = h * w;
  const quads = channels / 4;
  const bands = rowBands(x, "normalize", gpu.maxBindingBytes);
  if (bands.length > 1) expectAlignedImages(x, "normalize", 8 * channels);
  const y = Tensor.empty(gpu, x.shape);
  const stats = groupStatistics(x, groups, eps);
  for (const rows of bands) {
    normalizeRows(x, rows, { stats, weight, bias, swish: SWISH === 1 }, { images: y });
  }
  stats.dispose();

  return record(y, [x, weight, bias], (dy, needs) => {
    const runs = Math.ceil(pixels / RUN);
    const n = images * runs * quads;
    const stats = groupStatistics(x, groups, eps);
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
        grid: foldGrid(Math.ceil(n / 64)),
      });
    }
    if (!needs[1] && !needs[2]) return [dx, null, null];
    const both = chunkSums(sums, 1, images, 2 * channels); // dbias, then dweight
    const part = (k: number) => columns(both, k * channels, channels).alias([channels]);
    return [dx, needs[1] ? part(1) : null, needs[2] ? part(0) : null];
  });
}

/** Statistics and weights to normalize by. */
export interface GroupScale {
  /** (B, C, 2) from {@link groupStatistics}. */
  stats: Tensor;
  weight: Tensor;
  bias: Tensor;
  swish: boolean;
}

/**
 * Normalizes rows of images. Not differentiable: a piece of {@link groupNorm}.
 *
 * @param x (B, h, w, C)
 * @param y of the shape of `x`, or a copy that has these rows alone
 */
export function normalizeRows(
  x: Tensor,
  rows: ImageRows,
  { stats, weight, bias, swish }: GroupScale,
  y: { images: Tensor; copied?: boolean },
): void {
  const [, , w, channels] = x.shape;
  const quads = channels / 4;
  const pixels = (rows.to - rows.from) * w;
  const runs = Math.ceil(pixels / RUN);
  const n = rows.images * runs * quads;
  const own = 8 * channels; // bytes of an image's statistics
  applyKernel.run(x.gpu, {
    buffers: {
      x: rowsBinding(x, rows),
      stats: rows.images === x.dim(0)
        ? stats.buffer
        : { buffer: stats.buffer, offset: rows.image * own, sizeBytes: own },
      weight: weight.buffer,
      bias: bias.buffer,
      y: y.copied ? y.images.buffer : rowsBinding(y.images, rows),
    },
    params: { n, pixels, quads, runs, run: RUN },
    knobs: { SWISH: Number(swish) },
    grid: foldGrid(Math.ceil(n / 64)),
  });
}

/** Pixels per partial sum: long enough to be worth a launch, short enough to occupy a device. */
function chunking(pixels: number): { chunk: number; chunks: number } {
  const chunk = Math.max(64, CHUNK_STEP * Math.ceil(pixels / 256 / CHUNK_STEP));
  return { chunk, chunks: Math.ceil(pixels / chunk) };
}

/**
 * (B, C, 2): mean and 1/√(σ² + eps) of each channel's group. Not differentiable; recomputed in backward, which
 * is cheaper than keeping them. Chunks depend on the number of pixels alone: images in several bindings have
 * the same statistics bit for bit.
 *
 * @param x (B, h, w, C), C a multiple of `groups` and of 4
 */
export function groupStatistics(x: Tensor, groups = 32, eps = 1e-6): Tensor {
  const gpu = x.gpu;
  const [images, h, w, channels] = x.shape;
  const pixels = h * w;
  const quads = channels / 4;
  const { chunk, chunks } = chunking(pixels);
  const means = Tensor.empty(gpu, [images, chunks, channels]);
  const squares = Tensor.empty(gpu, [images, chunks, channels]);
  for (const part of chunkRanges(x, chunk, chunks)) {
    const n = part.images * part.chunks * quads;
    chunksKernel.run(gpu, {
      buffers: { x: part.binding, means: means.buffer, squares: squares.buffer },
      params: {
        n,
        pixels: Math.min(pixels, (part.first + part.chunks) * chunk) - part.first * chunk,
        quads,
        chunks: part.chunks,
        chunk,
        first: part.image * chunks + part.first,
      },
      grid: foldGrid(Math.ceil(n / 64)),
    });
  }
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

/** Chunks `first …` of images, and the binding of their pixels. */
interface ChunkRange {
  image: number;
  images: number;
  first: number;
  chunks: number;
  binding: Binding;
}

/**
 * All chunks at once where a band, or a binding of images that do not start where one may, holds them; else as many
 * of an image as a band holds.
 */
function* chunkRanges(x: Tensor, chunk: number, chunks: number): Generator<ChunkRange> {
  const [images, h, w, channels] = x.shape;
  const aligned = images === 1 || h * w * channels % 64 === 0;
  const most = aligned ? bandBytes(x.gpu) : x.gpu.maxBindingBytes;
  if (4 * x.size <= most) {
    yield { image: 0, images, first: 0, chunks, binding: rowsBinding(x, allRows(x)) };
    return;
  }
  expectAlignedImages(x, "normalize");
  const [pixelBytes, pixels] = [4 * channels, h * w];
  const step = Math.floor(most / (chunk * pixelBytes));
  if (step === 0) expectOneBinding(x, "normalize", chunk * pixelBytes);
  for (let image = 0; image < images; image++) {
    for (let first = 0; first < chunks; first += step) {
      const count = Math.min(step, chunks - first);
      const to = Math.min(pixels, (first + count) * chunk);
      const offset = (image * pixels + first * chunk) * pixelBytes;
      const sizeBytes = (to - first * chunk) * pixelBytes;
      const binding = { buffer: x.buffer, offset, sizeBytes };
      yield { image, images: 1, first, chunks: count, binding };
    }
  }
}

/**
 * Checks shapes that are normalized together.
 *
 * @throws {TypeError} If the shapes do not fit each other
 * @throws {RangeError} If C is not a multiple of `groups` and of 4
 */
export function expectGroups(x: Tensor, weight: Tensor, bias: Tensor, groups: number): void {
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
