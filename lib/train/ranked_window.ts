// A window whose micro-batches are spread over several processes: gradients are summed over all of them while backward
// goes on, losses and the norm are those of the whole, so every rank makes the same update.

import type { UniMedVL } from "../model/unimedvl.ts";
import { clipScale, sumSquares } from "../ops/global_norm.ts";
import { mul } from "../ops/mul.ts";
import { Scope, Tensor } from "../tensor.ts";
import type { AdamW, ScaledGradient } from "./adamw.ts";
import type { FlatGroup } from "./flat_group.ts";
import { type LossTotals, type Objective, objectiveLoss } from "./objective.ts";
import { sumSquaresOverRanks } from "./ranks.ts";
import type { ExchangeStats, GradientReducer, ReducedWindow } from "./reduce.ts";
import type { Shards } from "./shards.ts";
import type { StepMetrics } from "./step.ts";
import type { WindowEnd } from "./window.ts";

/** As {@link TrainWindow}, for one of several ranks; every rank adds as many micro-batches. */
export class RankedWindow {
  readonly #window: ReducedWindow;
  readonly #losses: { text: Tensor; flow: Tensor }[] = [];
  #totals: LossTotals = { text: 0, flow: 0 };
  /** What the exchange took, once finished. */
  stats: ExchangeStats | undefined;

  /**
   * @param optimizer of all parameters, or of this rank's share of them
   * @param shards set if each rank updates its share only
   */
  constructor(
    readonly model: UniMedVL,
    readonly optimizer: AdamW,
    private readonly reducer: GradientReducer,
    micros: number,
    private readonly shards?: Shards,
  ) {
    this.#window = reducer.window(micros);
  }

  /** Runs one micro-batch forward and backward; its `totals` are those of all ranks' windows. */
  async add(objective: Objective): Promise<void> {
    const { gpu } = this.model;
    const scope = new Scope();
    try {
      const { text, flow, total } = scope.run(() => objectiveLoss(this.model, objective));
      const orZero = (loss: Tensor | undefined) =>
        scope.run(() => loss?.alias() ?? Tensor.zeros(gpu, [1])).keep();
      this.#losses.push({ text: orZero(text), flow: orZero(flow) });
      this.#totals = objective.totals ?? this.#totals;
      await this.#window.backward(scope, total);
    } finally {
      scope.close();
    }
  }

  /** As {@link TrainWindow.finish}; with shards, every rank has all new weights when it returns. */
  async finish({ learningRate, maxNorm, after }: WindowEnd): Promise<StepMetrics> {
    const { gpu } = this.model;
    const { communicator } = this.reducer;
    const losses = this.#losses.flatMap(({ text, flow }) => [text, flow]);
    const { gradients: reduced, scalars, stats } = await this.#window.finish(losses);
    this.stats = stats;
    const sums = { text: 0, flow: 0 };
    scalars.forEach((value, i) => sums[i % 2 === 0 ? "text" : "flow"] += value);
    const gradients = this.optimizer.collect(reduced);
    const flats = [...gradients.values()].map(({ flat }) => flat);
    const scope = new Scope();
    const metrics: StepMetrics = new Map();
    try {
      const own = scope.run(() => flats.length > 0 ? sumSquares(flats) : undefined);
      const norm2 = this.shards
        ? await sumSquaresOverRanks(communicator, own, gpu)
        : own ?? scope.run(() => Tensor.zeros(gpu, [1]));
      scope.run(() => {
        for (const name of ["text", "flow"] as const) {
          if (this.#totals[name] > 0) metrics.set(name, Tensor.from(gpu, [sums[name]], [1]).keep());
        }
        const checks = [sumSquares([...metrics.values()]), norm2].map((s) =>
          clipScale(s, Infinity)
        );
        const finite = (after ? [after, ...checks] : checks).reduce((a, b) => mul(a, b));
        const factor = maxNorm === undefined ? finite : mul(clipScale(norm2, maxNorm), finite);
        const scaled = new Map<FlatGroup, ScaledGradient>();
        for (const [group, gradient] of gradients) scaled.set(group, { ...gradient, factor });
        this.optimizer.step(scaled, learningRate, finite);
        metrics.set("norm2", norm2.alias().keep());
        metrics.set("finite", finite.keep());
      });
      norm2.dispose();
    } finally {
      for (const flat of flats) flat.dispose();
      scope.close();
    }
    await this.shards?.gatherWeights();
    return metrics;
  }

  /** Gives back what was summed. */
  dispose(): void {
    for (const { text, flow } of this.#losses) {
      text.dispose();
      flow.dispose();
    }
    this.#losses.length = 0;
  }
}
