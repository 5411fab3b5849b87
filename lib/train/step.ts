// One optimizer step: gradients of each objective, clipping, update. Nothing is read back here: losses and
// norms stay on the device until somebody wants to see them.

import type { UniMedVL } from "../model/unimedvl.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { mul } from "../ops/mul.ts";
import { scaledSum } from "../ops/scaled_sum.ts";
import { Tensor, tidy } from "../tensor.ts";
import type { AdamW } from "./adamw.ts";
import { type Objective, runObjective } from "./objective.ts";

/** How gradients are clipped. */
export interface Clip {
  /** Largest L2 norm. */
  maxNorm: number;
  /** `objective`: each objective by its own norm; `global`: all by the norm of their sum. */
  over: "objective" | "global";
}

/** One-element tensors by name, such as `text`, `flow`, `flow/norm`; read them with `readAll`. */
export type StepMetrics = Map<string, Tensor>;

interface Scaled {
  gradient: Tensor;
  factor: Tensor;
}

/**
 * Updates the model once.
 *
 * @param objectives each is differentiated on its own; a parameter gets the sum of what reaches it
 * @returns losses before the update (`text` and `flow`; a second objective's as `<objective>/flow`) and
 *   squared gradient norms before clipping (`<objective>/norm2`), kept until disposed
 */
export function trainStep(
  model: UniMedVL,
  optimizer: AdamW,
  objectives: readonly Objective[],
  options: { learningRate: number; clip?: Clip },
): StepMetrics {
  return tidy(() => {
    const { gpu } = model;
    const metrics: StepMetrics = new Map();
    const parts = objectives.map((objective) => {
      const { text, flow, gradients } = runObjective(model, objective);
      for (const [name, loss] of [["text", text], ["flow", flow]] as const) {
        if (loss) metrics.set(metrics.has(name) ? `${objective.name}/${name}` : name, loss);
      }
      const norm2 = sumSquares([...gradients.values()]);
      metrics.set(`${objective.name}/norm2`, norm2);
      return { gradients, norm2 };
    });
    // 1, or not a number if any gradient is not finite: then no weight changes in this step.
    const guard = clipScale(sumSquares(parts.map(({ norm2 }) => norm2)), Infinity);
    const each = options.clip?.over === "objective" ? options.clip : undefined;
    const total = new Map<Tensor, Scaled>();
    for (const { gradients, norm2 } of parts) {
      const factor = each ? mul(clipScale(norm2, each.maxNorm), guard) : guard;
      for (const [weight, gradient] of gradients) join(total, weight, { gradient, factor }, guard);
    }
    if (options.clip?.over === "global") {
      const norm2 = sumSquares([...total.values()].map(({ gradient }) => gradient));
      metrics.set("norm2", norm2);
      const factor = clipScale(norm2, options.clip.maxNorm);
      for (const scaled of total.values()) scaled.factor = factor;
    }
    optimizer.step(total, options.learningRate);
    return metrics;
  });
}

/** Adds a gradient to what a weight already has; the sum is scaled by both factors, then by the guard. */
function join(total: Map<Tensor, Scaled>, weight: Tensor, next: Scaled, guard: Tensor): void {
  const before = total.get(weight);
  if (!before) {
    total.set(weight, next);
    return;
  }
  const gradient = scaledSum(before.gradient, before.factor, next.gradient, next.factor);
  before.gradient.dispose();
  next.gradient.dispose();
  total.set(weight, { gradient, factor: guard });
}
