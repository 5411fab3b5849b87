// Sums over the middle axis in two stages of fixed order: long reductions (bias and norm gradients) stay
// parallel and give the same bits every time.

import code from "../../kernels/chunk_sums.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";

const kernel = new Kernel("chunk_sums", { main: code });

/** Rows added by one invocation, at least. */
const CHUNK = 32;

/**
 * `y[a, c] = Σ_r x[a, r, c]`. Not differentiable: a piece of other ops' gradients.
 *
 * @param x any shape of outer · rows · columns values; columns a multiple of 4
 * @returns (outer, columns)
 */
export function chunkSums(x: Tensor, outer: number, rows: number, columns: number): Tensor {
  const chunkRows = Math.max(CHUNK, Math.ceil(Math.sqrt(rows)));
  if (rows <= chunkRows) return stage(x, outer, rows, columns, rows);
  const parts = stage(x, outer, rows, columns, chunkRows);
  const chunks = Math.ceil(rows / chunkRows);
  const sums = stage(parts, outer, chunks, columns, chunks);
  parts.dispose();
  return sums;
}

function stage(x: Tensor, outer: number, rows: number, columns: number, chunkRows: number): Tensor {
  const chunks = Math.ceil(rows / chunkRows);
  const quads = columns / 4;
  const y = Tensor.empty(x.gpu, chunks === 1 ? [outer, columns] : [outer, chunks, columns]);
  const n = outer * chunks * quads;
  kernel.run(x.gpu, {
    buffers: { x: x.buffer, y: y.buffer },
    params: { n, rows, quads, chunks, chunk_rows: chunkRows },
    grid: foldGrid(Math.ceil(n / 64)),
  });
  return y;
}
