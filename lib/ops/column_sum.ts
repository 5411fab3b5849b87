// Sum over the rows of a matrix, in a fixed order: the gradient of a bias.

import code from "../../kernels/column_sum.wgsl" with { type: "text" };
import columnReduce from "../../kernels/common/column_reduce.wgsl" with { type: "text" };
import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import { Kernel } from "../gpu/kernel.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { columnThreads, PART_ROWS } from "./column_threads.ts";

const kernel = new Kernel("column_sum", {
  main: code,
  parts: [columnReduce],
  knobs: ["BLOCK", "TALL", "pack"],
});

/** Rows of a binding are a multiple of this, so that it starts on 256 bytes. */
const STEP = 64;

/**
 * Column sums `y_c = Σ_r x[r, c]`, all leading axes taken as rows. Not differentiable.
 *
 * @param x (…, C)
 * @param limitBytes largest range of x bound at once; default the adapter's
 * @returns (C), zeros if x has no rows
 * @throws {TypeError} If x has no axis or is not f32
 * @throws {ResourceError} If 64 rows exceed the limit
 */
export function columnSum(x: Tensor, limitBytes: number = x.gpu.maxBindingBytes): Tensor {
  if (x.shape.length === 0 || x.dtype !== "f32") {
    throw new TypeError(`Cannot sum the columns of a (${x.shape.join(", ")}) ${x.dtype} tensor`);
  }
  const { gpu } = x;
  const columns = x.dim(-1);
  const rows = sizeOf(x.shape.slice(0, -1));
  if (rows * columns === 0) return Tensor.zeros(gpu, [columns]);
  const rowBytes = 4 * columns;
  const whole = rowBytes * rows <= limitBytes;
  const most = whole ? rows : STEP * Math.floor(limitBytes / (rowBytes * STEP));
  if (most === 0) {
    throw new ResourceError(
      `Cannot sum columns: ${STEP} rows of ${columns} values exceed the ` +
        `${formatBytes(limitBytes)} this adapter binds at once`,
    );
  }
  const wide = columns % 4 === 0;
  const cols = wide ? columns / 4 : columns;
  const partsOf = (count: number) => Math.ceil(count / PART_ROWS);
  const full = Math.floor(rows / most);
  const parts = full * partsOf(most) + partsOf(rows - full * most);
  const partial = Tensor.empty(gpu, [parts, columns]);
  for (let first = 0, part = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const sizeBytes = 16 * Math.ceil(count * columns / 4);
    const threads = columnThreads(gpu, count);
    kernel.run(gpu, {
      buffers: {
        x: whole ? x.buffer : { buffer: x.buffer, offset: rowBytes * first, sizeBytes },
        y: partial.buffer,
      },
      params: { rows: count, cols, part_rows: PART_ROWS, first_part: part },
      knobs: { ...threads, pack: wide ? "vec4f" : "f32" },
      grid: [Math.ceil(cols * threads.TALL / threads.BLOCK), partsOf(count)],
    });
    part += partsOf(count);
  }
  const sum = parts === 1 ? partial.alias([columns]) : columnSum(partial);
  partial.dispose();
  return sum;
}
