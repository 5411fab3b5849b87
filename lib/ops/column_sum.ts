// Sum over the rows of a matrix, in two stages of fixed order: the gradient of a bias.

import code from "../../kernels/column_sum.wgsl" with { type: "text" };
import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import { Kernel } from "../gpu/kernel.ts";
import { sizeOf, Tensor } from "../tensor.ts";

const kernel = new Kernel("column_sum", { main: code });

const BLOCK = 64;
/** Rows of a part are a multiple of this, so that a part starts on 256 bytes. */
const STEP = 64;
/** Parts of the first stage, at most: what one invocation of the second adds up. */
const MOST_PARTS = 256;

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
  const columns = x.dim(-1);
  const rows = sizeOf(x.shape.slice(0, -1));
  if (rows * columns === 0) return Tensor.zeros(x.gpu, [columns]);
  const rowsPerPart = STEP * Math.ceil(rows / (STEP * MOST_PARTS));
  const parts = Math.ceil(rows / rowsPerPart);
  const partial = Tensor.empty(x.gpu, [parts, columns]);
  sumParts(x, partial, { rows, columns, rowsPerPart, limitBytes });
  if (parts === 1) {
    const y = partial.alias([columns]);
    partial.dispose();
    return y;
  }
  const y = Tensor.empty(x.gpu, [columns]);
  sumParts(partial, y, { rows: parts, columns, rowsPerPart: parts, limitBytes: Infinity });
  partial.dispose();
  return y;
}

interface PartSizes {
  rows: number;
  columns: number;
  rowsPerPart: number;
  limitBytes: number;
}

function sumParts(x: Tensor, y: Tensor, sizes: PartSizes): void {
  const { rows, columns, rowsPerPart, limitBytes } = sizes;
  const partBytes = 4 * columns * rowsPerPart;
  const whole = 4 * columns * rows <= limitBytes;
  const most = whole ? Infinity : rowsPerPart * Math.floor(limitBytes / partBytes);
  if (most === 0) {
    throw new ResourceError(
      `Cannot sum columns: ${rowsPerPart} rows of ${columns} values exceed the ` +
        `${formatBytes(limitBytes)} this adapter binds at once`,
    );
  }
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    const range = { buffer: x.buffer, offset: 4 * columns * row, sizeBytes: 4 * columns * count };
    kernel.run(x.gpu, {
      buffers: { x: whole ? x.buffer : range, y: y.buffer },
      params: { rows: count, columns, rows_per_part: rowsPerPart, first_part: row / rowsPerPart },
      grid: [Math.ceil(columns / BLOCK), Math.ceil(count / rowsPerPart)],
    });
  }
}
