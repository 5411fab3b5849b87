// Rows of a tensor on their way into a checkpoint file: where they come from, how they are stored there, and how
// far packed ones are from what they were.

import { bf16ToFloat32, f16ToFloat32, float32ToBf16, float32ToF16 } from "../data/half.ts";
import { ELEMENT_BYTES, type PlannedTensor } from "../data/safetensors_plan.ts";
import { InputError } from "../errors.ts";
import { isPacked, packBf16Rows, packedRow, packRows, unpackRows } from "../packed_layout.ts";
import type { StoredDtype } from "./checkpoint_folder.ts";
import { packedShape } from "./checkpoint_packed.ts";

/** A dtype of numbers in a file. */
export type FloatDtype = "F32" | "F16" | "BF16";

/** A tensor to be written, whose rows come when they are asked for. */
export interface OutTensor {
  /** Name in the file. */
  name: string;
  shape: readonly number[];
  stored: StoredDtype;
  source: {
    /** A packed one is stored as it is. */
    dtype: StoredDtype;
    /** Fills `into` with the bytes of whole rows, from row `first` on. */
    read(first: number, into: Uint8Array<ArrayBuffer>): Promise<void> | void;
  };
}

/** Bytes of a number. */
export const FLOAT_BYTES = { F32: 4, F16: 2, BF16: 2 } as const;

/** Rows and columns of a shape: what is no matrix is one row, a convolution has one row per output. */
export function rowsOf(shape: readonly number[]): { rows: number; columns: number } {
  const size = shape.reduce((n, d) => n * d, 1);
  return shape.length < 2
    ? { rows: 1, columns: size }
    : { rows: shape[0], columns: size / shape[0] };
}

/** Bytes of a row as it comes from the tensor's source. */
export function sourceRowBytes({ shape, source: { dtype } }: OutTensor): number {
  const { columns } = rowsOf(shape);
  return isPacked(dtype) ? packedRow(columns, dtype).rowBytes : columns * FLOAT_BYTES[dtype];
}

/** The tensor as its file describes it. */
export function plannedTensor({ name, shape, stored }: OutTensor): PlannedTensor {
  if (!isPacked(stored)) return { name, dtype: stored, shape };
  const { rows, columns } = rowsOf(shape);
  return { name, dtype: "U8", shape: packedShape({ format: stored, rows, columns }) };
}

/** Bytes of the tensor in its file. */
export function bytesOf(tensor: OutTensor): number {
  const { dtype, shape } = plannedTensor(tensor);
  return shape.reduce((n, d) => n * d, 1) * ELEMENT_BYTES[dtype];
}

/** Sums of squares over measured values: of what packing changed, and of the values themselves. */
export interface Tally {
  error: number;
  size: number;
}

/** About how many rows of each tensor are measured, spread evenly: what they say differs from all by a per mille. */
const MEASURED_ROWS = 128;

/**
 * Some rows as they are stored.
 *
 * @param first the number of the first row in its tensor
 * @param bytes the rows in the source's dtype, from the start of their memory
 * @param tally gets the squares of those rows that are measured, if the tensor is packed
 * @returns the bytes to write; `bytes` itself where nothing changes
 * @throws {InputError} If a value that is packed is not finite
 */
export function encodeRows(
  tensor: OutTensor,
  first: number,
  bytes: Uint8Array<ArrayBuffer>,
  tally: Tally,
): Uint8Array {
  const { stored, source: { dtype } } = tensor;
  if (stored === dtype) return bytes;
  if (isPacked(dtype)) throw new TypeError(`internal: ${tensor.name} is ${dtype}, not ${stored}`);
  const bits = new Uint16Array(bytes.buffer, 0, dtype === "F32" ? 0 : bytes.length / 2);
  const floats = () =>
    dtype === "F32"
      ? new Float32Array(bytes.buffer, 0, bytes.length / 4)
      : dtype === "F16"
      ? f16ToFloat32(bits)
      : bf16ToFloat32(bits);
  if (!isPacked(stored)) {
    const values = floats();
    if (stored === "F32") return new Uint8Array(values.buffer, 0, values.byteLength);
    return new Uint8Array((stored === "BF16" ? float32ToBf16 : float32ToF16)(values).buffer);
  }
  const { rows, columns } = rowsOf(tensor.shape);
  const values = dtype === "BF16" ? undefined : floats();
  let packed: Uint8Array;
  try {
    packed = values ? packRows(values, columns, stored) : packBf16Rows(bits, columns, stored);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const at = (values ?? floats()).findIndex((value) => !Number.isFinite(value));
    throw new InputError(
      `Cannot pack ${tensor.name}: row ${first + Math.floor(at / columns)}, ` +
        `column ${at % columns} is ${(values ?? floats())[at]}`,
      { help: "get the weights again, or keep this tensor as it is", cause },
    );
  }
  const every = Math.max(1, Math.floor(rows / MEASURED_ROWS));
  const count = bytes.length / columns / FLOAT_BYTES[dtype];
  const rowBytes = packed.length / count;
  for (let row = (every - first % every) % every; row < count; row += every) {
    const [from, to] = [row * columns, (row + 1) * columns];
    const was = values?.subarray(from, to) ?? bf16ToFloat32(bits.subarray(from, to));
    const is = unpackRows(packed.subarray(row * rowBytes, (row + 1) * rowBytes), columns, stored);
    for (let i = 0; i < columns; i++) {
      tally.error += (was[i] - is[i]) ** 2;
      tally.size += was[i] ** 2;
    }
  }
  return packed;
}
