// The base that is tuned: experiments/tiny, whose vocabulary grows by that of VQA-RAD, trained on phantoms and on chests
// and abdomens together, and kept as a folder.

import { packBatch } from "../../lib/data/pack.ts";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { saveModelFolder } from "../../lib/infer/save_folder.ts";
import { warmStart } from "../../lib/model/checkpoint.ts";
import { initModel } from "../../lib/model/init.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { nameInReference } from "../../lib/model/weights.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { type StepRecord, trainLoop } from "../../lib/train/loop.ts";
import { learningRateAt } from "../../lib/train/schedule.ts";
import { flowObjective } from "../demo/arm.ts";
import { ARMS } from "../demo/config.ts";
import { batches, type FinetuneData } from "./data.ts";

const TINY = new URL("../tiny/model.safetensors", import.meta.url).pathname;

/** Trains the base and writes it to `dir`, weights last. */
export async function makeBase(
  gpu: Gpu,
  data: FinetuneData,
  dir: string,
  steps: number,
  options: { signal: AbortSignal; onStep: (record: StepRecord) => void },
): Promise<void> {
  const { config, demo, phantoms, tokenizer, general, pack } = data;
  const model = await widerTiny(gpu, config, phantoms.tokenizer.size, demo.seed);
  const real = batches(general.train, tokenizer, { count: 8, most: 4, key: ["base"] });
  const optimizer = new AdamW(model.parameters);
  const loop = trainLoop(model, optimizer, {
    steps,
    objectives: (step) => [
      {
        name: "text",
        inputs: {
          packed: packBatch([...phantoms.understanding(step).slice(0, 8), ...real(step)], pack),
        },
      },
      flowObjective(phantoms.generation(step).slice(0, 6), ARMS.joint, phantoms, demo, step),
    ],
    learningRate: (step) =>
      learningRateAt({
        kind: "linear",
        learningRate: 1e-3,
        minLearningRate: 1e-4,
        warmupSteps: Math.min(20, steps >> 2),
        totalSteps: steps,
      }, step + 1),
    clip: { maxNorm: 1, over: "objective" },
    signal: options.signal,
  });
  for await (const record of loop) options.onStep(record);
  options.signal.throwIfAborted();
  optimizer.dispose();
  const draw = { steps: demo.gate.points, shift: phantoms.shift, textGuidance: 1 };
  await saveModelFolder(dir, model, tokenizer, draw);
  model.dispose();
}

/**
 * experiments/tiny with a larger token table; what is new is drawn.
 *
 * @param known entries of tiny's vocabulary, which begin the larger one
 */
export async function widerTiny(
  gpu: Gpu,
  config: UniMedVLConfig,
  known: number,
  seed: number,
): Promise<UniMedVL> {
  const model = initModel(gpu, config, seed);
  await warmStart(model, TINY);
  await takeKnownWords(model, known);
  return model;
}

/** Rows of the token tables that tiny has: special tokens and words of phantoms, under the same ids. */
async function takeKnownWords(model: UniMedVL, known: number): Promise<void> {
  const file = await openSafetensors(TINY);
  try {
    for (const name of ["text.embed.weight", "text.head.weight"]) {
      const table = model.parameters.get(name);
      const values = await table.floats();
      const rows = await file.readFloat32(nameInReference(name));
      values.set(rows.subarray(0, known * table.dim(1)));
      table.write(values);
    }
  } finally {
    file.close();
  }
}
