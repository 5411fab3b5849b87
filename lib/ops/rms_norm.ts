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
  const y = Tensor.empty(gpu, x.shape);
  runRows(forward, gpu, { rows, cols, rowwise: { x, y }, whole: { weight }, params: { eps } });

  return record(y, [x, weight], (dy, needs) => rmsNormGradients(x, weight, dy, eps, needs[1]));
}

/** Gradients of {@link rmsNorm}, that of the weight only if it is needed. Not differentiable. */
export function rmsNormGradients(
  x: Tensor,
  weight: Tensor,
  dy: Tensor,
  eps: number,
  needWeight: boolean,
): [dx: Tensor, dweight: Tensor | null] {
  const { gpu } = x;
  const cols = weight.size;
  const rows = x.size / cols;
  const dx = Tensor.empty(gpu, x.shape);
  const stats = Tensor.empty(gpu, [rows, 2]);
  const rowwise = { x, dy, dx, stats };
  runRows(backward, gpu, { rows, cols, rowwise, whole: { weight }, params: { eps } });
  return [dx, needWeight ? normDweight(x, dy, stats, false)[0] : null];
}
