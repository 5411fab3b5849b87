// A residual sum and its norm: what stands between the blocks of a pre-norm transformer, in one kernel each way.

import backwardCode from "../../kernels/add_rms_norm_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/add_rms_norm.wgsl" with { type: "text" };
import { recordAll } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { normDweight } from "./norm_dweight.ts";
import { rmsNormGradients } from "./rms_norm.ts";

const parts = ROW_PARTS;
const knobs = ROW_KNOBS;
const forward = new Kernel("add_rms_norm", { main: forwardCode, parts, knobs });
const backward = new Kernel("add_rms_norm_backward", { main: backwardCode, parts, knobs });

/**
 * `sum = x + branch` and `normed = sum · weight / sqrt(mean_j sum_j² + eps)` per row: {@link add}, then {@link rmsNorm}
 * with the same arithmetic, values and gradients; the bits differ where a driver rounds one kernel otherwise than another.
 *
 * @param x (…, C)
 * @param branch (…, C) the same shape
 * @param weight (C)
 * @param eps added to the mean square
 * @returns two tensors (…, C)
 * @throws {TypeError} If the shapes do not belong together
 */
export function addRmsNorm(
  x: Tensor,
  branch: Tensor,
  weight: Tensor,
  eps = 1e-6,
): { sum: Tensor; normed: Tensor } {
  const cols = x.shape.at(-1) ?? 0;
  if (
    x.shape.join() !== branch.shape.join() || weight.shape.length !== 1 || weight.size !== cols ||
    cols === 0
  ) {
    throw new TypeError(
      `Cannot add (${branch.shape.join(", ")}) to (${x.shape.join(", ")}) and normalize with a ` +
        `weight of (${weight.shape.join(", ")})`,
    );
  }
  const { gpu } = x;
  const rows = x.size / cols;
  const params = { eps };
  const sum = Tensor.empty(gpu, x.shape);
  const normed = Tensor.empty(gpu, x.shape);
  const rowwise = { x, branch, sum, y: normed };
  runRows(forward, gpu, { rows, cols, rowwise, whole: { weight }, params });

  const kept = sum.alias();
  recordAll([sum, normed], [x, branch, weight], ([dsum, dy], needs) => {
    if (!dy) return [dsum, dsum, null];
    if (!dsum) {
      const [dx, dweight] = rmsNormGradients(kept, weight, dy, eps, needs[2]);
      return [dx, dx, dweight];
    }
    const dx = Tensor.empty(gpu, x.shape);
    const stats = Tensor.empty(gpu, [rows, 2]);
    const rowwise = { sum: kept, dy, dsum, dx, stats };
    runRows(backward, gpu, { rows, cols, rowwise, whole: { weight }, params });
    return [dx, dx, needs[2] ? normDweight(kept, dy, stats, false)[0] : null];
  }, [kept]);
  return { sum, normed };
}
