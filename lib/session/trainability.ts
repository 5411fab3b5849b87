// What each stage of a training would train, and which loss it would learn from: found by one backward pass of each
// loss on a real batch.

import type { Task } from "../data/training/record.ts";
import type { Gpu } from "../gpu/device.ts";
import { type Probe, type TrainabilityRow, trainabilityTable } from "../train/trainability.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { closeSources, heldOutLoader, inputsOf, openSources } from "./data.ts";
import { openTrainModel } from "./model.ts";
import { enterStage } from "./stages.ts";

/** Samples of the batch that is looked at: enough for each task of a mix to be among them. */
const SAMPLES = 8;

/** The table of one stage. */
export interface StageTrainability {
  stage: string;
  rows: TrainabilityRow[];
}

/**
 * Opens model and data and runs both losses backward once per stage. Nothing is updated.
 *
 * @throws {ResourceError} If model and activations do not fit the memory budget
 */
export async function probeStages(gpu: Gpu, config: TrainConfig): Promise<StageTrainability[]> {
  const sources = await openSources(config.data.sources);
  const tables: StageTrainability[] = [];
  try {
    const opened = await openTrainModel(gpu, config);
    const { model, autoencoder, adaptersOnly } = opened;
    const may = new Set<string>();
    for (const [name, tensor] of model.parameters.entries()) {
      if (!adaptersOnly || tensor.requiresGrad) may.add(name);
    }
    try {
      for (const stage of config.stages) {
        enterStage(model.parameters, stage, may);
        // Samples of other tasks in the batch would pass zeros to parts that a loss cannot reach.
        const probe = async (tasks: readonly Task[]): Promise<Probe | undefined> => {
          const mix = Object.fromEntries(
            tasks.filter((task) => stage.mix[task] > 0).map((task) => [task, 1]),
          );
          if (Object.keys(mix).length === 0) return undefined;
          const loader = await heldOutLoader(config, stage, sources, opened, mix, SAMPLES);
          try {
            const inputs = await inputsOf(opened, await loader.next(), stage.timestepShift);
            return { inputs, checkpoint: config.activationCheckpointing };
          } finally {
            await loader.close();
          }
        };
        const text = stage.loss.text > 0 ? await probe(["i2t", "text"]) : undefined;
        const flow = stage.loss.flow > 0 ? await probe(["t2i", "interleaved"]) : undefined;
        const probes = { ...(text ? { text } : {}), ...(flow ? { flow } : {}) };
        const rows = trainabilityTable(model, probes, autoencoder?.parameters);
        tables.push({ stage: stage.name, rows });
      }
    } finally {
      opened.dispose();
    }
  } finally {
    closeSources(sources);
  }
  return tables;
}
