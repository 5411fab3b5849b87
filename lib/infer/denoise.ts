// Drawing an image into contexts: Euler steps from noise along the guided velocity (reference:
// `generate_image`). Nothing is written into the contexts.

import { noGrad } from "../autograd.ts";
import { UsageError } from "../errors.ts";
import { latentSize } from "../model/config.ts";
import type { SpecialIds } from "../data/tokenizer.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { tidy } from "../tensor.ts";
import type { Context } from "./cache.ts";
import { timeGrid } from "./flow.ts";
import { fullGuidance, type Guidance, guide, guidedAt } from "./guidance.ts";
import { type Reading, runPass } from "./pass.ts";

/** What an image is drawn from. */
export interface DrawContexts {
  /** All that was read. */
  main: Context;
  /** What was read before the last text; without it there is no guidance on text. */
  withoutText?: Context;
  /** The texts without the images; without it there is no guidance on images. */
  withoutImages?: Context;
}

/** How an image is drawn. */
export interface DenoiseOptions extends Guidance {
  /** Points of the time grid; there is one step less [num_timesteps]. Default: 50. */
  steps?: number;
  /** Shift of the time grid [timestep_shift]. Default: 3. */
  shift?: number;
  /**
   * Guidance on images acts without images too, as in the reference: there a text scale a is really
   * `1 + b (a − 1)`. Default: false, the scale is what it says.
   */
  asReference?: boolean;
  signal?: AbortSignal;
  /** Called after each step with the latents as they are now and as they would end on a straight path. */
  onStep?: (step: DenoiseStep) => void | Promise<void>;
  /** Called after each layer of each pass: shares of one step that are done. */
  onPart?: (done: number, total: number) => void;
}

/** One finished step of one image. */
export interface DenoiseStep {
  /** From 1. */
  number: number;
  total: number;
  /** Which of the images drawn together, from 0. */
  image: number;
  /** Timestep the velocity was taken at. */
  t: number;
  /** Velocity after guidance; and before, by context. */
  velocity: Float32Array;
  main: Float32Array;
  withoutText?: Float32Array;
  withoutImages?: Float32Array;
  /** (rows · columns, latent numbers) after the step; goes on changing. */
  latents: Float32Array;
  /** `x − t·v`: where the image would end if the velocity stayed. */
  preview: () => Float32Array;
}

/** One image to draw. */
export interface DrawJob {
  contexts: DrawContexts;
  /** (rows · columns, latent numbers), standard normal. */
  noise: Float32Array;
  /** Latent tokens. */
  rows: number;
  columns: number;
}

/** Bytes of activations that contexts drawn together may take; else they are drawn one by one. */
const TOGETHER_BYTES = 2 ** 26;

/**
 * Latents of images, from noise. Images drawn together share the time grid and guidance.
 *
 * @returns for each job (rows · columns, latent numbers)
 * @throws {UsageError} If an option makes no sense
 */
export async function denoise(
  model: UniMedVL,
  special: SpecialIds,
  jobs: readonly DrawJob[],
  options: DenoiseOptions = {},
): Promise<Float32Array[]> {
  const guidance = fullGuidance(options);
  const { steps = 50, shift = 3, signal } = options;
  if (!(Number.isInteger(steps) && steps >= 2)) {
    throw new UsageError(`Cannot draw with steps ${steps}`, {
      help: "a whole number from 2 on; 50 points of the time grid are usual",
    });
  }
  if (!(shift > 0 && Number.isFinite(shift))) {
    throw new UsageError(`Cannot draw with shift ${shift}`, {
      help: "a number above 0; 3 is usual",
    });
  }
  const width = latentSize(model.config);
  const grid = timeGrid(steps, shift);
  const latents = jobs.map(({ noise }) => noise.slice());
  for (let i = 0; i + 1 < grid.length; i++) {
    signal?.throwIfAborted();
    const [t, next] = [grid[i], grid[i + 1]];
    const guided = guidedAt(t, guidance);
    const used = jobs.map(({ contexts }) => guidedContexts(contexts, guided, guidance));
    const found = await velocities(model, special, jobs, used, latents, t, options);
    for (const [image, [v, u, seen]] of found.entries()) {
      const asReference = options.asReference && u && jobs[image].contexts.withoutImages;
      const c = seen ?? (asReference ? v : undefined);
      const velocity = guide(v, u, c, width, guidance);
      const dt = Math.fround(t - next);
      const x = latents[image];
      for (let j = 0; j < x.length; j++) x[j] -= velocity[j] * dt;
      await options.onStep?.({
        number: i + 1,
        total: steps - 1,
        image,
        t,
        velocity,
        main: v,
        ...(u ? { withoutText: u } : {}),
        ...(seen ? { withoutImages: seen } : {}),
        latents: x,
        preview: () => x.map((value, j) => value - next * velocity[j]),
      });
    }
  }
  return latents;
}

/** Main context, that without text, that without images; the last two only where they are needed. */
type Used = [Context, Context | undefined, Context | undefined];

/**
 * The contexts that a step needs. A context equal to the main one adds nothing but cost and a hidden increase
 * of the text scale, so it is left out: without input images the reference's image guidance turns a text
 * scale a into 1 + b (a − 1).
 */
function guidedContexts(
  { main, withoutText, withoutImages }: DrawContexts,
  guided: boolean,
  { textGuidance, imageGuidance }: { textGuidance: number; imageGuidance: number },
): Used {
  if (!guided || textGuidance <= 1 || !withoutText || withoutText.equals(main)) {
    return [main, undefined, undefined];
  }
  const images = imageGuidance > 1 && withoutImages && !withoutImages.equals(main);
  return [main, withoutText, images ? withoutImages : undefined];
}

/** The velocities of every job's contexts, together where the activations are small. */
async function velocities(
  model: UniMedVL,
  special: SpecialIds,
  jobs: readonly DrawJob[],
  used: readonly Used[],
  latents: readonly Float32Array[],
  t: number,
  options: DenoiseOptions,
): Promise<[Float32Array, Float32Array | undefined, Float32Array | undefined][]> {
  const wanted: { job: number; place: number; reading: Reading; rows: number }[] = [];
  for (const [job, contexts] of used.entries()) {
    const { rows, columns } = jobs[job];
    const block = { kind: "latents" as const, tokens: latents[job], rows, columns, t };
    for (const [place, context] of contexts.entries()) {
      if (!context) continue;
      wanted.push({ job, place, reading: { context, blocks: [block] }, rows: rows * columns });
    }
  }
  const { intermediateSize } = model.config.language;
  const tokens = wanted.reduce((n, { rows }) => n + rows, 0);
  const turns = 4 * tokens * intermediateSize <= TOGETHER_BYTES
    ? [wanted]
    : wanted.map((one) => [one]);
  const found = jobs.map((): (Float32Array | undefined)[] => [undefined, undefined, undefined]);
  for (const [turn, some] of turns.entries()) {
    const hidden = await runPass(model, special, some.map(({ reading }) => reading), {
      keep: false,
      wanted: ["gen"],
      ...(options.signal ? { signal: options.signal } : {}),
      onLayer: (done, total) => options.onPart?.(turn * total + done, turns.length * total),
    });
    const predicted = tidy(() => noGrad(() => model.velocity(hidden.gen!)));
    hidden.gen!.dispose();
    const all = await predicted.floats();
    const width = predicted.dim(1);
    predicted.dispose();
    let at = 0;
    for (const { job, place, rows } of some) {
      found[job][place] = all.subarray(at, at += rows * width);
    }
  }
  return found as [Float32Array, Float32Array | undefined, Float32Array | undefined][];
}
