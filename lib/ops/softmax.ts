// Softmax of the last axis.

import backwardCode from "../../kernels/softmax_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/softmax.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";

const parts = ROW_PARTS;
const knobs = ROW_KNOBS;
const forward = new Kernel("softmax", { main: forwardCode, parts, knobs });
const backward = new Kernel("softmax_backward", { main: backwardCode, parts, knobs });

/**
 * Softmax over the last axis: `y_c = exp(x_c - max x) / Σ_j exp(x_j - max x)`.
 *
 * @param x (…, C) logits, any finite number
 * @returns (…, C) probabilities; each row sums to 1
 * @throws {RangeError} If the last axis is missing or empty
 */
export function softmax(x: Tensor): Tensor {
  const cols = x.shape.at(-1) ?? 0;
  if (cols === 0) {
    throw new RangeError(`Cannot take softmax over an empty axis: x is (${x.shape.join(", ")})`);
  }
  const { gpu } = x;
  const rows = x.size / cols;
  const y = Tensor.empty(gpu, x.shape);
  runRows(forward, gpu, { rows, cols, rowwise: { x, y } });
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(gpu, x.shape);
    runRows(backward, gpu, { rows, cols, rowwise: { y, dy, dx } });
    return [dx];
  });
}
