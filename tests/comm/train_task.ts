// Data-parallel training of the small preset on fixed batches, as one rank of rank_program.ts: every sample's pictures,
// timesteps and noise depend on its number alone, whichever rank and micro-batch it lands in.

import type { Communicator } from "../../lib/comm/communicator.ts";
import { backward } from "../../lib/autograd.ts";
import { normalNoise } from "../../lib/data/noise.ts";
import { packBatch } from "../../lib/data/pack.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { WORD_IDS } from "../../lib/data/words.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { type ModelInputs, prepareBatch, shiftTimesteps } from "../../lib/model/batch.ts";
import { latentSize, PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { encodePixels } from "../../lib/model/latents.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { clipScale, sumSquares } from "../../lib/ops/global_norm.ts";
import { weightedSum } from "../../lib/ops/sum.ts";
import { readAll, Scope, Tensor } from "../../lib/tensor.ts";
import { AdamW, type FlatGradients } from "../../lib/train/adamw.ts";
import {
  addCounts,
  checkSameWeights,
  sumCounts,
  sumSquaresOverRanks,
} from "../../lib/train/ranks.ts";
import { type ExchangeStats, GradientReducer, type ReducedWindow } from "../../lib/train/reduce.ts";
import { Shards } from "../../lib/train/shards.ts";
import { normals } from "../helpers.ts";
import { answer, clean, drawn, picture, seen, smallModel, text } from "../model/small.ts";

/** What to train. */
export interface TrainSettings {
  steps: number;
  /** Samples of a window, over all ranks. */
  samples: number;
  /** Micro-batches per rank and window. */
  micros: number;
  bucketBytes: number;
  sharded: boolean;
  /** Width of the decoder; default the preset's. */
  width?: number;
}

/** What one rank saw. */
export interface TrainResult {
  losses: { text: number; flow: number; norm: number }[];
  stats: ExchangeStats[];
  /** Milliseconds of each step. */
  ms: number[];
  /** Parameters of which this rank's optimizer holds moments. */
  held: number;
  live: number;
}

/** The preset `tiny`, wider if asked. */
export function configOf(width?: number): UniMedVLConfig {
  const { tiny } = PRESETS;
  if (width === undefined) return tiny;
  const language = { ...tiny.language, hiddenSize: width, intermediateSize: 2 * width };
  return { ...tiny, language };
}

function sampleAt(number: number, kind: number): Sample {
  const image = (i: number) => picture(10 * number + i, 32, 32);
  if (kind === 0) return { plan: [seen(image(0)), text(1, 2), answer(3, 4 + number % 5)] };
  if (kind === 1) return { plan: [text(4, 5, number % 7), drawn(image(1))] };
  return { plan: [clean(image(2)), seen(image(2)), text(6), drawn(image(3))] };
}

/** Packs samples by their numbers. */
function inputsOf(
  numbers: readonly number[],
  config: UniMedVLConfig,
  perWindow: number,
): ModelInputs {
  const width = latentSize(config);
  const noise: number[] = [];
  const times: number[] = [];
  const samples = numbers.map((number) => {
    // The second half of a window is text alone: ranks that get it have no gradient for the other expert.
    const sample = sampleAt(number, 2 * (number % perWindow) >= perWindow ? 0 : number % 3);
    const latent = sample.plan.filter(({ type }) => type === "vae_image");
    noise.push(...normalNoise(16 * latent.length * width, "rank test", number));
    times.push(...normals(latent.filter(({ loss }) => loss).length, number));
    return sample;
  });
  let next = 0;
  const packed = packBatch(samples, {
    special: WORD_IDS,
    vitPatch: 8,
    latentPixels: 8,
    vitSide: 4,
    latentSide: 4,
    drawTimestep: () => times[next++],
  });
  if (packed.vaeTokenIndexes.length === 0) return { packed };
  return {
    packed,
    latents: encodePixels(packed.vaeImages, config),
    noise: Float32Array.from(noise),
    timesteps: shiftTimesteps(packed.timesteps, config.timestepShift),
  };
}

/** The rank's micro-batches of step `step`. */
function microsOf(
  communicator: Communicator,
  { samples, micros }: TrainSettings,
  step: number,
  config: UniMedVLConfig,
): ModelInputs[] {
  const { rank, size } = communicator;
  const share = samples / size;
  const per = share / micros;
  return Array.from({ length: micros }, (_, m) => {
    const first = step * samples + rank * share + m * per;
    return inputsOf(Array.from({ length: per }, (_, i) => first + i), config, samples);
  });
}

/** Both losses, divided by the counts of the whole window. */
function lossesOf(
  model: UniMedVL,
  inputs: ModelInputs,
  counts: { textTokens: number; flowTokens: number },
): { text: Tensor; flow: Tensor; roots: Tensor[] } {
  const { gpu } = model;
  const out = model.forward(prepareBatch(gpu, model.config, inputs));
  const share = (loss: Tensor | undefined, count: number) =>
    loss && weightedSum(
      loss,
      Tensor.from(gpu, new Float32Array(loss.size).fill(1 / count), [loss.size]),
    );
  const text = share(out.textLoss, counts.textTokens);
  const flow = share(out.flowLoss, counts.flowTokens);
  const roots = [text, flow].filter((loss) => loss !== undefined);
  const orZero = (loss: Tensor | undefined) => loss?.alias() ?? Tensor.zeros(gpu, [1]);
  return { text: orZero(text), flow: orZero(flow), roots };
}

/** Trains and says what it saw. */
export async function train(
  communicator: Communicator,
  settings: TrainSettings,
): Promise<{ result: TrainResult; model: UniMedVL; gpu: Gpu }> {
  const gpu = await openDevice({ tuned: false });
  const config = configOf(settings.width);
  const model = smallModel(gpu, 1, config);
  const alone = communicator.size === 1;
  const reducer = new GradientReducer(communicator, model.parameters.entries(), {
    bucketBytes: settings.bucketBytes,
    sharded: settings.sharded,
  });
  const shards = settings.sharded && !alone ? new Shards(reducer) : undefined;
  const optimizer = new AdamW(shards ? shards.own(model.parameters) : model.parameters);
  const result: TrainResult = { losses: [], stats: [], ms: [], held: 0, live: 0 };
  for (let step = 0; step < settings.steps; step++) {
    const started = performance.now();
    const micros = microsOf(communicator, settings, step, config);
    const own = addCounts(micros.map(({ packed }) => ({
      textTokens: packed.ceLossIndexes.length,
      textWeight: 0,
      flowTokens: packed.mseLossIndexes.length,
    })));
    const counts = await sumCounts(communicator, own);
    const window = alone ? undefined : reducer.window(micros.length);
    const { gradients, losses } = await gradientsOf(
      model,
      optimizer,
      micros,
      counts,
      window,
      result,
    );
    const scope = new Scope();
    const norm2 = await squares(scope, gradients, shards && communicator, gpu);
    scope.run(() => {
      const factor = clipScale(norm2, 1);
      const scaled = [...gradients].map(([group, gradient]) =>
        [group, { ...gradient, factor }] as const
      );
      optimizer.step(new Map(scaled), 1e-3);
      for (const { flat } of gradients.values()) flat.dispose();
    });
    const [squared] = await norm2.floats();
    norm2.dispose();
    scope.close();
    await shards?.gatherWeights();
    await gpu.settle();
    result.losses.push({ ...losses, norm: Math.sqrt(squared) });
    result.ms.push(performance.now() - started);
    if (step === 0) result.live = gpu.buffers.liveCount;
  }
  result.live = gpu.buffers.liveCount - result.live;
  result.held = optimizer.state.size;
  await checkSameWeights(communicator, model.parameters.entries());
  return { result, model, gpu };
}

/** Gradients of a window: over all ranks through a reducer's window, else of this process. */
async function gradientsOf(
  model: UniMedVL,
  optimizer: AdamW,
  micros: readonly ModelInputs[],
  counts: { textTokens: number; flowTokens: number },
  window: ReducedWindow | undefined,
  result: TrainResult,
): Promise<{ gradients: FlatGradients; losses: { text: number; flow: number } }> {
  const scalars: Tensor[] = [];
  let total: FlatGradients | undefined;
  for (const inputs of micros) {
    const scope = new Scope();
    const { text, flow, roots } = scope.run(() => lossesOf(model, inputs, counts));
    scalars.push(text.keep(), flow.keep());
    if (window) await window.backward(scope, roots);
    else total = scope.run(() => optimizer.accumulate(total, backward(roots)));
    for (const { flat } of total?.values() ?? []) flat.keep();
    scope.close();
  }
  const reduced = await window?.finish(scalars);
  const values = reduced?.scalars ?? (await readAll(scalars)).map(([value]) => value);
  for (const scalar of scalars) scalar.dispose();
  const losses = { text: 0, flow: 0 };
  values.forEach((value, i) => losses[i % 2 === 0 ? "text" : "flow"] += value);
  if (!reduced) return { gradients: total!, losses };
  result.stats.push(reduced.stats);
  return { gradients: optimizer.collect(reduced.gradients), losses };
}

/** Square of the gradients' joint norm, kept by the scope. */
async function squares(
  scope: Scope,
  gradients: FlatGradients,
  sharedBy: Communicator | undefined,
  gpu: Gpu,
): Promise<Tensor> {
  const flats = [...gradients.values()].map(({ flat }) => flat);
  const own = flats.length > 0 ? scope.run(() => sumSquares(flats)) : undefined;
  return sharedBy ? await sumSquaresOverRanks(sharedBy, own, gpu) : own!;
}
