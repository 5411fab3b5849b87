// Attention over packed sequences, forward and backward, without a table of scores: keys pass in tiles
// under a running maximum, and the backward pass computes the probabilities again from the log-sum-exp.

import deltaCode from "../../kernels/attention_backward_delta.wgsl" with { type: "text" };
import { record } from "../autograd.ts";
import { foldGrid, Kernel } from "../gpu/kernel.ts";
import { Tensor } from "../tensor.ts";
import { attentionKernels } from "./attention_kernels.ts";
import type { AttentionMask } from "./attention_mask.ts";
import { columns } from "./columns.ts";

const deltas = new Kernel("attention_backward_delta", { main: deltaCode });

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores. Default: D^-0.5. */
  scale?: number;
}

/**
 * Softmax attention: `y[i, h] = Σ_j p_ij v[j, g]` with `p_i = softmax_j(scale · q[i, h] · k[j, g])` over
 * the keys j that the mask lets query i see, and `g = floor(h · K / H)` (grouped queries). A query must
 * see at least one key. Memory is linear in tokens, work quadratic only within a sample.
 *
 * @param q (Nq, H, D)
 * @param k (Nk, K, D), K a divisor of H
 * @param v (Nk, K, D)
 * @param mask of Nq queries and Nk keys
 * @returns (Nq, H, D)
 * @throws {TypeError} If the shapes, or shapes and mask, do not fit
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  mask: AttentionMask,
  options: AttentionOptions = {},
): Tensor {
  checkShapes(q, k, v, mask);
  const size = q.dim(2);
  const scale = options.scale ?? size ** -0.5;
  if (size % 4 === 0) return padded(q, k, v, mask, scale);
  const to = Math.ceil(size / 4) * 4;
  const [wideQ, wideK, wideV] = [q, k, v].map((x) => columns(x, 0, to));
  return columns(padded(wideQ, wideK, wideV, mask, scale), 0, size);
}

/** Attention where D is a multiple of 4. */
function padded(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, scale: number): Tensor {
  const { gpu } = q;
  const [queries, heads, size] = q.shape;
  const call = { gpu, q, k, v, mask, scale };
  const kernels = attentionKernels(gpu);
  const y = Tensor.empty(gpu, q.shape);
  const lse = Tensor.empty(gpu, [heads, queries]);
  kernels.forward(call, y, lse);

  return record(y, [q, k, v], (dy, [needsQ, needsK, needsV]) => {
    const stats = Tensor.empty(gpu, [heads, queries, 2]); // lse and Σ_d dy · y
    deltas.run(gpu, {
      buffers: { y: y.buffer, dy: dy.buffer, lse: lse.buffer, stats: stats.buffer },
      params: { queries, heads, columns: size / 4 },
      grid: foldGrid(Math.ceil(queries * heads / 64)),
    });
    const dq = needsQ ? Tensor.empty(gpu, q.shape) : null;
    const dk = needsK ? Tensor.empty(gpu, k.shape) : null;
    const dv = needsV ? Tensor.empty(gpu, v.shape) : null;
    kernels.backward(call, dy, stats, { dq, dk, dv });
    return [dq, dk, dv];
  });
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask): void {
  const [a, b, c] = [q, k, v].map((x) => `(${x.shape.join(", ")})`);
  const shapes = `q ${a}, k ${b}, v ${c}`;
  if (q.shape.length !== 3 || k.shape.length !== 3 || b !== c || q.dim(2) !== k.dim(2)) {
    throw new TypeError(
      `Cannot attend with ${shapes}: expected (Nq, H, D), (Nk, K, D) and (Nk, K, D)`,
    );
  }
  if (q.size === 0 || k.size === 0) throw new TypeError(`Cannot attend with ${shapes}: empty`);
  if (q.dim(1) % k.dim(1) !== 0) {
    throw new TypeError(
      `Cannot attend with ${shapes}: ${q.dim(1)} heads do not divide into ${k.dim(1)} key heads`,
    );
  }
  if (q.dim(0) !== mask.queries || k.dim(0) !== mask.keys) {
    throw new TypeError(
      `Cannot attend with ${shapes}: the mask has ${mask.queries} queries and ${mask.keys} keys`,
    );
  }
}
