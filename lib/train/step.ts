// One optimizer step: gradients of each objective, clipping, update. Nothing is read back here: losses and
// norms stay on the device until somebody wants to see them.

import type { UniMedVL } from "../model/unimedvl.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { mul } from "../ops/mul.ts";
import { scaledSum } from "../ops/scaled_sum.ts";
import { Tensor, tidy } from "../tensor.ts";
import type { AdamW, ScaledGradient } from "./adamw.ts";
import type { FlatGroup } from "./flat_group.ts";
import { type Objective, runObjective } from "./objective.ts";

/** How gradients are clipped. */
export interface Clip {
  /** Largest L2 norm. */
  maxNorm: number;
  /** `objective`: each objective by its own norm; `global`: all by the norm of their sum. */
  over: "objective" | "global";
}

/**
 * One-element tensors by name, such as `text`, `flow`, `flow/norm2`; read them with `readAll`. `finite` is 1,
 * or not a number if the step changed nothing because a loss or gradient was not finite.
 */
export type StepMetrics = Map<string, Tensor>;

/** Settings of {@link trainStep}. */
export interface StepOptions {
  learningRate: number;
  clip?: Clip;
  /** `finite` of the step before, when nobody has read it yet: once not a number, no step changes anything. */
  after?: Tensor;
}

/**
 * Updates the model once, or not at all if a loss or gradient is not finite.
 *
 * @param objectives each is differentiated on its own; a parameter gets the sum of what reaches it
 * @returns losses before the update (`text` and `flow`; a second objective's as `<objective>/flow`) and
 *   squared gradient norms before clipping (`<objective>/norm2`), kept until disposed
 */
export function trainStep(
  model: UniMedVL,
  optimizer: AdamW,
  objectives: readonly Objective[],
  options: StepOptions,
): StepMetrics {
  return tidy(() => {
    const metrics: StepMetrics = new Map();
    const losses: Tensor[] = [];
    const parts = objectives.map((objective) => {
      const { text, flow, gradients } = runObjective(model, objective);
      for (const [name, loss] of [["text", text], ["flow", flow]] as const) {
        if (!loss) continue;
        losses.push(loss);
        metrics.set(metrics.has(name) ? `${objective.name}/${name}` : name, loss);
      }
      const collected = optimizer.collect(gradients);
      const norm2 = sumSquares([...collected.values()].map(({ flat }) => flat));
      metrics.set(`${objective.name}/norm2`, norm2);
      return { collected, norm2 };
    });
    // Factors of 1, or not a number if what they are of is not finite: then no weight changes.
    const checks = [sumSquares(losses), ...parts.map(({ norm2 }) => norm2)]
      .map((squares) => clipScale(squares, Infinity));
    const guard = (options.after ? [options.after, ...checks] : checks).reduce((a, b) => mul(a, b));
    metrics.set("finite", guard);
    const each = options.clip?.over === "objective" ? options.clip : undefined;
    const total = new Map<FlatGroup, ScaledGradient>();
    for (const { collected, norm2 } of parts) {
      const factor = each ? mul(clipScale(norm2, each.maxNorm), guard) : guard;
      for (const [group, gradient] of collected) {
        join(total, group, { ...gradient, factor }, guard);
      }
    }
    if (options.clip?.over === "global") {
      const norm2 = sumSquares([...total.values()].map(({ flat }) => flat));
      metrics.set("norm2", norm2);
      const factor = mul(clipScale(norm2, options.clip.maxNorm), guard);
      for (const scaled of total.values()) scaled.factor = factor;
    }
    optimizer.step(total, options.learningRate, guard);
    return metrics;
  });
}

/** Adds gradients to those a group already has; the sum is scaled by both factors, then by the guard. */
function join(
  total: Map<FlatGroup, ScaledGradient>,
  group: FlatGroup,
  next: ScaledGradient,
  guard: Tensor,
): void {
  const before = total.get(group);
  if (!before) {
    total.set(group, next);
    return;
  }
  const flat = scaledSum(before.flat, before.factor, next.flat, next.factor);
  const present = before.present.map((here, i) => here || next.present[i]);
  before.flat.dispose();
  next.flat.dispose();
  total.set(group, { flat, present, factor: guard });
}
