// Launches of the convolution kernels: weights packed for vector loads, grids, splits of long sums.

import forwardCode from "../../kernels/conv2d.wgsl" with { type: "text" };
import dweightCode from "../../kernels/conv2d_dweight.wgsl" with { type: "text" };
import dweightSubgroupCode from "../../kernels/conv2d_dweight_subgroup.wgsl" with { type: "text" };
import packCode from "../../kernels/conv2d_pack.wgsl" with { type: "text" };
import forwardSubgroupCode from "../../kernels/conv2d_subgroup.wgsl" with { type: "text" };
import unpackCode from "../../kernels/conv2d_unpack.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";

const gatherKernel = new Kernel("conv2d", { main: forwardCode });
const dweightKernel = new Kernel("conv2d_dweight", { main: dweightCode });
const gatherSubgroup = new Kernel("conv2d_subgroup", {
  main: forwardSubgroupCode,
  subgroups: true,
});
const dweightSubgroup = new Kernel("conv2d_dweight_subgroup", {
  main: dweightSubgroupCode,
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
  return gpu.subgroupSize === 8 && outQuads >= SUBGROUP_QUADS ? "subgroup" : "plain";
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

/**
 * The forward product `y` from `x`, or `dx` from `dy`: both gather pixels under taps and multiply by a
 * packed weight.
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
  const forward = way === "forward";
  const [inChannels, outChannels] = forward ? [s.C, s.O] : [s.O, s.C];
  const inQuads = Math.ceil(inChannels / 4);
  const outQuads = Math.ceil(outChannels / 4);
  const [inHeight, inWidth] = forward ? [s.inHeight, s.inWidth] : [s.outHeight, s.outWidth];
  const [height, width] = forward ? [s.outHeight, s.outWidth] : [s.inHeight, s.inWidth];
  const taps = s.kernel * s.kernel;
  const subgroup = (variant ?? convVariant(x.gpu, outQuads)) === "subgroup";
  const wQuads = subgroup ? 8 * Math.ceil(outQuads / 8) : 2 * Math.ceil(outQuads / 2);

  const packed = Tensor.empty(x.gpu, [taps * 4 * inQuads + 1, 4 * wQuads]);
  pack.run(x.gpu, {
    buffers: { weight: weight.buffer, bias: bias.buffer, packed: packed.buffer },
    params: {
      taps,
      size_i: inChannels,
      size_j: outChannels,
      padded_i: 4 * inQuads,
      padded_j: 4 * wQuads,
      stride_i: forward ? taps : s.C * taps,
      stride_j: forward ? s.C * taps : taps,
      has_bias: Number(forward),
    },
    grid: foldGrid(Math.ceil(packed.size / 64)),
  });

  const positions = s.images * height * width;
  const y = Tensor.empty(x.gpu, [s.images, height, width, 4 * outQuads]);
  const groups = subgroup
    ? Math.ceil(positions / 32) * (wQuads / 8)
    : Math.ceil(Math.ceil(positions / 8) * (wQuads / 2) / 64);
  (subgroup ? gatherSubgroup : gatherKernel).run(x.gpu, {
    buffers: { x: x.buffer, w: packed.buffer, y: y.buffer },
    params: {
      positions,
      out_height: height,
      out_width: width,
      in_height: inHeight,
      in_width: inWidth,
      in_quads: inQuads,
      out_quads: outQuads,
      w_quads: wQuads,
      kernel: s.kernel,
      multiply: forward ? s.stride : 1,
      divide: forward ? 1 : s.stride,
      direction: forward ? 1 : -1,
      top: forward ? -s.top : s.top,
      left: forward ? -s.left : s.left,
    },
    grid: foldGrid(groups),
  });
  packed.dispose();
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
  });

  const dweight = Tensor.empty(x.gpu, [s.O, s.C, s.kernel, s.kernel]);
  unpack.run(x.gpu, {
    buffers: { sums: sums.buffer, dweight: dweight.buffer },
    params: {
      n: dweight.size,
      channels: s.C,
      taps,
      padded_c: block * cBlocks,
      padded_o: block * oBlocks,
      splits,
    },
    grid: foldGrid(Math.ceil(dweight.size / 64)),
  });
  sums.dispose();
  return dweight;
}
