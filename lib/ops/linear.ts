// Linear map of the last axis, with weights stored (out, in) as checkpoints store them.

import { record, recordAll } from "../autograd.ts";
import { accumulate } from "../gpu/accumulate.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { adapterGradients, adapterOf, narrowed, widen } from "./adapter.ts";
import { columnSum } from "./column_sum.ts";
import { product } from "./matmul_launch.ts";
import { hasGradient, isPackedDType } from "./packed_rows.ts";

/**
 * Linear map `y = x Wᵀ + b` of the last axis; the bias is added as the product is stored. Packed weights are
 * unpacked as they are read; the sums are f32.
 *
 * Gradients: `dx = dy W`, `dW = dyᵀ x`, `db = Σ_rows dy`. Without rows, `y` is empty and the gradients are zero.
 * `dW` is f32 whatever halves the weights are stored as; int8 and int4 weights have no gradient of their own.
 *
 * Weights that carry an adapter (adapter.ts) act as `W + s·B·A`: `y` has `s (x Aᵀ) Bᵀ` added, and A and B get gradients.
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
  const adapter = adapterOf(weight);
  const h = adapter && narrowed(x, adapter);
  const sizes = { rows, columns, inner, transposeA: false, transposeB: true };
  const mapped = product(x, weight, { ...sizes, bias });
  const flat = adapter && h ? widen(mapped, h, adapter) : mapped;
  const y = flat.alias([...leading, columns]);
  flat.dispose();
  const inputs = bias ? [x, weight, bias] : [x, weight];
  const own = (dy: Tensor, needs: readonly boolean[]) => {
    const back = { rows, columns: inner, inner: columns, transposeA: false, transposeB: false };
    const turned = { rows: columns, columns: inner, inner: rows };
    const dx = needs[0] ? product(dy, weight, back) : null;
    const dweight = needs[1] && hasGradient(weight.dtype)
      ? product(dy, x, { ...turned, transposeA: true, transposeB: false })
      : null;
    return bias ? [dx, dweight, needs[2] ? columnSum(dy) : null] : [dx, dweight];
  };
  if (!adapter || !h) return record(y, inputs, own);
  const count = inputs.length;
  recordAll([y], [...inputs, adapter.a, adapter.b], ([given], needs) => {
    const [dx, ...rest] = own(given!, needs);
    const wanted = [needs[0], ...needs.slice(count)];
    const low = adapterGradients(given!, x, h, adapter, wanted);
    return [dx && low.dx ? accumulate(dx, low.dx) : null, ...rest, low.da, low.db];
  }, [h]);
  return y;
}
