// Cross-entropy of logits against class labels, one loss per row.

import backwardCode from "../../kernels/cross_entropy_backward.wgsl" with { type: "text" };
import forwardCode from "../../kernels/cross_entropy.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import type { Gpu } from "../gpu/device.ts";
import { Kernel } from "../gpu/kernel.ts";
import { ROW_KNOBS, ROW_PARTS, runRows } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { mul } from "./mul.ts";

const parts = ROW_PARTS;
const knobs = ROW_KNOBS;
const forward = new Kernel("cross_entropy", { main: forwardCode, parts, knobs });
const backward = new Kernel("cross_entropy_backward", { main: backwardCode, parts, knobs });

/** The label to ignore where there is none to ignore. */
export const NO_LABEL = -(2 ** 31);
const NAN_BITS = 0x7fc00000;

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions {
  /** (M) factor of each row's loss. Default: 1. */
  weights?: Tensor;
  /** Rows with this label have loss and gradient 0. Default: none. */
  ignore?: number;
}

/**
 * `loss_r = log Σ_j exp(logits_rj) - logits_r,label(r)`, safe for logits of any size.
 *
 * @param logits (M, V)
 * @param labels (M) integers below V: on the host, where they are checked, or an i32 tensor, where a
 *   label out of range makes its loss not a number
 * @returns (M) losses, in nats
 * @throws {TypeError} If the shapes do not belong together
 * @throws {RangeError} If a label on the host is out of range
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor | Int32Array,
  options: CrossEntropyOptions = {},
): Tensor {
  const { gpu } = logits;
  const [rows, cols] = logits.shape;
  const count = labels instanceof Tensor ? labels.size : labels.length;
  if (logits.shape.length !== 2 || count !== rows || cols === 0) {
    throw new TypeError(
      `Cannot take the cross-entropy of (${logits.shape.join(", ")}) logits and ${count} labels`,
    );
  }
  const ignore = options.ignore ?? NO_LABEL;
  const target = lossLabels(gpu, labels, cols, ignore);
  const loss = Tensor.empty(gpu, [rows]);
  const stats = Tensor.empty(gpu, [rows, 2]);
  runLoss({ logits, labels: target, loss, stats, ignore });
  record(loss, [logits], (dy) => {
    const dx = Tensor.empty(gpu, logits.shape);
    runLossGradient({ logits, labels: target, stats, dy, dx, ignore });
    return [dx];
  });
  return options.weights ? mul(loss, options.weights) : loss;
}

interface LossRows {
  /** (M, V) */
  logits: Tensor;
  /** (M) of i32 */
  labels: Tensor;
  /** (M, 2) largest logit and the sum of exponentials relative to it. */
  stats: Tensor;
  ignore: number;
}

/** Fills `loss` (M) and `stats` from logits. Not differentiable. */
export function runLoss(
  { logits, labels, loss, stats, ignore }: LossRows & { loss: Tensor },
): void {
  const [rows, cols] = logits.shape;
  const rowwise = { x: logits, labels, loss, stats };
  runRows(forward, logits.gpu, { rows, cols, rowwise, params: { ignore, nan: NAN_BITS } });
}

/** Fills `dx` (M, V), the gradient of the logits, from that of the losses. Not differentiable. */
export function runLossGradient(
  { logits, labels, stats, dy, dx, ignore }: LossRows & { dy: Tensor; dx: Tensor },
): void {
  const [rows, cols] = logits.shape;
  const rowwise = { x: logits, labels, stats, dy, dx };
  runRows(backward, logits.gpu, { rows, cols, rowwise, params: { ignore } });
}

/**
 * Labels on the device: those of the host are checked and uploaded.
 *
 * @throws {RangeError} If a label on the host is out of range
 * @throws {TypeError} If a tensor of labels is not i32
 */
export function lossLabels(
  gpu: Gpu,
  labels: Tensor | Int32Array,
  classes: number,
  ignore: number,
): Tensor {
  if (labels instanceof Tensor) {
    if (labels.dtype === "i32") return labels;
    throw new TypeError(`Cannot use ${labels.dtype} labels: cross-entropy takes i32`);
  }
  labels.forEach((label, i) => {
    if (label === ignore || (label >= 0 && label < classes)) return;
    throw new RangeError(`Cannot score label ${label} (at ${i}) among ${classes} classes`);
  });
  return Tensor.from(gpu, labels, [labels.length]);
}
