// Crops, pads or slices the last axis.

import code from "../../kernels/columns.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("columns", { main: code });

/**
 * Columns `start … start + count` of the last axis, `y[…, j] = x[…, start + j]`; zeros where `x` has no
 * such column, so that it also pads.
 *
 * @param x (…, C)
 * @returns (…, count)
 * @throws {RangeError} If `start` is not an integer or `count` not a positive one
 */
export function columns(x: Tensor, start: number, count: number): Tensor {
  if (!Number.isInteger(start) || !Number.isInteger(count) || count < 1) {
    throw new RangeError(`Cannot take ${count} columns from column ${start}`);
  }
  const width = x.dim(-1);
  const y = Tensor.empty(x.gpu, [...x.shape.slice(0, -1), count]);
  const rows = y.size / count;
  for (const range of rowRanges(x.gpu, rows, [x, y])) {
    const n = range.count * count;
    kernel.run(x.gpu, {
      buffers: { x: rowBinding(x, rows, range), y: rowBinding(y, rows, range) },
      params: { n, columns: count, from_columns: width, start },
      grid: foldGrid(Math.ceil(n / 64)),
    });
  }
  return record(y, [x], (dy) => [columns(dy, -start, width)]);
}
