// One optimizer step over several micro-batches: their gradients are summed side by side as they come, then
// clipped and applied once. Losses are divided by what the whole window predicts, so how a window is cut into
// micro-batches (or over ranks) changes nothing but rounding.

import type { UniMedVL } from "../model/unimedvl.ts";
import { add } from "../ops/add.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { mul } from "../ops/mul.ts";
import { type Tensor, tidy } from "../tensor.ts";
import type { AdamW, FlatGradients } from "./adamw.ts";
import type { FlatGroup } from "./flat_group.ts";
import { type Objective, runObjective } from "./objective.ts";
import type { ScaledGradient } from "./adamw.ts";
import type { StepMetrics } from "./step.ts";

/** How a window ends. */
export interface WindowEnd {
  learningRate: number;
  /** Largest L2 norm of the whole gradient; absent: no clipping. */
  maxNorm?: number;
  /** `finite` of the step before, when nobody has read it yet: once not a number, no step changes anything. */
  after?: Tensor;
}

/** The micro-batches of one step. */
export class TrainWindow {
  #total: FlatGradients | undefined;
  readonly #losses: { text?: Tensor; flow?: Tensor } = {};

  constructor(readonly model: UniMedVL, readonly optimizer: AdamW) {}

  /**
   * Runs one micro-batch forward and backward and adds its gradients.
   *
   * @param objective its `totals` are the whole window's
   */
  add(objective: Objective): void {
    const { text, flow, total } = tidy(() => {
      const { text, flow, gradients } = runObjective(this.model, objective);
      const total = this.optimizer.accumulate(this.#total, gradients);
      for (const { flat } of total.values()) flat.keep();
      return { text: text?.keep(), flow: flow?.keep(), total };
    });
    this.#total = total;
    this.#sum("text", text);
    this.#sum("flow", flow);
  }

  /** The summed gradients, before clipping: what ranks exchange. */
  get gradients(): FlatGradients {
    return this.#total ?? new Map();
  }

  /** Losses so far, each the window's mean once every micro-batch was added. */
  get losses(): { readonly text?: Tensor; readonly flow?: Tensor } {
    return this.#losses;
  }

  /**
   * Updates the model, or changes nothing if a loss or the gradient is not finite.
   *
   * @returns `text`, `flow`, `norm2` (of the gradient before clipping) and `finite` (1, or not a number), one
   *   element each, kept until disposed
   * @throws {TypeError} If no micro-batch was added
   */
  finish({ learningRate, maxNorm, after }: WindowEnd): StepMetrics {
    const gradients = this.gradients;
    if (gradients.size === 0) throw new TypeError("Cannot finish a step without a gradient");
    const metrics: StepMetrics = new Map();
    for (const name of ["text", "flow"] as const) {
      const loss = this.#losses[name];
      if (loss) metrics.set(name, loss);
    }
    tidy(() => {
      const norm2 = sumSquares([...gradients.values()].map(({ flat }) => flat));
      const checks = [sumSquares([...metrics.values()]), norm2].map((s) => clipScale(s, Infinity));
      const finite = (after ? [after, ...checks] : checks).reduce((a, b) => mul(a, b));
      const factor = maxNorm === undefined ? finite : mul(clipScale(norm2, maxNorm), finite);
      const scaled = new Map<FlatGroup, ScaledGradient>();
      for (const [group, gradient] of gradients) scaled.set(group, { ...gradient, factor });
      this.optimizer.step(scaled, learningRate, finite);
      metrics.set("norm2", norm2.keep());
      metrics.set("finite", finite.keep());
    });
    delete this.#losses.text; // they belong to the caller now
    delete this.#losses.flow;
    this.dispose();
    return metrics;
  }

  /** Gives back what was summed; a window that is left before its end changes nothing. */
  dispose(): void {
    for (const { flat } of this.#total?.values() ?? []) flat.dispose();
    this.#total = undefined;
    for (const name of ["text", "flow"] as const) {
      this.#losses[name]?.dispose();
      delete this.#losses[name];
    }
  }

  #sum(name: "text" | "flow", next: Tensor | undefined): void {
    const before = this.#losses[name];
    if (!next) return;
    if (!before) {
      this.#losses[name] = next;
      return;
    }
    this.#losses[name] = tidy(() => add(before, next)).keep();
    before.dispose();
    next.dispose();
  }
}
