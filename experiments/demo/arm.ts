// One arm: the same start, the same understanding samples in the same order, with or without a generation
// objective beside them; then every measurement on the trained model.

import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch } from "../../lib/data/pack.ts";
import { Draws } from "../../lib/data/draws.ts";
import type { Sample } from "../../lib/data/sample.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { drawImages } from "../../lib/infer/flow.ts";
import { shiftTimesteps } from "../../lib/model/batch.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { depthSites, imageFeatures, pooled } from "../../lib/study/features.ts";
import { fitDenseProbe, fitLinearProbe } from "../../lib/study/probe.ts";
import { answerAll, type VqaAnswer } from "../../lib/study/vqa.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { type StepRecord, trainLoop } from "../../lib/train/loop.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { learningRateAt, type Schedule } from "../../lib/train/schedule.ts";
import type { Arm, DemoConfig } from "./config.ts";
import type { DemoWorld } from "./world.ts";

/** What an arm saw. */
export interface Budget {
  steps: number;
  understandingImages: number;
  understandingTokens: number;
  answerTokens: number;
  generationImages: number;
  generationTokens: number;
}

/** A probe's value with its interval. */
export interface ProbePoint {
  site: string;
  value: number;
  low: number;
  high: number;
}

/** What an arm drew. */
export interface Drawn {
  pictures: Pixels[];
  /** Pictures whose class is the one asked for. */
  right: boolean[];
  /** The same pictures judged against the prompts of others: the control. */
  rightShuffled: boolean[];
}

/** Everything measured on one arm. */
export interface ArmResult {
  arm: Arm["name"];
  budget: Budget;
  records: StepRecord[];
  answers: VqaAnswer[];
  global: ProbePoint[];
  dense: ProbePoint[];
  drawn?: Drawn;
  /** Wall time of training and of measuring, in seconds. */
  seconds: { train: number; measure: number };
}

/** The objectives of an arm at a step: understanding first, so that arms share its gradients bit by bit. */
export function objectivesOf(
  arm: Arm,
  world: DemoWorld,
  config: DemoConfig,
  step: number,
): Objective[] {
  const objectives: Objective[] = [{
    name: "text",
    inputs: { packed: packBatch(world.understanding(step), world.pack) },
  }];
  if (arm.generates) {
    objectives.push(flowObjective(world.generation(step), arm, world, config, step));
  }
  return objectives;
}

/** The flow objective of some samples; timesteps and noise depend on seed and step alone. */
export function flowObjective(
  samples: Sample[],
  arm: Arm,
  world: DemoWorld,
  config: DemoConfig,
  step: number,
): Objective {
  const draws = new Draws("timestep", config.seed, step);
  const packed = packBatch(samples, { ...world.pack, drawTimestep: () => draws.normal() });
  const latents = encodePixels(packed.vaeImages, world.model);
  return {
    name: "flow",
    inputs: {
      packed,
      latents,
      noise: normalNoise(latents.length, "train", config.seed, step),
      timesteps: shiftTimesteps(packed.timesteps, world.shift),
    },
    ...(arm.blocked ? { blocked: () => true } : {}),
  };
}

/** Trains `model` in place. Stops early, with what it has, when the signal is aborted. */
export async function trainArm(
  model: UniMedVL,
  arm: Arm,
  world: DemoWorld,
  config: DemoConfig,
  options: { signal?: AbortSignal; onStep?: (record: StepRecord) => void | Promise<void> } = {},
): Promise<Pick<ArmResult, "budget" | "records">> {
  const budget: Budget = {
    steps: 0,
    understandingImages: 0,
    understandingTokens: 0,
    answerTokens: 0,
    generationImages: 0,
    generationTokens: 0,
  };
  const records: StepRecord[] = [];
  if (!arm.trained) return { budget, records };
  const optimizer = new AdamW(model.parameters);
  const schedule: Schedule = {
    kind: "linear",
    learningRate: config.learningRate,
    minLearningRate: config.learningRate / 10,
    warmupSteps: Math.min(config.warmup, Math.floor(config.steps / 4)),
    totalSteps: config.steps,
  };
  const loop = trainLoop(model, optimizer, {
    steps: config.steps,
    objectives: (step) => {
      const objectives = objectivesOf(arm, world, config, step);
      count(budget, objectives);
      return objectives;
    },
    learningRate: (step) => learningRateAt(schedule, step + 1), // never a step with rate 0
    clip: { maxNorm: config.maxNorm, over: "objective" },
    ...(options.signal ? { signal: options.signal } : {}),
  });
  for await (const record of loop) {
    records.push(record);
    await options.onStep?.(record);
  }
  optimizer.dispose();
  return { budget, records };
}

function count(budget: Budget, objectives: Objective[]): void {
  budget.steps++;
  for (const { name, inputs: { packed } } of objectives) {
    if (name === "text") {
      budget.understandingImages += packed.vitSeqlens.length;
      budget.understandingTokens += packed.sequenceLength;
      budget.answerTokens += packed.ceLossIndexes.length;
    } else {
      budget.generationImages += packed.splitModes.filter((mode) => mode === "noise").length;
      budget.generationTokens += packed.sequenceLength;
    }
  }
}

/** Asks, probes and draws. */
export async function measureArm(
  model: UniMedVL,
  arm: Arm,
  world: DemoWorld,
  config: DemoConfig,
  options: { signal?: AbortSignal; onStage?: (stage: string) => void } = {},
): Promise<Pick<ArmResult, "answers" | "global" | "dense" | "drawn">> {
  const abort = options.signal ? { signal: options.signal } : {};
  options.onStage?.("asking");
  const answers = await answerAll(model, world.tokenizer, world.tests, world.pack, {
    ...(world.maxWords ? { maxWords: world.maxWords } : {}),
    ...abort,
  });
  options.onStage?.("probing");
  const { global, dense } = await probeArm(model, world, config, abort);
  const result = { answers, global, dense };
  if (arm.trained && !arm.generates) return result; // the start is judged too: what could it draw already?
  options.onStage?.("drawing");
  return { ...result, drawn: await drawArm(model, world, config, abort) };
}

async function probeArm(
  model: UniMedVL,
  world: DemoWorld,
  config: DemoConfig,
  abort: { signal?: AbortSignal },
): Promise<Pick<ArmResult, "global" | "dense">> {
  const { probeImages, probeTargets } = world;
  const features = await imageFeatures(model, probeImages, depthSites(model), world.pack, abort);
  const global: ProbePoint[] = [];
  const dense: ProbePoint[] = [];
  for (const at of features) {
    const { classes, labels, groups } = probeTargets.global;
    const shape = [at.images, at.width] as const;
    const linear = fitLinearProbe(pooled(at), shape, labels, {
      classes,
      seed: config.seed,
      ...(groups ? { groups } : {}),
    });
    const { accuracy, low, high } = linear;
    global.push({ site: at.site, value: accuracy, low, high });
    if (!probeTargets.dense) continue;
    const rows = at.images * at.patches;
    const images = Int32Array.from({ length: rows }, (_, i) => Math.floor(i / at.patches));
    const { auroc } = fitDenseProbe(at.data, [rows, at.width], probeTargets.dense.labels, {
      seed: config.seed,
      images,
    });
    dense.push({ site: at.site, value: auroc.value, low: auroc.low, high: auroc.high });
  }
  return { global, dense };
}

async function drawArm(
  model: UniMedVL,
  world: DemoWorld,
  config: DemoConfig,
  abort: { signal?: AbortSignal },
): Promise<Drawn> {
  const samples = world.drawing.map(({ sample }) => sample);
  const { points } = config.gate;
  const pictures = await drawImages(model, samples, world.pack, {
    points,
    shift: world.shift,
    seed: config.seed,
    ...abort,
  });
  const shown = pictures.map((picture, i) => world.drawing[i].judge(picture));
  const other = new Draws("gate control", config.seed).derangement(shown.length);
  return {
    pictures,
    right: shown.map((label, i) => label === world.drawing[i].wanted),
    rightShuffled: shown.map((label, i) => label === world.drawing[other[i]].wanted),
  };
}
