// Layer normalization of the last axis.

import backwardCode from "../../kernels/layer_norm_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/layer_norm.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { normDweight } from "./norm_dweight.ts";

const forward = new Kernel("layer_norm", { main: forwardCode, parts: ROW_PARTS, knobs: ROW_KNOBS });
const backward = new Kernel("layer_norm_backward", {
  main: backwardCode,
  parts: ROW_PARTS,
  knobs: ROW_KNOBS,
});

/**
 * Normalizes each row to mean 0 and variance 1:
 * `y_c = (x_c - mean x) · weight_c / sqrt(var x + eps) + bias_c`.
 *
 * @param x (…, C)
 * @param weight (C)
 * @param bias (C)
 * @param eps added to the variance
 * @returns (…, C)
 * @throws {TypeError} If weight or bias is not one value per column
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-6): Tensor {
  const cols = x.dim(-1);
  for (const [name, t] of [["weight", weight], ["bias", bias]] as const) {
    if (t.shape.length === 1 && t.size === cols && cols > 0) continue;
    throw new TypeError(
      `Cannot normalize (${x.shape.join(", ")}) with a ${name} of (${t.shape.join(", ")})`,
    );
  }
  const { gpu } = x;
  const rows = x.size / cols;
  const params = { eps };
  const y = Tensor.empty(gpu, x.shape);
  runRows(forward, gpu, { rows, cols, rowwise: { x, y }, whole: { weight, bias }, params });

  return record(y, [x, weight, bias], (dy, needs) => {
    const dx = Tensor.empty(gpu, x.shape);
    const stats = Tensor.empty(gpu, [rows, 2]);
    const rowwise = { x, dy, dx, stats };
    runRows(backward, gpu, { rows, cols, rowwise, whole: { weight }, params });
    if (!needs[1] && !needs[2]) return [dx, null, null];
    const [dweight, dbias] = normDweight(x, dy, stats, true);
    return [dx, dweight, dbias];
  });
}
