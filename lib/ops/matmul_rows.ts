// Rows of matrices as bindings, and the copy that gives unaligned rows a stride of whole vec4s.

import code from "../../kernels/restride.wgsl" with { type: "text" };
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("restride", { main: code });

const BLOCK = 64;

/** Row counts of pieces are multiples of this: then every binding starts on 256 bytes. */
export const ROW_STEP = 64;

/** Rows [start, start + count) of a matrix as a binding; the whole buffer when that is all of it. */
export function rowsOf(x: Tensor, start: number, count: number): Binding {
  const width = x.dim(1);
  if (start === 0 && count === x.dim(0)) return x.buffer;
  const sizeBytes = Math.ceil(count * width / 4) * 16;
  return { buffer: x.buffer, offset: 4 * start * width, sizeBytes };
}

/** Copies (rows, from) to (rows, to), dropping columns or filling them with zeros. Not differentiable. */
export function restride(x: Tensor, y: Tensor, limitBytes: number): void {
  const [rows, from] = x.shape;
  const to = y.dim(1);
  const fitting = Math.floor(limitBytes / (4 * Math.max(from, to) * ROW_STEP)) * ROW_STEP;
  const step = 4 * rows * Math.max(from, to) <= limitBytes ? rows : Math.max(ROW_STEP, fitting);
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    kernel.run(x.gpu, {
      buffers: { x: rowsOf(x, row, count), y: rowsOf(y, row, count) },
      params: { n: count * to, from_columns: from, to_columns: to },
      grid: foldGrid(Math.ceil(count * to / BLOCK)),
    });
  }
}
