// Gradients of a norm's weight and bias: sums over all rows in a fixed order, so that the same input gives the same
// bits.

import code from "../../kernels/norm_dweight.wgsl" with { type: "text" };
import columnReduce from "../../kernels/common/column_reduce.wgsl" with { type: "text" };
import { Kernel } from "../gpu/kernel.ts";
import { rowBinding, type RowRange, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { columnSum } from "./column_sum.ts";
import { columnThreads, PART_ROWS } from "./column_threads.ts";
import { unstackRows } from "./stack_rows.ts";

const kernel = new Kernel("norm_dweight", {
  main: code,
  parts: [columnReduce],
  knobs: ["BLOCK", "TALL", "BIAS", "pack"],
});

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
  const ranges = rowRanges(gpu, rows, [x, dy]);
  const partsOf = ({ count }: RowRange) => Math.ceil(count / PART_ROWS);
  const parts = ranges.reduce((sum, range) => sum + partsOf(range), 0);
  const partial = Tensor.empty(gpu, [parts, count * values]);
  let part = 0;
  for (const range of ranges) {
    const threads = columnThreads(gpu, range.count);
    kernel.run(gpu, {
      buffers: {
        x: rowBinding(x, rows, range),
        dy: rowBinding(dy, rows, range),
        stats: rowBinding(stats, rows, range),
        sums: partial.buffer,
      },
      params: { rows: range.count, cols, part_rows: PART_ROWS, first_part: part },
      knobs: { ...threads, BIAS: bias ? 1 : 0, pack: wide ? "vec4f" : "f32" },
      grid: [Math.ceil(cols * threads.TALL / threads.BLOCK), partsOf(range)],
    });
    part += partsOf(range);
  }
  const sums = parts === 1 ? partial : columnSum(partial);
  if (sums !== partial) partial.dispose();
  if (!bias) {
    const dweight = sums.alias([values]);
    sums.dispose();
    return [dweight];
  }
  const both = unstackRows(sums, [[values], [values]], [true, true]);
  sums.dispose();
  return both.map((t) => t!);
}
