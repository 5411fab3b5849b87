// Launches of the convolution kernels: weights packed for vector loads, grids, splits of long sums.

import forwardCode from "../../kernels/conv2d.wgsl" with { type: "text" };
import dweightCode from "../../kernels/conv2d_dweight.wgsl" with { type: "text" };
import packCode from "../../kernels/conv2d_pack.wgsl" with { type: "text" };
import unpackCode from "../../kernels/conv2d_unpack.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";

const gatherKernel = new Kernel("conv2d", { main: forwardCode });
const dweightKernel = new Kernel("conv2d_dweight", { main: dweightCode });
const pack = new Kernel("conv2d_pack", { main: packCode });
const unpack = new Kernel("conv2d_unpack", { main: unpackCode });

/** Invocations a weight gradient is split into, about. */
const DWEIGHT_INVOCATIONS = 8192;

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
 * @returns (B, h', w', quads·4): channels padded to a multiple of 4
 */
export function gather(
  way: "forward" | "backward",
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  s: ConvSizes,
): Tensor {
  const forward = way === "forward";
  const [inChannels, outChannels] = forward ? [s.C, s.O] : [s.O, s.C];
  const inQuads = Math.ceil(inChannels / 4);
  const outQuads = Math.ceil(outChannels / 4);
  const [inHeight, inWidth] = forward ? [s.inHeight, s.inWidth] : [s.outHeight, s.outWidth];
  const [height, width] = forward ? [s.outHeight, s.outWidth] : [s.inHeight, s.inWidth];
  const taps = s.kernel * s.kernel;
  const wQuads = 2 * Math.ceil(outQuads / 2);

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
  gatherKernel.run(x.gpu, {
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
    grid: foldGrid(Math.ceil(Math.ceil(positions / 8) * Math.ceil(outQuads / 2) / 64)),
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
export function weightGradient(x: Tensor, dy: Tensor, s: ConvSizes): Tensor {
  const inQuads = Math.ceil(s.C / 4);
  const outQuads = Math.ceil(s.O / 4);
  const cBlocks = Math.ceil(inQuads / 2);
  const oBlocks = Math.ceil(outQuads / 2);
  const taps = s.kernel * s.kernel;
  const rows = s.images * s.outHeight;
  const wanted = Math.ceil(DWEIGHT_INVOCATIONS / (taps * cBlocks * oBlocks));
  const rowsPerSplit = Math.ceil(rows / Math.min(rows, wanted));
  const splits = Math.ceil(rows / rowsPerSplit);

  const sums = Tensor.empty(x.gpu, [splits, taps, 8 * cBlocks, 8 * oBlocks]);
  dweightKernel.run(x.gpu, {
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
    grid: foldGrid(Math.ceil(splits * taps * cBlocks * oBlocks / 64)),
  });

  const dweight = Tensor.empty(x.gpu, [s.O, s.C, s.kernel, s.kernel]);
  unpack.run(x.gpu, {
    buffers: { sums: sums.buffer, dweight: dweight.buffer },
    params: {
      n: dweight.size,
      channels: s.C,
      taps,
      padded_c: 8 * cBlocks,
      padded_o: 8 * oBlocks,
      splits,
    },
    grid: foldGrid(Math.ceil(dweight.size / 64)),
  });
  sums.dispose();
  return dweight;
}
