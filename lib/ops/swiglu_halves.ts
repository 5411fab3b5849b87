// SwiGLU of a stacked projection, whose rows hold the gate and what it lets through.

import backwardCode from "../../kernels/swiglu_halves_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/swiglu_halves.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";

const forward = new Kernel("swiglu_halves", { main: forwardCode, knobs: ROW_KNOBS });
const backward = new Kernel("swiglu_halves_backward", { main: backwardCode, knobs: ROW_KNOBS });

/**
 * Gated unit `silu(gate) · up` of rows `[gate | up]` (Shazeer 2020, eq. 6): what {@link swiglu} gives for the halves.
 *
 * @param x (…, 2F)
 * @returns (…, F)
 * @throws {TypeError} If the last axis has no two halves
 */
export function swigluHalves(x: Tensor): Tensor {
  const width = x.shape.at(-1) ?? 0;
  if (width === 0 || width % 2 !== 0) {
    throw new TypeError(
      `Cannot gate the halves of (${x.shape.join(", ")}): the last axis has none`,
    );
  }
  const { gpu } = x;
  const cols = width / 2;
  const rows = x.size / width;
  const y = Tensor.empty(gpu, [...x.shape.slice(0, -1), cols]);
  runRows(forward, gpu, { rows, cols, rowwise: { x, y } });
  return record(y, [x], (dy) => {
    const dx = Tensor.empty(gpu, x.shape);
    runRows(backward, gpu, { rows, cols, rowwise: { x, dy, dx } });
    return [dx];
  });
}
