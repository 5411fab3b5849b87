// What a training looks at every now and then: losses on held-out batches that are the same each time (samples,
// timesteps and noise), answers to held-out questions, and drawings of held-out prompts.

import { noGrad } from "../autograd.ts";
import type { LoadedBatch, Loader } from "../data/training/loader.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { denormalize, type Pixels } from "../data/transforms.ts";
import type { Image } from "../data/resize.ts";
import { drawPacked } from "../infer/flow.ts";
import { latentImage } from "../infer/images.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { prepareBatch } from "../model/batch.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { readAll, tidy } from "../tensor.ts";
import { lossTotals, type Objective, objectiveLoss } from "../train/objective.ts";

/** A held-out batch with everything a pass reads. */
export interface HeldOutBatch {
  loaded: LoadedBatch;
  inputs: Objective["inputs"];
}

/** What is held out. */
export interface HeldOut {
  losses: HeldOutBatch[];
  questions: HeldOutBatch[];
  prompts: HeldOutBatch[];
}

/** An answer, token by token as the model would give it. */
export interface HeldOutAnswer {
  /** `source/index` */
  item: string;
  target: string;
  answer: string;
  correct: boolean;
}

/** Tells whether a record is seen for the first time: where few are held out, a loader gives one again. */
function firstTime(): (sample: LoadedBatch["samples"][number]) => boolean {
  const seen = new Set<string>();
  return ({ source, index }) => {
    const size = seen.size;
    return seen.add(`${source}-${index}`).size > size;
  };
}

/** A drawing beside what was held out. */
export interface HeldOutDrawing {
  item: string;
  drawn: Image;
  wanted: Image;
}

/** What a look at the held-out data gives. */
export interface Validation {
  text?: number;
  flow?: number;
  answers: HeldOutAnswer[];
  drawings: HeldOutDrawing[];
  /** True if its loss is the lowest of its stage so far. */
  lowest?: boolean;
}

/** Takes batches until they have `samples` samples. */
export async function takeBatches(
  loader: Loader,
  samples: number,
  prepare: (batch: LoadedBatch) => Promise<Objective["inputs"]>,
): Promise<HeldOutBatch[]> {
  const batches: HeldOutBatch[] = [];
  for (let have = 0; have < samples;) {
    const loaded = await loader.next();
    batches.push({ loaded, inputs: await prepare(loaded) });
    have += loaded.samples.length;
  }
  return batches;
}

/** Means over all predicted tokens of the batches. */
export async function heldOutLosses(
  model: UniMedVL,
  batches: readonly HeldOutBatch[],
  reweightText: boolean,
): Promise<{ text?: number; flow?: number }> {
  const totals = { text: 0, flow: 0 };
  for (const { inputs } of batches) {
    const { text, flow } = lossTotals(inputs.packed, reweightText);
    totals.text += text;
    totals.flow += flow;
  }
  const sums = { text: 0, flow: 0 };
  for (const { inputs } of batches) {
    const losses = tidy(() => {
      const { text, flow } = noGrad(() =>
        objectiveLoss(model, { name: "held out", inputs, reweightText, totals })
      );
      return { ...(text ? { text } : {}), ...(flow ? { flow } : {}) };
    });
    const names = Object.keys(losses) as ("text" | "flow")[];
    const values = await readAll(names.map((name) => losses[name]!));
    names.forEach((name, i) => sums[name] += values[i][0]);
    for (const name of names) losses[name]!.dispose();
  }
  return {
    ...(totals.text > 0 ? { text: sums.text } : {}),
    ...(totals.flow > 0 ? { flow: sums.flow } : {}),
  };
}

/**
 * Answers by the most likely token at every place of the true answer, its end included. All of them right is the
 * same as a greedy answer that equals the true one; a wrong answer is shown up to its first wrong token's end. A
 * record with several questions gives as many answers; one that comes again gives none.
 *
 * @param words entries of the token table that can be said
 */
export async function heldOutAnswers(
  model: UniMedVL,
  tokenizer: Tokenizer,
  batches: readonly HeldOutBatch[],
): Promise<HeldOutAnswer[]> {
  const answers: HeldOutAnswer[] = [];
  const isNew = firstTime();
  for (const { loaded, inputs } of batches) {
    const { packed } = inputs;
    const counts = loaded.samples.map(isNew);
    if (packed.ceLossIndexes.length === 0) continue;
    const logits = tidy(() =>
      noGrad(() => model.forward(prepareBatch(model.gpu, model.config, inputs)).logits!)
    );
    const values = await logits.floats();
    const width = logits.dim(1);
    logits.dispose();
    const places = new Map<number, number[]>(); // rows of the logits by split
    packed.ceLossIndexes.forEach((place, row) => {
      const split = packed.split[place];
      places.set(split, [...places.get(split) ?? [], row]);
    });
    const asked = new Map<number, number>(); // answers so far by sample
    for (const rows of places.values()) {
      const sample = packed.sample[packed.ceLossIndexes[rows[0]]];
      if (!counts[sample]) continue;
      const said = rows.map((row) => mostLikely(values, row * width, tokenizer.size));
      const wanted = rows.map((row) => packed.labelIds[row]);
      const wrong = said.findIndex((id, i) => id !== wanted[i]);
      const shown = (wrong < 0 ? said : said.slice(0, wrong + 1))
        .filter((id) => id !== tokenizer.special.eos);
      const nth = asked.get(sample) ?? 0;
      asked.set(sample, nth + 1);
      const { source, index } = loaded.samples[sample];
      answers.push({
        item: `${source}-${index}/${nth}`,
        target: tokenizer.decode(wanted.slice(0, -1)),
        answer: tokenizer.decode(shown),
        correct: wrong < 0,
      });
    }
  }
  return answers;
}

function mostLikely(values: Float32Array, from: number, count: number): number {
  let best = 0;
  for (let id = 1; id < count; id++) if (values[from + id] > values[from + best]) best = id;
  return best;
}

/** Draws every image that the batches predict, from noise of a fixed seed; those of a record that comes again once. */
export async function heldOutDrawings(
  model: UniMedVL,
  decoder: Autoencoder | undefined,
  batches: readonly HeldOutBatch[],
  options: { shift: number; points?: number; signal?: AbortSignal },
): Promise<HeldOutDrawing[]> {
  const drawings: HeldOutDrawing[] = [];
  const isNew = firstTime();
  for (const { loaded, inputs } of batches) {
    const { packed } = inputs;
    const counts = loaded.samples.map(isNew);
    if (packed.mseRows.length === 0) continue;
    const drawn = await drawPacked(model, packed, inputs.latents!, options);
    const targets = targetsOf(packed);
    for (const [i, { tokens, rows, columns }] of drawn.entries()) {
      const { sample, pixels } = targets[i];
      if (!counts[sample]) continue;
      const image = await latentImage(model, decoder, tokens, rows, columns, options);
      const { source, index } = loaded.samples[sample];
      drawings.push({
        item: `${source}-${index}`,
        drawn: denormalize(image),
        wanted: denormalize(pixels),
      });
    }
  }
  return drawings;
}

/** The images of a batch that are predicted, with the samples they belong to. */
function targetsOf(packed: LoadedBatch["packed"]): { sample: number; pixels: Pixels }[] {
  const predicted = new Set(packed.mseRows);
  const targets: { sample: number; pixels: Pixels }[] = [];
  let row = 0;
  packed.latentShapes.forEach(([h, w], image) => {
    if (predicted.has(row)) {
      const sample = packed.sample[packed.vaeTokenIndexes[row]];
      targets.push({ sample, pixels: packed.vaeImages[image] });
    }
    row += h * w;
  });
  return targets;
}
