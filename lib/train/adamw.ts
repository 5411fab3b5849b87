// AdamW over named parameters, with an exponential moving average of the weights beside it. Weights, moments and
// averages of many parameters lie side by side and are updated by one launch. State exists only for parameters that
// ever received a gradient, and counts its own steps, as in PyTorch. Of weights stored as bf16 it keeps f32 masters:
// those are updated, and rounded anew into what the model computes with (Micikevicius et al. 2018, §3.1).

import type { Parameters } from "../nn/parameters.ts";
import { adamwStep } from "../ops/adamw_step.ts";
import { emaStep } from "../ops/ema_step.ts";
import { roundBf16 } from "../ops/round_bf16.ts";
import { unpack } from "../ops/unpack.ts";
import { type Shape, Tensor } from "../tensor.ts";
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
  emaDecay?: number | undefined;
}

/** Reads a tensor of {@link AdamW.tensors} back: its values by name. */
export type ReadState = (name: string, shape: Shape) => Promise<Float32Array>;

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

/** Divides the size of every group of halves. */
const WIDEN_COLUMNS = 128;

interface Flat {
  /** What is updated: the weights themselves, or their masters. */
  weights: Tensor;
  /** The model's weights where they are not f32. */
  stored?: Tensor;
  average?: Tensor;
  m?: Tensor;
  v?: Tensor;
}

/** Optimizer state for one set of parameters (Loshchilov and Hutter 2019, algorithm 2). */
export class AdamW {
  readonly parameters: Parameters;
  readonly options: Required<Omit<AdamWOptions, "emaDecay">>;
  /** Moments by parameter name. */
  readonly state = new Map<string, AdamWState>();
  /** Averaged weights by parameter name; trainable parameters only. */
  readonly ema = new Map<string, Tensor>();

  /** What the updates of weights stored as bf16 are made to, by parameter name. */
  readonly masters = new Map<string, Tensor>();

  readonly #flats = new Map<FlatGroup, Flat>();
  #emaDecay: number | undefined;

  /**
   * Moves the parameters that are trainable now side by side. Of these, one whose `requiresGrad` is taken away later is
   * frozen: it gets no gradient, and its weights, moments and count of steps stay until it is given back.
   */
  constructor(parameters: Parameters, options: AdamWOptions = {}) {
    const { beta1 = 0.9, beta2 = 0.95, epsilon = 1e-15, weightDecay = 0, emaDecay } = options;
    this.parameters = parameters;
    this.options = { beta1, beta2, epsilon, weightDecay };
    const trainable = [...parameters.entries()].filter(([, tensor]) => tensor.requiresGrad);
    for (const group of flatGroups(trainable)) {
      const stored = group.gather().keep();
      if (group.dtype === "f32") {
        this.#flats.set(group, { weights: stored });
        continue;
      }
      const weights = widened(stored).keep();
      this.#flats.set(group, { weights, stored });
      for (const member of group.members) {
        this.masters.set(member.name, group.part(weights, member).keep());
      }
    }
    this.emaDecay = emaDecay;
  }

  /** Decay of the weights' moving average; `undefined`: averages stand still, or there are none. */
  get emaDecay(): number | undefined {
    return this.#emaDecay;
  }

  /** The first decay starts averages from the weights as they are. */
  set emaDecay(decay: number | undefined) {
    this.#emaDecay = decay;
    if (decay === undefined) return;
    for (const [group, flat] of this.#flats) {
      if (flat.average) continue;
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
    return this.accumulate(undefined, gradients);
  }

  /**
   * Adds the gradients of one more micro-batch to those of a window, and gives theirs back. Sums are made in the order
   * of the calls; a parameter without a gradient in any of them has none.
   *
   * @param total what the call before returned, changed in place; `undefined` starts a window
   * @returns the sums; a `tidy` scope around the call has to return them too
   * @throws {TypeError} If one is of a tensor that was no trainable parameter when the optimizer was made, or a later
   *   optimizer has taken the parameters over
   */
  accumulate(total: FlatGradients | undefined, gradients: Map<Tensor, Tensor>): FlatGradients {
    const left = new Map(gradients);
    const sums: FlatGradients = total ?? new Map();
    for (const [group, flat] of this.#flats) {
      own(group, flat);
      const sum = sums.get(group);
      if (sum) {
        group.add(sum, left);
        continue;
      }
      const first = group.collect(left);
      if (first) sums.set(group, first);
    }
    const [other] = left.keys();
    if (!other) return sums;
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
   * @param guard (1) if it is not finite, averages stay as they are, as weights do under such a factor
   * @throws {TypeError} If a later optimizer has taken the parameters over
   */
  step(
    gradients: Map<FlatGroup, ScaledGradient>,
    learningRate: number,
    guard?: Tensor,
  ): void {
    for (const [group, flat] of this.#flats) {
      own(group, flat);
      const given = gradients.get(group);
      if (given) {
        this.#update(group, flat, given, learningRate);
        if (flat.stored) roundBf16(flat.weights, flat.stored);
      }
      if (flat.average && this.#emaDecay !== undefined) {
        emaStep(flat.average, flat.weights, this.#emaDecay, guard);
      }
    }
  }

  /** Forgets all moments and counts of steps, as when a stage begins anew; averages stay. */
  reset(): void {
    for (const { m, v } of this.state.values()) {
      m.dispose();
      v.dispose();
    }
    this.state.clear();
    for (const flat of this.#flats.values()) {
      flat.m?.dispose();
      flat.v?.dispose();
      delete flat.m;
      delete flat.v;
    }
  }

  /**
   * All that a checkpoint has to hold beside the weights and {@link AdamW.steps}: `m/<name>` and `v/<name>` of parameters
   * that were ever updated, `ema/<name>` where averages are kept, `master/<name>` of weights stored as bf16. The tensors
   * are f32 and the optimizer's own.
   */
  tensors(): Map<string, Tensor> {
    const out = new Map<string, Tensor>();
    for (const [name, master] of this.masters) out.set(`master/${name}`, master);
    for (const [name, { m, v }] of this.state) {
      out.set(`m/${name}`, m);
      out.set(`v/${name}`, v);
    }
    for (const [name, average] of this.ema) out.set(`ema/${name}`, average);
    return out;
  }

  /** Updates made of each parameter; those never updated are absent. */
  steps(): Record<string, number> {
    return Object.fromEntries([...this.state].map(([name, { step }]) => [name, step]));
  }

  /** Takes back counts of updates that changed nothing: `steps` is what {@link AdamW.steps} said before them. */
  rewind(steps: Readonly<Record<string, number>>): void {
    for (const [name, state] of this.state) {
      if (Object.hasOwn(steps, name)) {
        state.step = steps[name];
        continue;
      }
      state.m.dispose(); // never updated: as if it had no state, its part of the moments being zeros
      state.v.dispose();
      this.state.delete(name);
    }
  }

  /**
   * Takes the state of another optimizer over, bit by bit, whatever this one's was. Averages are read where this
   * optimizer keeps them. Weights stored as bf16 are rounded from their masters; others are not read. If it fails, the state is neither the old nor the new.
   *
   * @param steps from {@link AdamW.steps}
   * @param read gives the values of {@link AdamW.tensors} by name
   * @throws {TypeError} If a parameter was not trainable when this optimizer was made, or has another number of values
   * @throws {RangeError} If a count of steps is no whole number above 0
   */
  async restore(steps: Readonly<Record<string, number>>, read: ReadState): Promise<void> {
    const known = new Set(
      [...this.#flats.keys()].flatMap(({ members }) => members.map((m) => m.name)),
    );
    for (const [name, step] of Object.entries(steps)) {
      if (!known.has(name)) {
        throw new TypeError(
          `Cannot restore the moments of ${name}: it was no trainable parameter when the optimizer was made`,
        );
      }
      if (Number.isInteger(step) && step > 0) continue;
      throw new RangeError(`Cannot restore the moments of ${name}: it has ${step} updates`);
    }
    this.reset();
    for (const [group, flat] of this.#flats) {
      own(group, flat);
      for (const member of group.members) {
        const { name, tensor: { shape } } = member;
        const master = this.masters.get(name);
        if (master) master.write(await read(`master/${name}`, shape));
        const average = this.ema.get(name);
        if (average) average.write(await read(`ema/${name}`, shape));
        if (!Object.hasOwn(steps, name)) continue;
        const state = this.#stateOf(member, ...this.#moments(group, flat));
        state.m.write(await read(`m/${name}`, shape));
        state.v.write(await read(`v/${name}`, shape));
        state.step = steps[name];
      }
      if (flat.stored) roundBf16(flat.weights, flat.stored);
      await group.gpu.settle(); // or the queue holds a copy of everything
    }
  }

  /** Gives moments and averages back. */
  dispose(): void {
    this.reset();
    for (const tensor of [...this.ema.values(), ...this.masters.values()]) tensor.dispose();
    for (const { weights, stored, average } of this.#flats.values()) {
      for (const tensor of [weights, stored, average]) tensor?.dispose();
    }
  }

  #update(group: FlatGroup, flat: Flat, given: ScaledGradient, learningRate: number): void {
    const [m, v] = this.#moments(group, flat);
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

  #moments(group: FlatGroup, flat: Flat): [m: Tensor, v: Tensor] {
    return [flat.m ??= group.zeros().keep(), flat.v ??= group.zeros().keep()];
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

/** @throws {TypeError} If the group's weights are no longer in its memory */
function own(group: FlatGroup, { weights, stored }: Flat): void {
  const gone = group.astray(stored ?? weights);
  if (!gone) return;
  throw new TypeError(
    `Cannot update ${gone.name}: a later optimizer was made over it; go on with that one`,
  );
}

/** bf16 values as f32. */
function widened(halves: Tensor): Tensor {
  const rows = halves.alias([halves.size / WIDEN_COLUMNS, WIDEN_COLUMNS]);
  const wide = unpack(rows);
  const flat = wide.alias([halves.size]);
  for (const t of [rows, wide]) t.dispose();
  return flat;
}
