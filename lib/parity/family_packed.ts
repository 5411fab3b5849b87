// The cases of the kernels that unpack weights as they read them: products, gradients through them, look-ups
// and plain unpacking, for each packed dtype.

import { bf16ToFloat32, f16ToFloat32, float32ToBf16, float32ToF16 } from "../data/half.ts";
import type { Gpu } from "../gpu/device.ts";
import { embedding } from "../ops/gather_rows.ts";
import { linear } from "../ops/linear.ts";
import { PACKED_DTYPES, type PackedDType } from "../ops/packed_rows.ts";
import { rowIndex } from "../ops/row_index.ts";
import { unpack } from "../ops/unpack.ts";
import { isPacked, packRows, unpackRows } from "../packed_layout.ts";
import { Tensor } from "../tensor.ts";
import { type FamilyCase, normals } from "./family_check.ts";
import { matmulReference } from "./family_references.ts";

/** Bytes of a (rows, columns) matrix of seeded normals in a packed dtype, and the values they stand for. */
function packedMatrix([rows, columns]: number[], dtype: PackedDType) {
  const plain = normals(rows * columns, "packed", dtype, rows, columns);
  if (isPacked(dtype)) {
    const bytes = packRows(plain, columns, dtype);
    return { bytes, values: unpackRows(bytes, columns, dtype) };
  }
  const [pack, widen] = dtype === "f16"
    ? [float32ToF16, f16ToFloat32]
    : [float32ToBf16, bf16ToFloat32];
  const bits = pack(plain);
  return { bytes: new Uint8Array(bits.buffer), values: widen(bits) };
}

function linearCase(dtype: PackedDType, rows: number, inner: number, columns: number): FamilyCase {
  const { bytes, values } = packedMatrix([columns, inner], dtype);
  const exact = Float64Array.from(values);
  return {
    name: `${rows}x${inner} to ${columns} in ${dtype}`,
    inputs: [{ shape: [rows, inner] }],
    op: ([x], gpu) => linear(x, Tensor.fromBytes(gpu, bytes, [columns, inner], dtype)),
    reference: ([x]) => matmulReference([x, exact], [rows, columns, inner], [false, true]),
  };
}

function readCase(
  dtype: PackedDType,
  what: string,
  columns: number,
  chosen: number[],
  op: (weight: Tensor, gpu: Gpu) => Tensor,
): FamilyCase {
  const rows = 21;
  const { bytes, values } = packedMatrix([rows, columns], dtype);
  return {
    name: `${what} of ${columns} in ${dtype}`,
    inputs: [],
    op: (_, gpu) => op(Tensor.fromBytes(gpu, bytes, [rows, columns], dtype), gpu),
    reference: () =>
      chosen.flatMap((row) => [...values.subarray(row * columns, (row + 1) * columns)]),
  };
}

/** The cases, for every dtype. */
export const PACKED_CASES: FamilyCase[] = PACKED_DTYPES.flatMap((dtype) => {
  const ids = [4, 20, 4, 0, 13];
  const tail = [17, 18, 19, 20];
  return [
    linearCase(dtype, 1, 608, 37),
    linearCase(dtype, 2, 64, 33),
    linearCase(dtype, 3, 70, 9),
    linearCase(dtype, 35, 200, 41),
    readCase(
      dtype,
      "look-up",
      72,
      ids,
      (w, gpu) => embedding(w, rowIndex(gpu, Int32Array.from(ids), 21)),
    ),
    readCase(dtype, "unpacking", 30, tail, (w) => unpack(w, 17)),
  ];
});
