// What tests of whole trainings share: settings that take a second or two, and what a run left behind.

import type { Gpu } from "../../lib/gpu/device.ts";
import { train, type TrainOptions, type TrainStep } from "../../lib/session/train.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { readManifest } from "../../lib/train/checkpoint/manifest.ts";
import {
  parseConfigFile,
  type ResolvedTrainConfig,
  resolveTrainConfig,
} from "../../lib/train/config/resolve.ts";

/** Two stages of a few steps, two micro-batches a step, nothing held out. */
export const SHORT = {
  extends: "tiny",
  name: "short",
  batch: { samples: 2 },
  accumulate: 2,
  data: { sources: [{ path: "phantoms?count=40" }], workers: 0 },
  stages: [
    stage("first", 4, { t2i: 1, i2t: 2, interleaved: 1, text: 1 }, ["vit.*"]),
    stage("second", 3, { t2i: 1, i2t: 1, interleaved: 0, text: 0 }, []),
  ],
  validate: { every: 0 },
  save: { every: 100, keep: 2 },
};

function stage(name: string, steps: number, mix: Record<string, number>, freeze: string[]) {
  return {
    name,
    steps,
    learningRate: 1e-3,
    schedule: "cosine",
    warmup: 2,
    mix,
    freeze,
    vae: { min: 32, max: 32, stride: 8, maxPixels: 4096 },
    vit: { min: 32, max: 32, stride: 8, maxPixels: 4096 },
    maxTokensPerSample: 256,
    dropout: { text: 0.3, vit: 0.2, vae: 0.2 },
    ema: 0.9,
    timestepShift: 4,
  };
}

/** The short settings, changed by `--set` texts. */
export function shortSettings(...set: string[]): ResolvedTrainConfig {
  return resolveTrainConfig({ file: parseConfigFile(JSON.stringify(SHORT), "short"), set });
}

/** Trains until `stop` says so, then leaves the loop. */
export async function trainUntil(
  gpu: Gpu,
  settings: ResolvedTrainConfig,
  options: TrainOptions,
  stop: (step: TrainStep) => boolean = () => false,
): Promise<TrainStep[]> {
  const steps: TrainStep[] = [];
  for await (const step of train(gpu, settings, options)) {
    steps.push(step);
    if (stop(step)) break;
  }
  return steps;
}

/** Digests of what a run's checkpoint of a step holds, by file; and the rows of metrics that count. */
export async function leftBehind(run: string, step: number) {
  const name = `step-${String(step).padStart(7, "0")}`;
  const { files } = await readManifest(`${run}/checkpoints/${name}`);
  const digests = Object.fromEntries(files.map((file) => [file.name, file.sha256]));
  const { metrics } = readRun(run);
  const rows = Object.fromEntries(
    ["text", "flow", "norm", "learning-rate", "tokens"].map((key) => [key, metrics[key]]),
  );
  return { digests, rows };
}

/** A folder for runs, removed afterwards. */
export async function inFolder(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
