// Ways to tune a model on a few hundred questions: which weights, at what rate, with or without questions of the kind
// that the base was trained on.

import { packBatch } from "../../lib/data/pack.ts";
import { NumericsError } from "../../lib/errors.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { loadModel } from "../../lib/model/checkpoint.ts";
import { attachLora, type LoraSpec } from "../../lib/model/lora.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { readAll, type Tensor } from "../../lib/tensor.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { trainLoop } from "../../lib/train/loop.ts";
import { learningRateAt } from "../../lib/train/schedule.ts";
import { batches, type FinetuneData, type Split } from "./data.ts";
import { textLoss } from "./measure.ts";

/** One way to tune. */
export interface Arm {
  name: string;
  /** Trains adapters over the base as it is stored, packed or not; otherwise all weights, in f32. */
  lora?: LoraSpec;
  /** The base: as it was trained, or in 4 bits. */
  base: "f16" | "int4";
  learningRate: number;
  /** Share of the images of a batch that are phantoms, chests or abdomens. */
  replay: number;
}

/** What all arms share. */
export interface Course {
  steps: number;
  /** Steps between looks at the validation images. */
  every: number;
  /** Images of a batch, and questions of each. */
  images: number;
  questions: number;
  seed: number;
}

/** A tuned model, as it was at its last step and where its validation loss was lowest. */
export interface Tuned {
  /** Validation loss by step. */
  curve: { step: number; validation: number; train: number }[];
  best: { step: number; values: Float32Array[] };
  last: { step: number; values: Float32Array[] };
  trainable: Tensor[];
  /** Numbers trained. */
  parameters: number;
  secondsPerStep: number;
}

/** Opens the base for an arm, with its adapters. */
export async function openArm(
  gpu: Gpu,
  arm: Arm,
  folders: Record<Arm["base"], string>,
  { config }: FinetuneData,
  seed: number,
): Promise<{ model: UniMedVL; dispose: () => void }> {
  if (!arm.lora) {
    const { model } = await loadModel(gpu, config, `${folders.f16}/model.safetensors`);
    return { model, dispose: () => model.dispose() };
  }
  const open = await openModel(gpu, folders[arm.base]);
  await open.need(["head", "und", "gen", "vit", "latent"]);
  attachLora(open.model, { ...arm.lora, seed });
  return { model: open.model, dispose: () => open.dispose() };
}

/** Trains in place; whoever wants the best weights puts them back with {@link putBack}. */
export async function tune(
  model: UniMedVL,
  arm: Arm,
  data: FinetuneData,
  split: Split,
  course: Course,
  options: { signal: AbortSignal; onStep: (step: number, loss: number) => void },
): Promise<Tuned> {
  const { tokenizer, pack, general, phantoms } = data;
  const { steps, every, images, questions: most, seed } = course;
  const old = Math.round(arm.replay * images);
  const own = batches(split.tune, tokenizer, { count: images - old, most, key: ["own", seed] });
  const real = batches(general.train, tokenizer, { count: old >> 1, most, key: ["old", seed] });
  const samples = (step: number) => [
    ...own(step),
    ...real(step),
    ...phantoms.understanding(seed * steps + step).slice(0, old - (old >> 1)),
  ];
  const trainable = [...model.parameters.entries()].map(([, t]) => t).filter((t) => t.requiresGrad);
  const optimizer = new AdamW(model.parameters);
  const snapshot = async (step: number) => ({
    step,
    values: await readAll(trainable) as Float32Array[],
  });
  const curve: Tuned["curve"] = [];
  let lowest = await textLoss(model, split.validation, data);
  curve.push({ step: 0, validation: lowest, train: await textLoss(model, split.tune, data) });
  let best = await snapshot(0);
  const started = performance.now();
  let looking = 0;
  const loop = trainLoop(model, optimizer, {
    steps,
    objectives: (step) => [{ name: "text", inputs: { packed: packBatch(samples(step), pack) } }],
    learningRate: (step) => {
      const { learningRate } = arm;
      const warmupSteps = Math.min(10, steps >> 2);
      return learningRateAt({ kind: "constant", learningRate, warmupSteps }, step + 1);
    },
    clip: { maxNorm: 1, over: "global" },
    signal: options.signal,
    readEveryMs: 0, // a look at the weights is of the step that was given out last
  });
  for await (const { number, metrics } of loop) {
    options.onStep(number, metrics.text);
    if (number % every !== 0 && number !== steps) continue;
    const began = performance.now();
    const validation = await textLoss(model, split.validation, data);
    if (!Number.isFinite(validation)) {
      throw new NumericsError(`Cannot go on: the validation loss is ${validation} at ${number}`);
    }
    curve.push({ step: number, validation, train: await textLoss(model, split.tune, data) });
    if (validation < lowest) {
      lowest = validation;
      best = await snapshot(number);
    }
    looking += performance.now() - began;
  }
  options.signal.throwIfAborted();
  const seconds = (performance.now() - started - looking) / 1000;
  const last = await snapshot(steps);
  optimizer.dispose();
  return {
    curve,
    best,
    last,
    trainable,
    parameters: trainable.reduce((n, t) => n + t.size, 0),
    secondsPerStep: seconds / steps,
  };
}

/** Gives a tuned model the weights of a step that was kept. */
export function putBack({ trainable }: Tuned, { values }: Tuned["best"]): void {
  trainable.forEach((tensor, i) => tensor.write(values[i]));
}
