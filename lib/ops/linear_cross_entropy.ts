// Cross-entropy of a linear map whose logits never exist all at once: with a vocabulary of 152 064, the logits of a
// thousand tokens take 600 MB, and their gradient as much again.

import { record } from "../autograd.ts";
import { accumulate } from "../gpu/accumulate.ts";
import { Tensor, tidy } from "../tensor.ts";
import { type Adapter, adapterGradients, adapterOf, narrowed, widen } from "./adapter.ts";
import {
  type CrossEntropyOptions,
  lossLabels,
  NO_LABEL,
  runLoss,
  runLossGradient,
} from "./cross_entropy.ts";
import { product } from "./matmul_launch.ts";
import { mul } from "./mul.ts";
import { hasGradient, isPackedDType } from "./packed_rows.ts";

/** Bytes of logits that exist at once, by default; their gradient takes as much again. */
export const LOGITS_BYTES = 2 ** 26;

/** Rows of a chunk are a multiple of this, so that kernels can bind each chunk's losses. */
const STEP = 64;

/** Options of {@link linearCrossEntropy}. */
export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Logits that may exist at once, in bytes; 64 rows are the least. Default: 64 MiB. */
  logitsBytes?: number;
}

/**
 * `loss_r = log Σ_j exp(logits_rj) - logits_r,label(r)` of `logits = hidden weightᵀ`, chunk by chunk of rows: what
 * `crossEntropy(linear(hidden, weight), labels)` gives, but for rounding. The gradient computes each chunk's logits anew
 * and adds up the weight's over the chunks, in order.
 *
 * A weight that carries an adapter (adapter.ts) acts as `W + s·B·A`, as it does in `linear`.
 *
 * @param hidden (M, C)
 * @param weight (V, C) of f32, bf16, f16, int8 or int4; the last two have no gradient of their own
 * @param labels (M) as for `crossEntropy`
 * @returns (M) losses, in nats
 * @throws {TypeError} If shapes or dtypes do not belong together
 * @throws {RangeError} If a label on the host is out of range
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const { gpu } = hidden;
  const [rows, inner] = hidden.shape;
  const [classes] = weight.shape;
  const differentiable = hasGradient(weight.dtype);
  const count = labels instanceof Tensor ? labels.size : labels.length;
  const matrices = hidden.shape.length === 2 && weight.shape.length === 2;
  const fits = matrices && weight.shape[1] === inner && count === rows && classes > 0;
  if (!fits || hidden.dtype !== "f32" || !(isPackedDType(weight.dtype) || weight.dtype === "f32")) {
    throw new TypeError(
      `Cannot score (${hidden.shape.join(", ")}) ${hidden.dtype} rows by ` +
        `(${
          weight.shape.join(", ")
        }) ${weight.dtype} weights and ${count} labels: expected f32 (M, C), (V, C) and M`,
    );
  }
  const { ignore = NO_LABEL, logitsBytes = LOGITS_BYTES } = options;
  const target = lossLabels(gpu, labels, classes, ignore);
  const most = STEP * Math.max(1, Math.floor(logitsBytes / (4 * classes * STEP)));
  const loss = Tensor.empty(gpu, [rows]);
  const stats = Tensor.empty(gpu, [rows, 2]);
  const adapter = adapterOf(weight);
  for (let first = 0; first < rows; first += most) {
    tidy(() => {
      const n = Math.min(most, rows - first);
      const logits = logitsOf(hidden.view(first * inner, [n, inner]), weight, adapter);
      const part = { labels: target.view(first, [n]), stats: stats.view(2 * first, [n, 2]) };
      runLoss({ logits, ...part, loss: loss.view(first, [n]), ignore });
    });
  }
  const inputs = adapter ? [hidden, weight, adapter.a, adapter.b] : [hidden, weight];
  record(loss, inputs, (dy, needs) => {
    const dhidden = needs[0] ? Tensor.empty(gpu, hidden.shape) : null;
    const whole: (Tensor | null)[] = inputs.slice(1).map(() => null);
    for (let first = 0; first < rows; first += most) {
      const parts = tidy(() => {
        const n = Math.min(most, rows - first);
        const x = hidden.view(first * inner, [n, inner]);
        const logits = logitsOf(x, weight, adapter);
        const dx = Tensor.empty(gpu, logits.shape);
        const part = { labels: target.view(first, [n]), stats: stats.view(2 * first, [n, 2]) };
        runLossGradient({ logits, ...part, dy: dy.view(first, [n]), dx, ignore });
        logits.dispose();
        const low = adapter &&
          adapterGradients(dx, x, narrowed(x, adapter), adapter, [needs[0], needs[2], needs[3]]);
        if (dhidden) {
          const sizes = { rows: n, columns: inner, inner: classes };
          const own = product(dx, weight, { ...sizes, transposeA: false, transposeB: false });
          const dh = low?.dx ? accumulate(own, low.dx) : own;
          gpu.copy(dh.buffer, 0, dhidden.buffer, 4 * first * inner, 4 * dh.size);
        }
        const sizes = { rows: classes, columns: inner, inner: n };
        const dweight = needs[1] && differentiable
          ? product(dx, x, { ...sizes, transposeA: true, transposeB: false })
          : null;
        return [dweight, low?.da ?? null, low?.db ?? null];
      });
      whole.forEach((before, i) => {
        const d = parts[i];
        if (d) whole[i] = before ? accumulate(before, d) : d;
      });
    }
    return [dhidden, ...whole.map((d, i) => d ?? emptySum(inputs[i + 1], needs[i + 1]))];
  });
  return options.weights ? mul(loss, options.weights) : loss;
}

function logitsOf(x: Tensor, weight: Tensor, adapter: Adapter | undefined): Tensor {
  const [rows, inner] = x.shape;
  const layout = { transposeA: false, transposeB: true };
  const logits = product(x, weight, { rows, columns: weight.dim(0), inner, ...layout });
  return adapter ? widen(logits, narrowed(x, adapter), adapter) : logits;
}

/** The gradient where there are no rows to sum over; quantized weights have none. */
function emptySum(x: Tensor, needed: boolean): Tensor | null {
  return needed && hasGradient(x.dtype) ? Tensor.zeros(x.gpu, x.shape) : null;
}
