// Root-mean-square normalization of the last axis.

import backwardCode from "../../kernels/rms_norm_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/rms_norm.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { normDweight } from "./norm_dweight.ts";

const forward = new Kernel("rms_norm", { main: forwardCode, parts: ROW_PARTS, knobs: ROW_KNOBS });
const backward = new Kernel("rms_norm_backward", {
  main: backwardCode,
  parts: ROW_PARTS,
  knobs: ROW_KNOBS,
});

/**
 * Normalizes each row to unit root mean square: `y_c = x_c · weight_c / sqrt(mean_j x_j² + eps)`.
 *
 * @param x (…, C); (N, H, D) with a weight of D norms every head
 * @param weight (C)
 * @param eps added to the mean square
 * @returns (…, C)
 * @throws {TypeError} If the weight is not one value per column
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps = 1e-6): Tensor {
  const cols = x.dim(-1);
  if (weight.shape.length !== 1 || weight.size !== cols || cols === 0) {
    throw new TypeError(
      `Cannot normalize (${x.shape.join(", ")}) with a weight of (${weight.shape.join(", ")})`,
    );
  }
  const { gpu } = x;
  const rows = x.size / cols;
  const params = { eps };
  const y = Tensor.empty(gpu, x.shape);
  runRows(forward, gpu, { rows, cols, rowwise: { x, y }, whole: { weight }, params });

  return record(y, [x, weight], (dy, needs) => {
    const dx = Tensor.empty(gpu, x.shape);
    const stats = Tensor.empty(gpu, [rows, 2]);
    const rowwise = { x, dy, dx, stats };
    runRows(backward, gpu, { rows, cols, rowwise, whole: { weight }, params });
    return [dx, needs[1] ? normDweight(x, dy, stats, false)[0] : null];
  });
}
