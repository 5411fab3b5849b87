// Rows picked by number, and the way back: how tokens of one kind are taken out of a sequence and put
// back, and how embeddings are looked up.

import gatherCode from "../../kernels/gather_rows.wgsl" with { type: "text" };
import segmentsCode from "../../kernels/sum_segments.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowBinding, rowRanges } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import type { RowIndex } from "./row_index.ts";

const knobs = ["BLOCK", "pack"] as const;
const gatherKernel = new Kernel("gather_rows", { main: gatherCode, knobs });
const segmentsKernel = new Kernel("sum_segments", { main: segmentsCode, knobs });

const BLOCK = 64;

/** Values per row, in loads: four at a time where their number allows. */
function packsOf(values: number): { cols: number; pack: "f32" | "vec4f" } {
  return values % 4 === 0 ? { cols: values / 4, pack: "vec4f" } : { cols: values, pack: "f32" };
}

/** `y[i] = x[indices[i]]`, zero where the index is negative. Not recorded. */
function gather(x: Tensor, indices: Tensor, count: number): Tensor {
  const { gpu } = x;
  const rows = x.dim(0);
  const y = Tensor.empty(gpu, [count, ...x.shape.slice(1)]);
  if (y.size === 0) return y;
  if (rows === 0) {
    gpu.clear(y.buffer);
    return y;
  }
  const { cols, pack } = packsOf(x.size / rows);
  for (const seen of rowRanges(gpu, rows, [x])) {
    for (const made of rowRanges(gpu, count, [y])) {
      const n = made.count * cols;
      gatherKernel.run(gpu, {
        buffers: {
          x: rowBinding(x, rows, seen),
          indices: rowBinding(indices, count, made),
          y: rowBinding(y, count, made),
        },
        params: { n, cols, first: seen.start, count: seen.count },
        knobs: { BLOCK, pack },
        grid: foldGrid(Math.ceil(n / BLOCK)),
      });
    }
  }
  return y;
}

/** `y[indices[i]] += x[i]` into zeros, in a fixed order. Not recorded. */
function scatterAdd(x: Tensor, index: RowIndex): Tensor {
  if (index.inverse) return gather(x, index.inverse, index.rows);
  const { gpu } = x;
  const y = Tensor.empty(gpu, [index.rows, ...x.shape.slice(1)]);
  if (index.distinct < index.rows) gpu.clear(y.buffer);
  const { cols, pack } = packsOf(x.size / index.size);
  const n = index.distinct;
  for (const made of rowRanges(gpu, index.rows, [y])) {
    segmentsKernel.run(gpu, {
      buffers: {
        x: x.buffer,
        segments: index.segments!.buffer,
        y: rowBinding(y, index.rows, made),
      },
      params: { n, cols, first: made.start, count: made.count },
      knobs: { BLOCK, pack },
      grid: foldGrid(Math.ceil(n * cols / BLOCK)),
    });
  }
  return y;
}

/**
 * Picks rows: `y[i] = x[index[i]]`. The gradient adds up rows picked more than once, always in the
 * same order.
 *
 * @param x (R, …)
 * @param index M row numbers below R
 * @returns (M, …)
 * @throws {TypeError} If the index was made for another number of rows
 */
export function gatherRows(x: Tensor, index: RowIndex): Tensor {
  if (index.rows !== x.dim(0)) {
    throw new TypeError(
      `Cannot pick rows of (${x.shape.join(", ")}): the index is for ${index.rows} rows`,
    );
  }
  const y = gather(x, index.indices, index.size);
  return record(y, [x], (dy) => [scatterAdd(dy, index)]);
}

/**
 * Looks embeddings up: row `ids[i]` of the weight for each token.
 *
 * @param weight (V, C)
 * @param ids N numbers below V
 * @returns (N, C)
 * @throws {TypeError} If the index was made for another number of rows
 */
export function embedding(weight: Tensor, ids: RowIndex): Tensor {
  return gatherRows(weight, ids);
}
