// Mean squared error, one loss per row.

import backwardCode from "../../kernels/mse_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/mse.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { scale } from "./unary.ts";

const parts = ROW_PARTS;
const knobs = ROW_KNOBS;
const forward = new Kernel("mse", { main: forwardCode, parts, knobs });
const backward = new Kernel("mse_backward", { main: backwardCode, parts, knobs });

/**
 * `loss_r = mean_c (pred_rc - target_rc)²`.
 *
 * @param pred (M, C)
 * @param target (M, C)
 * @returns (M)
 * @throws {TypeError} If the shapes differ or are not (M, C)
 */
export function mse(pred: Tensor, target: Tensor): Tensor {
  if (pred.shape.length !== 2 || pred.dim(1) === 0 || pred.shape.join() !== target.shape.join()) {
    throw new TypeError(
      `Cannot compare (${pred.shape.join(", ")}) with (${target.shape.join(", ")}) row by row`,
    );
  }
  const { gpu } = pred;
  const [rows, cols] = pred.shape;
  const loss = Tensor.empty(gpu, [rows]);
  runRows(forward, gpu, { rows, cols, rowwise: { pred, goal: target, loss } });
  return record(loss, [pred, target], (dy, needs) => {
    const dpred = Tensor.empty(gpu, pred.shape);
    runRows(backward, gpu, { rows, cols, rowwise: { pred, goal: target, dy, dpred } });
    return [dpred, needs[1] ? scale(dpred, -1) : null];
  });
}
