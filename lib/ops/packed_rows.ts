// Matrices whose rows lie packed on the device: bf16, f16, int8, int4. What every op that unpacks them shares:
// their strides, their bindings, the kernel part that unpacks, and the copy that gives rows of halves a stride of
// whole 16-byte units where their length does not.

import bf16 from "../../kernels/common/unpack_bf16.wgsl" with { type: "text" };
import f16 from "../../kernels/common/unpack_f16.wgsl" with { type: "text" };
import int4 from "../../kernels/common/unpack_int4.wgsl" with { type: "text" };
import int8 from "../../kernels/common/unpack_int8.wgsl" with { type: "text" };
import alignCode from "../../kernels/unpack_align.wgsl" with { type: "text" };
import { ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import type { RowRange } from "../gpu/rows.ts";
import { isPacked } from "../packed_layout.ts";
import { bytesOf, type DType, Tensor } from "../tensor.ts";

const align = new Kernel("unpack_align", { main: alignCode });

const BLOCK = 64;

/** The kernel part that unpacks four values of a row, by dtype. */
export const UNPACK_PARTS = { bf16, f16, int8, int4 } as const;

/** The dtypes whose rows are unpacked as they are read. */
export type PackedDType = keyof typeof UNPACK_PARTS;

/** All of them. */
export const PACKED_DTYPES = Object.keys(UNPACK_PARTS) as PackedDType[];

/** True for these dtypes. */
export function isPackedDType(dtype: DType): dtype is PackedDType {
  return Object.hasOwn(UNPACK_PARTS, dtype);
}

/** True where a matrix has a gradient of its own, which is f32: only quantized weights have none. */
export function hasGradient(dtype: DType): boolean {
  return !isPacked(dtype);
}

/** Row counts of ranges are multiples of this: then every binding starts on 256 bytes, halves included. */
const ROW_STEP = 128;

/** Bytes from one row to the next of a packed matrix; f32 rows count too. */
export function rowBytesOf(x: Tensor): number {
  const rows = x.dim(0);
  if (x.dtype === "f16" || x.dtype === "bf16") return 2 * x.dim(1);
  return rows === 0 ? 0 : bytesOf(x.shape, x.dtype) / rows;
}

/** Rows of a packed matrix as a binding; the whole buffer when that is all of it. */
export function packedBinding(x: Tensor, { start, count }: RowRange): Binding {
  if (start === 0 && count === x.dim(0)) return x.buffer;
  const bytes = rowBytesOf(x);
  return {
    buffer: x.buffer,
    offset: start * bytes,
    sizeBytes: Math.ceil(count * bytes / 16) * 16,
  };
}

/**
 * Cuts `rows` rows into ranges of which each takes at most `limitBytes`, when a row takes `rowBytes` and up to
 * `spareRows` more rows are bound with each.
 *
 * @throws {ResourceError} If the fewest rows that can be bound exceed the limit
 */
export function packedRanges(
  rows: number,
  rowBytes: number,
  limitBytes: number,
  spareRows = 0,
): RowRange[] {
  if (rows === 0) return [];
  if ((rows + spareRows) * rowBytes <= limitBytes) return [{ start: 0, count: rows }];
  const step = Math.floor((limitBytes / rowBytes - spareRows) / ROW_STEP) * ROW_STEP;
  if (step <= 0) {
    throw new ResourceError(
      `Cannot unpack rows of ${rowBytes} bytes: ${ROW_STEP + spareRows} of them exceed the ` +
        `${formatBytes(limitBytes)} this adapter binds at once`,
    );
  }
  const ranges: RowRange[] = [];
  for (let start = 0; start < rows; start += step) {
    ranges.push({ start, count: Math.min(step, rows - start) });
  }
  return ranges;
}

/** The matrix with rows of a whole number of 16-byte units, zeros at their ends; a second handle if they are. */
export function alignedRows(x: Tensor, limitBytes: number): Tensor {
  const [rows, columns] = x.shape;
  if (rowBytesOf(x) % 16 === 0) return x.alias();
  const width = 8 * Math.ceil(columns / 8);
  const y = Tensor.empty(x.gpu, [rows, width], x.dtype);
  for (const range of packedRanges(rows, 2 * width, limitBytes)) {
    const n = range.count * width / 2;
    align.run(x.gpu, {
      buffers: { x: packedBinding(x, range), y: packedBinding(y, range) },
      params: { n, from_columns: columns, to_words: width / 2 },
      grid: foldGrid(Math.ceil(n / BLOCK)),
    });
  }
  return y;
}
