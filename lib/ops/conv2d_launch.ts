// Launches of the convolution kernels: weights packed for vector loads, grids, bands, splits of long sums.

import tile from "../../kernels/common/conv2d_tile.wgsl" with { type: "text" };
import block from "../../kernels/common/matmul_block.wgsl" with { type: "text" };
import forwardCode from "../../kernels/conv2d.wgsl" with { type: "text" };
import dweightCode from "../../kernels/conv2d_dweight.wgsl" with { type: "text" };
import dweightSubgroupCode from "../../kernels/conv2d_dweight_subgroup.wgsl" with { type: "text" };
import packCode from "../../kernels/conv2d_pack.wgsl" with { type: "text" };
import forwardSubgroupCode from "../../kernels/conv2d_subgroup.wgsl" with { type: "text" };
import unpackCode from "../../kernels/conv2d_unpack.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";
import { convBands, convWork, type GatherSizes } from "./conv2d_bands.ts";
import { countRows, type ImageRows, rowsBinding } from "./image_rows.ts";

const knobs = ["ADD"] as const;
const gatherKernel = new Kernel("conv2d", { main: forwardCode, knobs });
const dweightKernel = new Kernel("conv2d_dweight", { main: dweightCode });
const parts = [block, tile];
const gatherSubgroup = new Kernel("conv2d_subgroup", {
  main: forwardSubgroupCode,
  parts,
  knobs,
  subgroups: true,
});
const dweightSubgroup = new Kernel("conv2d_dweight_subgroup", {
  main: dweightSubgroupCode,
  parts,
  subgroups: true,
});
const pack = new Kernel("conv2d_pack", { main: packCode });
const unpack = new Kernel("conv2d_unpack", { main: unpackCode });

/** Invocations a weight gradient is split into, about: enough to occupy the device, few enough to add up. */
const DWEIGHT_INVOCATIONS = { software: 8192, gpu: 65536, subgroup: 512 };

/** Quads of output channels from which a subgroup's 32 channels are worth it. */
const SUBGROUP_QUADS = 4;

/** Which kernels run: those for subgroups of eight lanes, or those without. */
export type ConvVariant = "plain" | "subgroup";

/** The kernels for a device and a number of output channels, in quads. */
export function convVariant(gpu: Gpu, outQuads: number): ConvVariant {
  const lanes = gpu.adapter.software && gpu.subgroupSize === 8;
  return lanes && outQuads >= SUBGROUP_QUADS ? "subgroup" : "plain";
}

/** Positions, and channels, that a workgroup makes, by variant; a plain one works on single tiles. */
const TILES = { plain: 8, subgroup: 32 };

/** Quads of a packed weight's columns: those of the output, in whole tiles. */
export function packedQuads(variant: ConvVariant, outQuads: number): number {
  const unit = TILES[variant] / 4;
  return unit * Math.ceil(outQuads / unit);
}

/** All sizes of one convolution. */
export interface ConvSizes {
  images: number;
  inHeight: number;
  inWidth: number;
  outHeight: number;
  outWidth: number;
  C: number;
  O: number;
  kernel: number;
  stride: number;
  left: number;
  top: number;
}

/** A weight and bias in the order the kernels read them, and the sizes of what they are for. */
export interface PackedConv {
  /** (taps · inputs + 1, outputs), the last row being the bias. */
  readonly weight: Tensor;
  readonly variant: ConvVariant;
  readonly sizes: GatherSizes;
  /** Quads of `weight`'s columns. */
  readonly wQuads: number;
}

/**
 * Packs a weight for the forward product `y` from `x`, or for `dx` from `dy`.
 *
 * @param variant the kernels to use; by default those that suit the device
 */
export function packConv(
  way: "forward" | "backward",
  weight: Tensor,
  bias: Tensor,
  s: ConvSizes,
  variant?: ConvVariant,
): PackedConv {
  const forward = way === "forward";
  const sizes = gatherSizes(forward, s);
  const { inQuads, outQuads } = sizes;
  const [inChannels, outChannels] = forward ? [s.C, s.O] : [s.O, s.C];
  const taps = s.kernel * s.kernel;
  const chosen = variant ?? convVariant(weight.gpu, outQuads);
  const wQuads = packedQuads(chosen, outQuads);
  const packed = Tensor.empty(weight.gpu, [taps * 4 * inQuads + 1, 4 * wQuads]);
  pack.run(weight.gpu, {
    buffers: { weight: weight.buffer, bias: bias.buffer, packed: packed.buffer },
    params: {
      taps,
      size_i: inChannels,
      size_j: outChannels,
      padded_i: 4 * inQuads,
      quads: wQuads,
      stride_i: forward ? taps : s.C * taps,
      stride_j: forward ? s.C * taps : taps,
      has_bias: Number(forward),
    },
    grid: foldGrid(Math.ceil((4 * inQuads + 1) * wQuads / 64)),
  });
  return { weight: packed, variant: chosen, sizes, wQuads };
}

/** The sizes as the kernels see them: backward, the input is `dy`. */
export function gatherSizes(forward: boolean, s: ConvSizes): GatherSizes {
  const [input, output] = [
    { height: s.inHeight, width: s.inWidth, quads: Math.ceil(s.C / 4) },
    { height: s.outHeight, width: s.outWidth, quads: Math.ceil(s.O / 4) },
  ];
  const [from, to] = forward ? [input, output] : [output, input];
  return {
    images: s.images,
    inHeight: from.height,
    inWidth: from.width,
    inQuads: from.quads,
    outHeight: to.height,
    outWidth: to.width,
    outQuads: to.quads,
    kernel: s.kernel,
    multiply: forward ? s.stride : 1,
    divide: forward ? 1 : s.stride,
    direction: forward ? 1 : -1,
    top: forward ? -s.top : s.top,
    left: forward ? -s.left : s.left,
  };
}

/** Rows of images, and where they are: among the images, or copied out. */
export interface RowsAt {
  /** (B, h, w, quads·4); a copy has these rows alone. */
  images: Tensor;
  rows: ImageRows;
  copied?: boolean;
}

/**
 * Computes rows of the output.
 *
 * @param x the rows of the input (of `dy` when backward) that those of `y` are made of
 * @param add whether to add to what `y` holds
 */
export function convolveRows(packed: PackedConv, x: RowsAt, y: RowsAt, add = false): void {
  const { sizes: s, variant, weight, wQuads } = packed;
  const positions = countRows(y.rows) * s.outWidth;
  const tiles = Math.ceil(positions / TILES[variant]) * (4 * wQuads / TILES[variant]);
  const launch = {
    buffers: {
      x: x.copied ? x.images.buffer : rowsBinding(x.images, x.rows),
      w: weight.buffer,
      y: y.copied ? y.images.buffer : rowsBinding(y.images, y.rows),
    },
    params: {
      positions,
      out_height: y.rows.to - y.rows.from,
      out_width: s.outWidth,
      in_height: x.rows.to - x.rows.from,
      in_width: s.inWidth,
      in_quads: s.inQuads,
      out_quads: s.outQuads,
      w_quads: wQuads,
      kernel: s.kernel,
      multiply: s.multiply,
      divide: s.divide,
      direction: s.direction,
      top: s.top + s.multiply * y.rows.from - s.divide * x.rows.from,
      left: s.left,
    },
    grid: foldGrid(variant === "plain" ? Math.ceil(tiles / 64) : tiles),
    work: { flop: 2 * convWork(s, countRows(y.rows)) / s.divide ** 2 }, // channels in whole quads
  };
  const kernel = variant === "plain" ? gatherKernel : gatherSubgroup;
  kernel.run(weight.gpu, { ...launch, knobs: { ADD: Number(add) } });
}

/**
 * The forward product `y` from `x`, or `dx` from `dy`: both gather pixels under taps and multiply by a
 * packed weight. Images larger than one binding take several launches.
 *
 * @param x (B, h, w, quads·4): the input, or `dy` when backward
 * @param variant the kernels to use; by default those that suit the device
 * @returns (B, h', w', quads·4): channels padded to a multiple of 4
 */
export function gather(
  way: "forward" | "backward",
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  s: ConvSizes,
  variant?: ConvVariant,
): Tensor {
  const { gpu } = x;
  const bands = convBands(gpu, gatherSizes(way === "forward", s), gpu.maxBindingBytes);
  const packed = packConv(way, weight, bias, s, variant);
  const { images, outHeight, outWidth, outQuads } = packed.sizes;
  const y = Tensor.empty(gpu, [images, outHeight, outWidth, 4 * outQuads]);
  for (const { source, target } of bands) {
    convolveRows(packed, { images: x, rows: source }, { images: y, rows: target });
    if (bands.length > 1) gpu.flush();
  }
  packed.weight.dispose();
  return y;
}

/**
 * `dweight[o, c, u, v] = Σ_{b, i, j} dy[b, i, j, o] · x[b, s·i + u - top, s·j + v - left, c]`.
 *
 * @param x (B, h, w, quads·4)
 * @param dy (B, h', w', quads·4)
 * @returns (O, C, k, k)
 */
export function weightGradient(
  x: Tensor,
  dy: Tensor,
  s: ConvSizes,
  variant?: ConvVariant,
): Tensor {
  const inQuads = Math.ceil(s.C / 4);
  const outQuads = Math.ceil(s.O / 4);
  const subgroup = (variant ?? convVariant(x.gpu, Math.min(inQuads, outQuads))) === "subgroup";
  const block = subgroup ? 32 : 8; // channels
  const cBlocks = Math.ceil(4 * inQuads / block);
  const oBlocks = Math.ceil(4 * outQuads / block);
  const taps = s.kernel * s.kernel;
  const rows = s.images * s.outHeight;
  const kind = subgroup ? "subgroup" : x.gpu.adapter.software ? "software" : "gpu";
  const threads = taps * cBlocks * oBlocks * (subgroup ? 8 : 1);
  const wanted = Math.ceil(DWEIGHT_INVOCATIONS[kind] / threads);
  const rowsPerSplit = Math.ceil(rows / Math.min(rows, wanted));
  const splits = Math.ceil(rows / rowsPerSplit);

  const sums = Tensor.empty(x.gpu, [splits, taps, block * cBlocks, block * oBlocks]);
  const groups = splits * taps * cBlocks * oBlocks;
  (subgroup ? dweightSubgroup : dweightKernel).run(x.gpu, {
    buffers: { x: x.buffer, dy: dy.buffer, sums: sums.buffer },
    params: {
      rows,
      out_height: s.outHeight,
      out_width: s.outWidth,
      in_height: s.inHeight,
      in_width: s.inWidth,
      in_quads: inQuads,
      out_quads: outQuads,
      c_blocks: cBlocks,
      o_blocks: oBlocks,
      kernel: s.kernel,
      splits,
      rows_per_split: rowsPerSplit,
      stride: s.stride,
      top: s.top,
      left: s.left,
    },
    grid: foldGrid(subgroup ? groups : Math.ceil(groups / 64)),
    work: { flop: 2 * rows * s.outWidth * taps * 16 * inQuads * outQuads },
  });

  const dweight = Tensor.empty(x.gpu, [s.O, s.C, s.kernel, s.kernel]);
  unpack.run(x.gpu, {
    buffers: { sums: sums.buffer, dweight: dweight.buffer },
    params: {
      outputs: s.O,
      channels: s.C,
      taps,
      padded_c: block * cBlocks,
      quads: block * oBlocks / 4,
      splits,
    },
    grid: foldGrid(Math.ceil(outQuads * s.C * taps / 64)),
  });
  sums.dispose();
  return dweight;
}
