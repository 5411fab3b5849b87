// Trains the weights that every arm of the demo starts from, as the paper's arms all start from BAGEL: a
// model that draws phantoms from captions, and code pictures from the word they stand for, and was never
// asked a question. Its phantoms are of a seed of their own, so no arm meets them again.

import { runCommand } from "../lib/cli/command.ts";
import { normalNoise } from "../lib/data/noise.ts";
import { packBatch, type PackOptions } from "../lib/data/pack.ts";
import { answerCode } from "../lib/data/phantoms/codes.ts";
import { Draws } from "../lib/data/draws.ts";
import { MODALITIES } from "../lib/data/phantoms/factors.ts";
import { phantom } from "../lib/data/phantoms/phantom.ts";
import type { Sample } from "../lib/data/sample.ts";
import { openDevice } from "../lib/gpu/device.ts";
import { shiftTimesteps } from "../lib/model/batch.ts";
import { saveModel, warmStart } from "../lib/model/checkpoint.ts";
import { PRESETS, type UniMedVLConfig } from "../lib/model/config.ts";
import { initModel } from "../lib/model/init.ts";
import { encodePixels } from "../lib/model/latents.ts";
import { terminalProgress } from "../lib/show/progress.ts";
import { AdamW } from "../lib/train/adamw.ts";
import { trainLoop } from "../lib/train/loop.ts";
import type { Objective } from "../lib/train/objective.ts";
import { learningRateAt } from "../lib/train/schedule.ts";
import { checkFolder } from "./demo/check.ts";
import { DEFAULTS, withVocabulary } from "./demo/config.ts";
import { packFor, phantomTokenizer, pixelsOf } from "./demo/world.ts";

const SEED = 20_000; // of the phantoms; arms use seeds below

await runCommand({
  name: "make-init",
  purpose: "Train the common start of the demo's arms.",
  usage: "[flags]",
  flags: {
    steps: { type: "integer", default: 3000, min: 1, unit: "steps", help: "optimizer steps" },
    captions: { type: "integer", default: 24, min: 1, unit: "images", help: "phantoms a step" },
    codes: { type: "integer", default: 6, min: 1, unit: "images", help: "code pictures a step" },
    rate: { type: "number", default: 1.5e-3, help: "largest learning rate" },
    from: { type: "string", unit: "FILE", help: "go on from these weights" },
    out: {
      type: "string",
      default: "experiments/init/tiny.safetensors",
      unit: "FILE",
      help: "where the weights go, as f16",
    },
  },
  examples: [
    ["deno task make-init", "a new common start; results will differ from the log's"],
    ["deno task make-init --steps 100 --out experiments/init/trial.safetensors", "a short trial"],
  ],
}, async ({ flags, signal, print, terminal }) => {
  await checkFolder(flags.out.replace(/[^/]*$/, "") || ".", "experiments/init/");
  const gpu = await openDevice({ budgetBytes: 2 ** 30 });
  const tokenizer = phantomTokenizer();
  const config = withVocabulary(PRESETS.tiny, tokenizer.size);
  const pack = packFor(config, tokenizer);
  const encode = (text: string) => tokenizer.encode(text);
  const model = initModel(gpu, config, SEED);
  if (flags.from) await warmStart(model, flags.from);
  const optimizer = new AdamW(model.parameters);
  const progress = terminalProgress({
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
    terminal,
    now: () => performance.now(),
  });
  const loop = trainLoop(model, optimizer, {
    steps: flags.steps,
    objectives: (step) => [
      flow("draw", captions(step, flags.captions, encode), step, {
        config,
        pack,
        shift: DEFAULTS.shift.natural,
      }),
      flow("code", codes(step, flags.codes, encode), step, {
        config,
        pack,
        shift: DEFAULTS.shift.planted,
      }),
    ],
    learningRate: (step) =>
      learningRateAt({
        kind: "cosine",
        learningRate: flags.rate,
        minLearningRate: flags.rate / 50,
        warmupSteps: Math.min(40, flags.steps / 4),
        totalSteps: flags.steps,
      }, step + 1),
    clip: { maxNorm: 1, over: "objective" },
    signal,
  });
  for await (const { number, metrics } of loop) {
    const fields = { draw: metrics.flow.toFixed(3), code: metrics["code/flow"].toFixed(3) };
    progress.update({ label: "init", step: number, total: flags.steps, fields });
  }
  progress.done();
  signal.throwIfAborted();
  await saveModel(model, flags.out, { dtype: "F16" });
  print(flags.out);
  gpu.close();
});

type Encode = (text: string) => number[];

function captions(step: number, count: number, encode: Encode): Sample[] {
  return Array.from({ length: count }, (_, i) => {
    const { caption, image, size } = phantom(SEED, "init", step * count + i, {
      lesionAmplitude: DEFAULTS.lesionAmplitude,
    });
    return drawing(encode(caption), image, size);
  });
}

function codes(step: number, count: number, encode: Encode): Sample[] {
  const draws = new Draws("init codes", SEED, step);
  return Array.from({ length: count }, () => {
    const modality = draws.pick(MODALITIES);
    const size = PRESETS.tiny.vision.imageSize;
    return drawing(encode(`modality ${modality}`), answerCode(modality, size), size);
  });
}

function drawing(ids: number[], image: Float32Array, size: number): Sample {
  return {
    plan: [
      { type: "text", loss: false, ids },
      { type: "vae_image", loss: true, image: pixelsOf(image, size) },
    ],
  };
}

function flow(
  name: string,
  samples: Sample[],
  step: number,
  { config, pack, shift }: { config: UniMedVLConfig; pack: PackOptions; shift: number },
): Objective {
  const draws = new Draws("init timestep", name, step);
  const packed = packBatch(samples, { ...pack, drawTimestep: () => draws.normal() });
  const latents = encodePixels(packed.vaeImages, config);
  const noise = normalNoise(latents.length, "init", name, step);
  const timesteps = shiftTimesteps(packed.timesteps, shift);
  return { name, inputs: { packed, latents, noise, timesteps } };
}
