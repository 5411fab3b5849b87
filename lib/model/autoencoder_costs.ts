// What a pass in steps takes, known before it starts: device memory at its largest, block by block as
// lib/nn/image_steps.ts runs them, and multiply-adds.

import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import { sizeClass } from "../gpu/size_class.ts";
import type { Gpu } from "../gpu/device.ts";
import { SCORE_BYTES } from "../nn/image_steps.ts";
import { convVariant, packedQuads } from "../ops/conv2d_launch.ts";
import { bandBytes } from "../ops/image_rows.ts";
import { chooseMatmul } from "../ops/matmul_config.ts";
import type { AutoencoderConfig } from "./autoencoder.ts";
import { type Half, type Stage, stagesOf } from "./autoencoder_stages.ts";

/** What a pass takes. */
export interface PassCosts {
  /** Images that go through together; the others follow. */
  together: number;
  /** Device memory at its largest, beside what is in use before: weights and input. */
  peakBytes: number;
  /** What a software adapter takes beside all that: copies of what one launch reads, see lib/gpu/texel_copies.ts. */
  copyBytes: number;
  /** The largest single buffer of these. */
  largestBytes: number;
  /** Multiply-adds. */
  work: number;
}

/** Images that go through together. */
interface Size {
  images: number;
  h: number;
  w: number;
}

/**
 * The costs of a half.
 *
 * @param size how many images, and their size as they enter the half: in pixels, or in latents
 */
export function passCosts(
  gpu: Gpu,
  config: AutoencoderConfig,
  half: Half,
  { images, h, w }: Size,
): PassCosts {
  const stages = stagesOf(config, half);
  const band = bandBytes(gpu);
  const one = walk(stages, { images: 1, h, w });
  const largest = Math.max(...one.flatMap(({ stage, before, after }) => [
    imageBytes(before, stage.from),
    imageBytes(after, stage.to),
  ]));
  const together = Math.max(1, Math.min(images, Math.floor(band / largest)));
  const steps = walk(stages, { images: together, h, w });
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const result = sizeClass(images / together * imageBytes(last.after, last.stage.to));
  const blocks = steps.map((step) => stageBytes(gpu, step));
  const ends = [first.before, last.after].map((size, i) =>
    sizeClass(imageBytes(size, quads(i ? last.stage.to : first.stage.from)))
  );
  const copies = [...steps.map((step) => stageCopies(gpu, step)), ...ends];
  return {
    together,
    copyBytes: gpu.readsTexels ? Math.max(...copies) : 0,
    // with the input in both layouts, the result, and a share of it in both layouts
    peakBytes: Math.max(...blocks) + 2 * sizeClass(imageBytes(first.before, first.stage.from)) +
      result + 2 * sizeClass(imageBytes(last.after, last.stage.to)),
    largestBytes: Math.max(result, sizeClass(largest * together)),
    work: images * one.reduce((sum, step) => sum + stageWork(step), 0),
  };
}

/**
 * The costs of a half, which must be affordable.
 *
 * @throws {ResourceError} If the memory budget or the adapter's largest buffer would be exceeded, with what
 *   would do
 */
export function expectRoom(
  gpu: Gpu,
  config: AutoencoderConfig,
  half: Half,
  size: Size,
): PassCosts {
  const costs = passCosts(gpu, config, half, size);
  const { budgetBytes, liveBytes } = gpu.buffers;
  const largest = gpu.device.limits.maxBufferSize;
  const room = budgetBytes - liveBytes;
  if (costs.peakBytes + costs.copyBytes <= room && costs.largestBytes <= largest) return costs;
  const pixels = half === "encoder" ? 1 : config.downsample;
  const [h, w] = [size.h * pixels, size.w * pixels];
  const fits = largestSide(Math.min(h, w), 2 * config.downsample, (side) => {
    const entering = { images: size.images, h: side / pixels, w: side / pixels };
    const { peakBytes, copyBytes, largestBytes } = passCosts(gpu, config, half, entering);
    return peakBytes + copyBytes <= room && largestBytes <= largest;
  });
  const smaller = fits > 0 ? `--size ${fits} fits` : undefined;
  const what = `Cannot ${
    half === "encoder" ? "encode" : "decode"
  } ${size.images} × ${h} × ${w} pixels`;
  if (costs.largestBytes > largest) {
    throw new ResourceError(
      `${what}: one buffer would take ${formatBytes(costs.largestBytes)}, this adapter's end at ` +
        formatBytes(largest),
      { help: smaller ?? "use smaller images" },
    );
  }
  const takes = costs.peakBytes + costs.copyBytes;
  const budget = Math.ceil((liveBytes + takes) / 2 ** 20 / 64) * 64; // MiB
  throw new ResourceError(
    `${what}: it takes ${formatBytes(takes)} beside ${formatBytes(liveBytes)} in use, ` +
      `the budget is ${formatBytes(budgetBytes)}`,
    { help: `use --budget ${budget}MiB${smaller ? `; with the budget as it is, ${smaller}` : ""}` },
  );
}

/** The largest multiple of `step` below `side` for which `fits` holds; 0 if there is none. */
function largestSide(side: number, step: number, fits: (side: number) => boolean): number {
  for (let s = Math.floor((side - 1) / step) * step; s > 0; s -= step) if (fits(s)) return s;
  return 0;
}

/** A block and the sizes of its input and output. */
interface Step {
  stage: Stage;
  before: Size;
  after: Size;
}

function walk(stages: readonly Stage[], size: Size): Step[] {
  return stages.map((stage) => {
    const before = size;
    if (stage.kind === "upsample") size = { ...size, h: 2 * size.h, w: 2 * size.w };
    if (stage.kind === "downsample") {
      size = { ...size, h: Math.floor(size.h / 2), w: Math.floor(size.w / 2) };
    }
    return { stage, before, after: size };
  });
}

function imageBytes({ images, h, w }: Size, channels: number): number {
  return 4 * images * h * w * channels;
}

/** Channels as kernels see them: in fours. */
function quads(channels: number): number {
  return 4 * Math.ceil(channels / 4);
}

/** Multiply-adds of a convolution. */
function convolution({ images, h, w }: Size, from: number, to: number, taps: number): number {
  return images * h * w * quads(from) * quads(to) * taps;
}

/** A weight as the convolution kernels read it. */
function packedBytes(gpu: Gpu, from: number, to: number, kernel: number): number {
  const outQuads = Math.ceil(to / 4);
  const columns = 4 * packedQuads(convVariant(gpu, outQuads), outQuads);
  return sizeClass(4 * (kernel * kernel * quads(from) + 1) * columns);
}

/** Queries of an image whose scores are held at a time. */
function queriesOf({ h, w }: Size): number {
  return Math.max(1, Math.min(h * w, Math.floor(SCORE_BYTES / 4 / (h * w))));
}

/** The most tensors of a block that are alive at a time, in bytes as the buffer pool counts them. */
function stageBytes(gpu: Gpu, { stage: { kind, from, to }, before, after }: Step): number {
  const band = bandBytes(gpu);
  const x = sizeClass(imageBytes(before, from));
  const y = sizeClass(imageBytes(after, to));
  const packed = (from: number, to: number, kernel: number) => packedBytes(gpu, from, to, kernel);
  /** Statistics, and a band normalized by them. */
  const normal = (size: Size, channels: number) =>
    3 * sizeClass(4 * size.images * channels * Math.min(256, Math.ceil(size.h * size.w / 64))) +
    sizeClass(Math.min(band, imageBytes(size, channels)));
  switch (kind) {
    case "convolve":
      return x + sizeClass(imageBytes(before, quads(from))) + packed(from, to, 3) + y;
    case "resnet":
      return Math.max(
        x + normal(before, from) + packed(from, to, 3) + y,
        from === to ? 0 : x + 2 * y + packed(from, to, 1),
        2 * y + normal(after, to) + packed(to, to, 3),
      );
    case "attention": {
      const pixels = before.h * before.w;
      const queries = queriesOf(before);
      const part = sizeClass(4 * queries * from);
      const product = { rows: queries, columns: from, inner: pixels };
      const { splits } = chooseMatmul(gpu, { ...product, transposeA: false, transposeB: false });
      // keys and values of one of several images, scores and weights, queries twice, the product and its pieces
      const scores = (before.images > 1 ? 2 * sizeClass(4 * pixels * from) : 0) +
        2 * sizeClass(4 * queries * pixels) + (3 + splits) * part;
      return Math.max(5 * x + packed(from, to, 1) + normal(before, from), 5 * x + scores);
    }
    case "downsample":
      return x + packed(from, to, 3) + y;
    case "upsample":
      return x + y + 4 * packed(from, to, 2) + sizeClass(16 * from * to) +
        4 * sizeClass(Math.min(band / 4, imageBytes(before, to)));
    case "output": {
      const wide = sizeClass(imageBytes(after, quads(to)));
      return x + normal(before, from) + packed(from, to, 3) + wide + y;
    }
  }
}

/** The most that one launch of a block reads, of which it takes copies. */
function stageCopies(gpu: Gpu, { stage: { kind, from, to }, before, after }: Step): number {
  const band = bandBytes(gpu);
  const rows = (size: Size, channels: number) =>
    sizeClass(Math.min(band, imageBytes(size, quads(channels))));
  const convolved = rows(before, from) + packedBytes(gpu, from, to, 3);
  switch (kind) {
    case "convolve":
    case "downsample":
      return convolved;
    case "resnet":
      return Math.max(convolved, rows(after, to) + packedBytes(gpu, to, to, 3));
    case "attention": {
      const pixels = before.h * before.w;
      const values = sizeClass(4 * pixels * from);
      const scores = sizeClass(4 * pixels * queriesOf(before));
      return Math.max(
        scores + values,
        sizeClass(imageBytes(before, from)) + packedBytes(gpu, from, to, 1),
      );
    }
    case "upsample": // its taps before they are added up, or the quarters of a band
      return Math.max(
        rows(before, from) + packedBytes(gpu, from, to, 2),
        sizeClass(36 * from * to),
        4 * sizeClass(Math.min(band / 4, imageBytes(before, to))),
      );
    case "output":
      return Math.max(convolved, sizeClass(imageBytes(after, quads(to))));
  }
}

function stageWork({ stage: { kind, from, to }, before, after }: Step): number {
  switch (kind) {
    case "convolve":
    case "downsample":
    case "output":
      return convolution(after, from, to, 9);
    case "resnet":
      return convolution(after, from, to, 9) + convolution(after, to, to, 9) +
        (from === to ? 0 : convolution(after, from, to, 1));
    case "attention":
      return 4 * convolution(after, from, to, 1) + 2 * after.images * (after.h * after.w) ** 2 * to;
    case "upsample":
      return 4 * convolution(before, from, to, 4);
  }
}
