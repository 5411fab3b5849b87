// What every family of attention kernels is handed, and what it offers.

import type { Gpu } from "../gpu/device.ts";
import type { Work } from "../gpu/timings.ts";
import type { Tensor } from "../tensor.ts";
import type { AttentionMask } from "./attention_mask.ts";

/** What attention is computed of; D is a multiple of 4. */
export interface AttentionCall {
  readonly gpu: Gpu;
  /** (Nq, H, D) */
  readonly q: Tensor;
  /** (Nk, K, D) */
  readonly k: Tensor;
  /** (Nk, K, D) */
  readonly v: Tensor;
  readonly mask: AttentionMask;
  readonly scale: number;
}

/** Where gradients go; null for those that nobody asked for. */
export interface AttentionGradients {
  readonly dq: Tensor | null;
  readonly dk: Tensor | null;
  readonly dv: Tensor | null;
}

/** The kernels of one kind of adapter. */
export interface AttentionKernels {
  /** Writes y (Nq, H, D) and the log-sum-exp of the scores, lse (H, Nq). */
  forward(call: AttentionCall, y: Tensor, lse: Tensor): void;
  /** Writes the gradients asked for; `stats` (H, Nq, 2) holds lse and `Σ_d dy · y`. */
  backward(call: AttentionCall, dy: Tensor, stats: Tensor, grads: AttentionGradients): void;
}

/** Work of `products` products of the pass over all pairs; slices that repeat scores count them once. */
export function attentionWork({ q, mask }: AttentionCall, products: number): Work {
  return { flop: 2 * products * q.dim(2) * q.dim(1) * mask.pairs };
}
