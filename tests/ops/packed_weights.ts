// Seeded packed weights for tests: the tensor, and the values it stands for.

import type { Gpu } from "../../lib/gpu/device.ts";
import { packRows, unpackRows } from "../../lib/packed_layout.ts";
import type { PackedDType } from "../../lib/ops/packed_rows.ts";
import { Tensor } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";

/** A (rows, columns) matrix packed from seeded normals, and its values. */
export function packedWeights(
  gpu: Gpu,
  [rows, columns]: readonly number[],
  dtype: PackedDType,
  seed: number,
): { weight: Tensor; values: Float32Array } {
  const plain = normals(rows * columns, seed);
  const shape = [rows, columns];
  if (dtype === "int8" || dtype === "int4") {
    const bytes = packRows(plain, columns, dtype);
    const weight = Tensor.fromBytes(gpu, bytes, shape, dtype);
    return { weight, values: unpackRows(bytes, columns, dtype) };
  }
  if (dtype === "f16") {
    const halves = Float16Array.from(plain);
    const weight = Tensor.fromHalves(gpu, new Uint16Array(halves.buffer), shape, dtype);
    return { weight, values: Float32Array.from(halves) };
  }
  const bits = Uint16Array.from(new Uint32Array(plain.buffer), (word) => word >>> 16);
  const words = Uint32Array.from(bits, (half) => half << 16);
  const weight = Tensor.fromHalves(gpu, bits, shape, dtype);
  return { weight, values: new Float32Array(words.buffer) };
}

/** Plain f64 `y = x Wᵀ + b`. */
export function linearReference(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | undefined,
  [rows, outputs, inputs]: readonly number[],
): Float64Array {
  const y = new Float64Array(rows * outputs);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0; i < inputs; i++) sum += x[r * inputs + i] * weight[o * inputs + i];
      y[r * outputs + o] = sum;
    }
  }
  return y;
}
