// One AdamW update of one tensor, in place.

import code from "../../kernels/adamw_step.wgsl" with { type: "text" };
import { Kernel } from "../gpu/kernel.ts";
import { runPointwise } from "../gpu/pointwise.ts";
import type { Tensor } from "../tensor.ts";

const kernel = new Kernel("adamw_step", { main: code, inPlace: ["w", "m", "v"] });

/** Settings of {@link adamwStep}. */
export interface AdamWStep {
  learningRate: number;
  /** Decay of the first moment, in [0, 1). */
  beta1: number;
  /** Decay of the second moment, in [0, 1). */
  beta2: number;
  /** Added to √v. */
  epsilon: number;
  /** Decoupled: weights shrink by `learningRate · weightDecay`. */
  weightDecay: number;
  /** Which update of this tensor it is, from 1. */
  step: number;
  /** (1) factor of the gradient: clipping without reading the norm back. */
  gradientScale: Tensor;
}

/**
 * One update of `w`, `m` and `v` in place (Loshchilov and Hutter 2019, algorithm 2), with `g` the
 * gradient times its scale and `t` the step:
 * `m ← β1 m + (1-β1) g`, `v ← β2 v + (1-β2) g²`,
 * `w ← (1 - lr λ) w - lr m / (1-β1ᵗ) / (√(v / (1-β2ᵗ)) + ε)`.
 *
 * Where `g` is not finite nothing changes; a scale that is not finite (see `clipScale`) makes the
 * whole update do nothing. Not differentiable.
 *
 * @param w (…) weights, and in the same shape
 * @param gradient its gradient
 * @param m first moment, zeros before step 1
 * @param v second moment, zeros before step 1
 * @throws {TypeError} If the shapes differ
 * @throws {RangeError} If the step is below 1
 */
export function adamwStep(
  w: Tensor,
  gradient: Tensor,
  m: Tensor,
  v: Tensor,
  settings: AdamWStep,
): void {
  for (const [name, t] of Object.entries({ gradient, m, v })) {
    if (t.shape.join() === w.shape.join()) continue;
    throw new TypeError(
      `Cannot update a (${w.shape.join(", ")}) weight with a (${t.shape.join(", ")}) ${name}`,
    );
  }
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  if (!(step >= 1)) throw new RangeError(`Cannot make update ${step}: updates are counted from 1`);
  runPointwise(kernel, w.gpu, { gradient, w, m, v }, w.size, {
    scalars: { factor: gradientScale },
    params: {
      keep: 1 - learningRate * weightDecay,
      rate: learningRate / (1 - beta1 ** step),
      m_share: 1 - beta1,
      beta2,
      v_share: 1 - beta2,
      v_scale: 1 / Math.sqrt(1 - beta2 ** step),
      epsilon,
    },
  });
}
