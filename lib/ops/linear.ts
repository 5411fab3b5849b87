// Linear map of the last axis, with weights stored (out, in) as checkpoints store them.

import { record } from "../autograd.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { columnSum } from "./column_sum.ts";
import { product } from "./matmul_launch.ts";
import { isPackedDType } from "./packed_rows.ts";

/**
 * Linear map `y = x Wᵀ + b` of the last axis; the bias is added as the product is stored. Packed weights are
 * unpacked as they are read; the sums are f32.
 *
 * Gradients: `dx = dy W`, `dW = dyᵀ x`, `db = Σ_rows dy`. Without rows, `y` is empty and the gradients are zero.
 * Packed weights have no gradient of their own.
 *
 * @param x (…, in)
 * @param weight (out, in) of f32, bf16, f16, int8 or int4
 * @param bias (out), or absent
 * @returns (…, out)
 * @throws {TypeError} If a shape or dtype does not fit
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [columns, inner] = weight.shape;
  const fits = weight.shape.length === 2 && x.shape.length > 0 && x.dim(-1) === inner;
  const packed = isPackedDType(weight.dtype);
  if (!fits || x.dtype !== "f32" || !(packed || weight.dtype === "f32")) {
    throw new TypeError(
      `Cannot map a (${x.shape.join(", ")}) ${x.dtype} tensor by (${weight.shape.join(", ")}) ` +
        `${weight.dtype} weights: expected f32 (…, in) and (out, in) of f32, bf16, f16, int8 or int4`,
    );
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== columns || bias.dtype !== "f32")) {
    throw new TypeError(
      `Cannot add a (${bias.shape.join(", ")}) ${bias.dtype} bias to ${columns} outputs`,
    );
  }
  const leading = x.shape.slice(0, -1);
  const rows = sizeOf(leading);
  const flat = product(x, weight, {
    rows,
    columns,
    inner,
    transposeA: false,
    transposeB: true,
    bias,
  });
  const y = flat.alias([...leading, columns]);
  flat.dispose();
  return record(y, bias ? [x, weight, bias] : [x, weight], (dy, needs) => {
    const dx = needs[0]
      ? product(dy, weight, {
        rows,
        columns: inner,
        inner: columns,
        transposeA: false,
        transposeB: false,
      })
      : null;
    const dweight = needs[1] && !packed
      ? product(dy, x, {
        rows: columns,
        columns: inner,
        inner: rows,
        transposeA: true,
        transposeB: false,
      })
      : null;
    if (!bias) return [dx, dweight];
    return [dx, dweight, needs[2] ? columnSum(dy) : null];
  });
}
