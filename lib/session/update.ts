// The update of one window: gradients of its batches, added up, and the optimizer's step. Nothing is read back.

import type { LoadedBatch } from "../data/training/loader.ts";
import type { Tensor } from "../tensor.ts";
import type { StageConfig, TrainConfig } from "../train/config/schema.ts";
import type { Objective } from "../train/objective.ts";
import { RankedWindow } from "../train/ranked_window.ts";
import type { StepMetrics } from "../train/step.ts";
import { TrainWindow } from "../train/window.ts";
import { inputsOf } from "./data.ts";
import type { SessionParts } from "./open_session.ts";
import type { WindowTotals } from "./pending_steps.ts";

/** Longest time in which nothing else of this thread runs, beyond one micro-batch, in milliseconds. */
const TURN_EVERY_MS = 100;

/** What one update is made with. */
export interface UpdateOptions {
  config: TrainConfig;
  stage: StageConfig;
  learningRate: number;
  /** Of the window, over all processes. */
  sums: Pick<WindowTotals, "text" | "flow">;
  /** `finite` of the update before, if it was not read back yet: nothing changes if that one changed nothing. */
  after?: Tensor | undefined;
}

/** Makes an update. @returns its numbers, on the device, and what it was made of, for a replay */
export async function update(
  { opened, optimizer, group }: SessionParts,
  batches: readonly LoadedBatch[],
  { config, stage, learningRate, sums, after }: UpdateOptions,
): Promise<{ metrics: StepMetrics; objectives: Objective[] }> {
  const { model } = opened;
  const { loss } = stage;
  const objectives: Objective[] = [];
  for (const batch of batches) {
    objectives.push({
      name: "all",
      inputs: await inputsOf(opened, batch, stage.timestepShift),
      textWeight: loss.text,
      flowWeight: loss.flow,
      reweightText: loss.reweightText,
      totals: { text: sums.text, flow: sums.flow },
      checkpoint: config.activationCheckpointing,
    });
  }
  const window = group
    ? new RankedWindow(model, optimizer, group.reducer, config.accumulate, group.shards)
    : new TrainWindow(model, optimizer);
  const { clip } = config.optimizer;
  try {
    let turned = performance.now();
    for (const objective of objectives) {
      await window.add(objective);
      if (performance.now() - turned < TURN_EVERY_MS) continue;
      await new Promise((resolve) => setTimeout(resolve)); // signals are heard, timers run
      turned = performance.now();
    }
    const metrics = await window.finish({
      learningRate,
      ...(clip === null ? {} : { maxNorm: clip }),
      ...(after ? { after } : {}),
    });
    return { metrics, objectives };
  } finally {
    window.dispose();
  }
}
