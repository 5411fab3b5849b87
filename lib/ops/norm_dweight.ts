// Gradients of a norm's weight and bias: sums over all rows, in two stages of fixed order, so that the
// same input gives the same bits.

import slabCode from "../../kernels/norm_dweight.wgsl" with { type: "text" };
import sumCode from "../../kernels/sum_slabs.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";

const slabKernel = new Kernel("norm_dweight", { main: slabCode, knobs: ["BLOCK", "BIAS", "pack"] });
const sumKernel = new Kernel("sum_slabs", { main: sumCode, knobs: ["BLOCK", "pack"] });

const SLAB_ROWS = 32; // at least; more when there would be over MAX_SLABS
const MAX_SLABS = 512;

/**
 * `dweight_c = Σ_r dy_rc (x_rc - mean_r) rstd_r` and, if asked, `dbias_c = Σ_r dy_rc`. Not
 * differentiable.
 *
 * @param x (rows, C) the norm's input
 * @param dy (rows, C) gradient of its output
 * @param stats (rows, 2) mean and 1/deviation of each row
 * @returns [dweight (C)] or [dweight (C), dbias (C)]
 */
export function normDweight(x: Tensor, dy: Tensor, stats: Tensor, bias: boolean): Tensor[] {
  const { gpu } = x;
  const values = x.dim(-1);
  const rows = x.size / values;
  const count = bias ? 2 : 1;
  if (rows === 0) return Array.from({ length: count }, () => Tensor.zeros(gpu, [values]));
  const wide = values % 4 === 0;
  const cols = wide ? values / 4 : values;
  const pack = wide ? "vec4f" : "f32";
  const BLOCK = gpu.adapter.software ? 8 : 64;

  const ranges = rowRanges(gpu, rows, [x, dy]);
  const slabRows = Math.max(SLAB_ROWS, Math.ceil(rows / MAX_SLABS));
  const slabs = ranges.reduce((n, range) => n + Math.ceil(range.count / slabRows), 0);
  const partial = Tensor.empty(gpu, [slabs, count * values]);
  let first = 0;
  for (const range of ranges) {
    const here = Math.ceil(range.count / slabRows);
    slabKernel.run(gpu, {
      buffers: {
        x: rowBinding(x, rows, range),
        dy: rowBinding(dy, rows, range),
        stats: rowBinding(stats, rows, range),
        partial: partial.buffer,
      },
      params: { rows: range.count, cols, slabs: here, slab_rows: slabRows, first_slab: first },
      knobs: { BLOCK, BIAS: bias ? 1 : 0, pack },
      grid: foldGrid(Math.ceil(here * cols / BLOCK)),
    });
    first += here;
  }
  const sums = Array.from({ length: count }, (_, i) => {
    const y = Tensor.empty(gpu, [values]);
    sumKernel.run(gpu, {
      buffers: { x: partial.buffer, y: y.buffer },
      params: { slabs, stride: count * cols, first: i * cols, cols },
      knobs: { BLOCK, pack },
      grid: foldGrid(Math.ceil(cols / BLOCK)),
    });
    return y;
  });
  partial.dispose();
  return sums;
}
