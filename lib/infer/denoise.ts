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

/** One finished step. */
export interface DenoiseStep {
  /** From 1. */
  number: number;
  total: number;
  /** Timestep the velocity was taken at. */
  t: number;
  /** Velocity after guidance; and before, by context. */
  velocity: Float32Array;
  main: Float32Array;
  withoutText?: Float32Array;
  withoutImages?: Float32Array;
  /** (rows · columns, latent numbers) after the step. */
  latents: Float32Array;
  /** `x − t·v`: where the image would end if the velocity stayed. */
  preview: () => Float32Array;
}

/** Bytes of activations that contexts drawn together may take; else they are drawn one by one. */
const TOGETHER_BYTES = 2 ** 26;

/**
 * Latents of an image, from noise.
 *
 * @param noise (rows · columns, latent numbers), standard normal
 * @returns (rows · columns, latent numbers)
 * @throws {UsageError} If an option makes no sense
 */
export async function denoise(
  model: UniMedVL,
  special: SpecialIds,
  contexts: DrawContexts,
  noise: Float32Array,
  rows: number,
  columns: number,
  options: DenoiseOptions = {},
): Promise<Float32Array> {
  const guidance = fullGuidance(options);
  const { steps = 50, shift = 3, signal } = options;
  if (!(Number.isInteger(steps) && steps >= 2)) {
    throw new UsageError(`Cannot draw with steps ${steps}`, {
      help: "a whole number from 2 on; 50 points of the time grid are usual",
    });
  }
  if (!(shift > 0)) throw new UsageError(`Cannot draw with shift ${shift}`, { help: "3 is usual" });
  const width = latentSize(model.config);
  const grid = timeGrid(steps, shift);
  const x = noise.slice();
  for (let i = 0; i + 1 < grid.length; i++) {
    signal?.throwIfAborted();
    const [t, next] = [grid[i], grid[i + 1]];
    const used = guidedContexts(contexts, guidedAt(t, guidance), guidance);
    const [v, u, seen] = await velocities(
      model,
      special,
      used,
      { tokens: x, rows, columns, t },
      options,
    );
    const c = seen ?? (options.asReference && u && contexts.withoutImages ? v : undefined);
    const velocity = guide(v, u, c, width, guidance);
    const dt = Math.fround(t - next);
    for (let j = 0; j < x.length; j++) x[j] -= velocity[j] * dt;
    await options.onStep?.({
      number: i + 1,
      total: steps - 1,
      t,
      velocity,
      main: v,
      ...(u ? { withoutText: u } : {}),
      ...(c ? { withoutImages: c } : {}),
      latents: x,
      preview: () => x.map((value, j) => value - next * velocity[j]),
    });
  }
  return x;
}

/**
 * The contexts that a step needs, in the order main, without text, without images. A context equal to the main
 * one adds nothing but cost and a hidden increase of the text scale, so it is left out: without input images
 * the reference's image guidance turns a text scale a into 1 + b (a − 1).
 */
function guidedContexts(
  { main, withoutText, withoutImages }: DrawContexts,
  guided: boolean,
  { textGuidance, imageGuidance }: { textGuidance: number; imageGuidance: number },
): (Context | undefined)[] {
  if (!guided || textGuidance <= 1 || !withoutText || withoutText.equals(main)) return [main];
  const images = imageGuidance > 1 && withoutImages && !withoutImages.equals(main);
  return [main, withoutText, images ? withoutImages : undefined];
}

/** The velocity of each context, together where the activations are small. */
async function velocities(
  model: UniMedVL,
  special: SpecialIds,
  contexts: (Context | undefined)[],
  latents: { tokens: Float32Array; rows: number; columns: number; t: number },
  options: DenoiseOptions,
): Promise<(Float32Array | undefined)[] & { 0: Float32Array }> {
  const block = { kind: "latents" as const, ...latents };
  const readings = contexts.flatMap((context): Reading[] =>
    context ? [{ context, blocks: [block] }] : []
  );
  const tokens = latents.rows * latents.columns;
  const { intermediateSize } = model.config.language;
  const together = 4 * readings.length * tokens * intermediateSize <= TOGETHER_BYTES;
  const found: Float32Array[] = [];
  const turns = together ? [readings] : readings.map((reading) => [reading]);
  for (const [turn, some] of turns.entries()) {
    const hidden = await runPass(model, special, some, {
      keep: false,
      wanted: ["gen"],
      ...(options.signal ? { signal: options.signal } : {}),
      onLayer: (done, total) => options.onPart?.(turn * total + done, turns.length * total),
    });
    const predicted = tidy(() => noGrad(() => model.velocity(hidden.gen!)));
    hidden.gen!.dispose();
    const all = await predicted.floats();
    predicted.dispose();
    const size = all.length / some.length;
    for (let i = 0; i < some.length; i++) found.push(all.subarray(i * size, (i + 1) * size));
  }
  return contexts.map((context) => context ? found.shift() : undefined) as
    & (Float32Array | undefined)[]
    & { 0: Float32Array };
}
