// AdamW over named parameters, with an exponential moving average of the weights beside it. Weights, moments and
// averages of many parameters lie side by side and are updated by one launch. State exists only for parameters that
// ever received a gradient, and counts its own steps, as in PyTorch.

import type { Parameters } from "../nn/parameters.ts";
import { adamwStep } from "../ops/adamw_step.ts";
import { emaStep } from "../ops/ema_step.ts";
import { Tensor } from "../tensor.ts";
import { type FlatGradient, type FlatGroup, flatGroups, type Member } from "./flat_group.ts";

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
  readonly m: Tensor;
  readonly v: Tensor;
  step: number;
}

/** Gradients laid out as the optimizer's groups; groups without any are absent. */
export type FlatGradients = Map<FlatGroup, FlatGradient>;

/** What a group is updated with. */
export interface ScaledGradient extends FlatGradient {
  /** (1) what the gradient is scaled by. */
  factor: Tensor;
}

interface Flat {
  weights: Tensor;
  average?: Tensor;
  m?: Tensor;
  v?: Tensor;
}

/** Optimizer state for one set of parameters (Loshchilov and Hutter 2019, algorithm 2). */
export class AdamW {
  readonly parameters: Parameters;
  readonly options: Required<Omit<AdamWOptions, "emaDecay">>;
  readonly emaDecay: number | undefined;
  /** Moments by parameter name. */
  readonly state = new Map<string, AdamWState>();
  /** Averaged weights by parameter name; trainable parameters only. */
  readonly ema = new Map<string, Tensor>();

  readonly #flats = new Map<FlatGroup, Flat>();

  /** Moves the trainable parameters side by side. */
  constructor(parameters: Parameters, options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.95, epsilon = 1e-15, weightDecay = 0, emaDecay } = options;
    this.parameters = parameters;
    this.options = { beta1, beta2, epsilon, weightDecay };
    this.emaDecay = emaDecay;
    const trainable = [...parameters.entries()].filter(([, tensor]) => tensor.requiresGrad);
    for (const group of flatGroups(trainable)) {
      const flat: Flat = { weights: group.gather().keep() };
      this.#flats.set(group, flat);
      if (emaDecay === undefined) continue;
      flat.average = Tensor.empty(group.gpu, [group.size]).keep();
      group.gpu.copy(flat.weights.buffer, 0, flat.average.buffer, 0, 4 * group.size);
      for (const member of group.members) {
        this.ema.set(member.name, group.part(flat.average, member).keep());
      }
    }
  }

  /**
   * Lays gradients out as {@link AdamW.step} takes them, and gives theirs back.
   *
   * @throws {TypeError} If one is of a tensor that was no trainable parameter when the optimizer was made
   */
  collect(gradients: Map<Tensor, Tensor>): FlatGradients {
    const left = new Map(gradients);
    const collected: FlatGradients = new Map();
    for (const group of this.#flats.keys()) {
      const gradient = group.collect(left);
      if (gradient) collected.set(group, gradient);
    }
    const [other] = left.keys();
    if (!other) return collected;
    throw new TypeError(
      `Cannot update a (${
        other.shape.join(", ")
      }) tensor: it was no trainable parameter when the ` +
        "optimizer was made",
    );
  }

  /**
   * Updates every parameter that has a gradient.
   *
   * @param gradients from {@link AdamW.collect}, each with the one-element factor it is scaled by
   * @param learningRate of this step
   */
  step(gradients: Map<FlatGroup, ScaledGradient>, learningRate: number): void {
    for (const [group, flat] of this.#flats) {
      const given = gradients.get(group);
      if (given) this.#update(group, flat, given, learningRate);
      if (flat.average && this.emaDecay !== undefined) {
        emaStep(flat.average, flat.weights, this.emaDecay);
      }
    }
  }

  /** Gives moments and averages back. */
  dispose(): void {
    for (const { m, v } of this.state.values()) {
      m.dispose();
      v.dispose();
    }
    for (const tensor of this.ema.values()) tensor.dispose();
    for (const { weights, average, m, v } of this.#flats.values()) {
      for (const tensor of [weights, average, m, v]) tensor?.dispose();
    }
  }

  #update(group: FlatGroup, flat: Flat, given: ScaledGradient, learningRate: number): void {
    const m = flat.m ??= group.zeros().keep();
    const v = flat.v ??= group.zeros().keep();
    const stepOf = (member: Member) =>
      given.present[member.index] ? this.#stateOf(member, m, v).step + 1 : undefined;
    for (const run of group.runs(stepOf)) {
      const of = (tensor: Tensor) => group.range(tensor, run);
      const members = group.members.slice(run.first, run.last + 1);
      const states = members.map((member) => this.#stateOf(member, m, v));
      for (const state of states) state.step++;
      const parts = [flat.weights, given.flat, m, v].map(of);
      const [w, gradient, mPart, vPart] = parts;
      adamwStep(w, gradient, mPart, vPart, {
        ...this.options,
        learningRate,
        step: states[0].step,
        gradientScale: given.factor,
      });
      for (const part of parts) part.dispose();
    }
  }

  #stateOf(member: Member, m: Tensor, v: Tensor): AdamWState {
    let state = this.state.get(member.name);
    if (!state) {
      const part = (flat: Tensor) => member.group.part(flat, member).keep();
      this.state.set(member.name, state = { m: part(m), v: part(v), step: 0 });
    }
    return state;
  }
}
