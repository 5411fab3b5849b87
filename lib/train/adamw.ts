// AdamW over named parameters, with an exponential moving average of the weights beside it. State exists
// only for parameters that ever received a gradient, and counts its own steps, as in PyTorch.

import type { Parameters } from "../nn/parameters.ts";
import { adamwStep } from "../ops/adamw_step.ts";
import { emaStep } from "../ops/ema_step.ts";
import { Tensor } from "../tensor.ts";

/** Settings of {@link AdamW}; the defaults are the published training code's. */
export interface AdamWOptions {
  /** Decay of the first moment. Default: 0.9. */
  beta1?: number;
  /** Decay of the second moment. Default: 0.95. */
  beta2?: number;
  /** Added to √v. Default: 1e-15. */
  epsilon?: number;
  /** Decoupled weight decay. Default: 0. */
  weightDecay?: number;
  /** Decay of the weights' moving average; absent: none is kept. */
  emaDecay?: number;
}

/** Moments of one parameter. */
export interface AdamWState {
  m: Tensor;
  v: Tensor;
  step: number;
}

/** Optimizer state for one set of parameters (Loshchilov and Hutter 2019, algorithm 2). */
export class AdamW {
  readonly parameters: Parameters;
  readonly options: Required<Omit<AdamWOptions, "emaDecay">>;
  readonly emaDecay: number | undefined;
  /** Moments by parameter name. */
  readonly state = new Map<string, AdamWState>();
  /** Averaged weights by parameter name; parameters only. */
  readonly ema = new Map<string, Tensor>();

  constructor(parameters: Parameters, options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.95, epsilon = 1e-15, weightDecay = 0, emaDecay } = options;
    this.parameters = parameters;
    this.options = { beta1, beta2, epsilon, weightDecay };
    this.emaDecay = emaDecay;
    if (emaDecay === undefined) return;
    for (const [name, tensor] of parameters.entries()) {
      if (!tensor.requiresGrad) continue;
      const copy = Tensor.empty(tensor.gpu, tensor.shape).keep();
      tensor.gpu.copy(tensor.buffer, 0, copy.buffer, 0, 4 * tensor.size);
      this.ema.set(name, copy);
    }
  }

  /**
   * Updates every parameter that has a gradient.
   *
   * @param gradients by parameter tensor, each with the one-element factor it is scaled by
   * @param learningRate of this step
   */
  step(gradients: Map<Tensor, { gradient: Tensor; factor: Tensor }>, learningRate: number): void {
    for (const [name, weight] of this.parameters.entries()) {
      const given = gradients.get(weight);
      if (given) {
        const state = this.#stateOf(name, weight);
        state.step++;
        adamwStep(weight, given.gradient, state.m, state.v, {
          ...this.options,
          learningRate,
          step: state.step,
          gradientScale: given.factor,
        });
      }
      const average = this.ema.get(name);
      if (average && this.emaDecay !== undefined) emaStep(average, weight, this.emaDecay);
    }
  }

  /** Gives moments and averages back. */
  dispose(): void {
    for (const { m, v } of this.state.values()) {
      m.dispose();
      v.dispose();
    }
    for (const tensor of this.ema.values()) tensor.dispose();
  }

  #stateOf(name: string, weight: Tensor): AdamWState {
    let state = this.state.get(name);
    if (!state) {
      const zeros = () => Tensor.zeros(weight.gpu, weight.shape).keep();
      this.state.set(name, state = { m: zeros(), v: zeros(), step: 0 });
    }
    return state;
  }
}
