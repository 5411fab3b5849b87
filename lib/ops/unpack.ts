// Packed weights as f32: what tests and inspection look at. Products and look-ups unpack as they read instead.

import code from "../../kernels/unpack.wgsl" with { type: "text" };
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { restride, rowsOf } from "./matmul_rows.ts";
import {
  alignedRows,
  isPackedDType,
  packedBinding,
  packedRanges,
  rowBytesOf,
  UNPACK_PARTS,
} from "./packed_rows.ts";

const kernel = new Kernel("unpack", { main: code, parts: [UNPACK_PARTS.int4], knobs: ["BLOCK"] });

const BLOCK = 64;
/** Rows of whole 16-byte units start on 256 bytes at multiples of this. */
const START_STEP = 16;

/**
 * Rows `[start, start + count)` of packed weights as f32. Not differentiable.
 *
 * @param weight (rows, columns) of bf16, f16, int8 or int4
 * @param start first row. Default: 0
 * @param count how many rows. Default: all that follow
 * @param limitBytes largest binding. Default: the adapter's
 * @returns (count, columns)
 * @throws {TypeError} If the weights are not a packed matrix
 * @throws {RangeError} If the rows are not in the matrix
 */
export function unpack(
  weight: Tensor,
  start = 0,
  count: number = weight.dim(0) - start,
  limitBytes: number = weight.gpu.maxBindingBytes,
): Tensor {
  const { gpu, dtype } = weight;
  if (!isPackedDType(dtype) || weight.shape.length !== 2) {
    throw new TypeError(
      `Cannot unpack a (${weight.shape.join(", ")}) ${dtype} tensor: ` +
        "expected a matrix of bf16, f16, int8 or int4",
    );
  }
  const [rows, columns] = weight.shape;
  if (!(start >= 0 && count >= 0 && start + count <= rows)) {
    throw new RangeError(`Cannot unpack ${count} rows from ${start}: the matrix has ${rows}`);
  }
  const aligned = alignedRows(weight, limitBytes);
  const rowBytes = rowBytesOf(aligned);
  const packs = Math.ceil(columns / 4);
  const y = Tensor.empty(gpu, [count, 4 * packs]);
  const widest = Math.max(16 * packs, rowBytes);
  for (const range of packedRanges(count, widest, limitBytes, START_STEP - 1)) {
    const n = range.count * packs;
    const first = (start + range.start) % START_STEP;
    const seen = { start: start + range.start - first, count: first + range.count };
    kernel.run(gpu, {
      buffers: { x: packedBinding(aligned, seen), y: rowsOf(y, range.start, range.count) },
      params: { n, packs, stride: rowBytes / 16, first },
      parts: [UNPACK_PARTS[dtype]],
      knobs: { BLOCK },
      grid: foldGrid(Math.ceil(n / BLOCK)),
    });
  }
  aligned.dispose();
  if (4 * packs === columns) return y;
  const exact = Tensor.empty(gpu, [count, columns]);
  if (exact.size > 0) restride(y, exact, limitBytes);
  y.dispose();
  return exact;
}
