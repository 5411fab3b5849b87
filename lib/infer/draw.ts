// What every verb that draws does: noise from a seed, denoising with progress and previews, pixels.

import { normalNoise } from "../data/noise.ts";
import type { Image } from "../data/resize.ts";
import { TorchGenerator } from "../data/torch_noise.ts";
import { denormalize } from "../data/transforms.ts";
import { UsageError } from "../errors.ts";
import { latentSize } from "../model/config.ts";
import { denoise, type DenoiseOptions, type DenoiseStep, type DrawContexts } from "./denoise.ts";
import { fullGuidance, type Guidance } from "./guidance.ts";
import { latentGrid, latentImage } from "./images.ts";
import type { OpenModel } from "./open_model.ts";
import type { VerbOptions } from "./session.ts";

/** How an image is drawn. */
export interface DrawingOptions extends VerbOptions, Guidance {
  /** Points of the time grid; there is one step less. Default: 50. */
  steps?: number;
  /** Shift of the time grid. Default: 3. */
  shift?: number;
  /** Decides the noise. Default: 42. */
  seed?: number;
  /**
   * Where noise comes from: `torch` draws what the reference draws on the CPU for this seed, so that a seeded
   * picture can be compared; `keyed` gives each image of a batch noise of its own key. Default: torch.
   */
  noise?: "torch" | "keyed";
  /** Guidance on images acts without images too, as in the reference. Default: false. */
  asReference?: boolean;
  /** Called with what the image is about to become, every `previewEvery` steps. */
  onPreview?: (image: Image, step: number, total: number) => void | Promise<void>;
  /** Steps between previews. Default: 5. */
  previewEvery?: number;
}

/** A size in pixels: one side of a square, or width and height. */
export type Size = number | readonly [width: number, height: number];

/** A drawn image. */
export interface Drawn {
  /** (h, w, 3) bytes. */
  image: Image;
  /** Final latents, (rows · columns, latent numbers). */
  latents: Float32Array;
  /** Every option of drawing as it was used. */
  used: Record<string, unknown>;
}

/** Width and height of a size. @throws {UsageError} If the model cannot draw it */
export function sizeOf(open: OpenModel, size: Size): { width: number; height: number } {
  const [width, height] = typeof size === "number" ? [size, size] : size;
  latentGrid(open.model, height, width);
  return { width, height };
}

/** Noise of a verb: one generator for all that it draws, in the reference's order. */
export class NoiseSource {
  readonly #torch: TorchGenerator | undefined;
  #drawn = 0;

  constructor(readonly seed: number, kind: "torch" | "keyed") {
    if (kind !== "torch" && kind !== "keyed") {
      throw new UsageError(`Cannot draw noise "${kind}"`, { help: "there are torch and keyed" });
    }
    if (!(Number.isInteger(seed) && seed >= 0)) {
      throw new UsageError(`Cannot draw with seed ${seed}`, { help: "a whole number from 0" });
    }
    this.#torch = kind === "torch" ? new TorchGenerator(seed) : undefined;
  }

  /** n standard normals, others at every call. */
  next(n: number): Float32Array {
    return this.#torch ? this.#torch.randn(n) : normalNoise(n, "image", this.seed, this.#drawn++);
  }
}

/**
 * Draws images into their contexts, together. Options that are not given are the folder's, if it has some.
 *
 * @param sizes in pixels, of whole latent tokens
 */
export async function drawInto(
  open: OpenModel,
  jobs: readonly { contexts: DrawContexts; width: number; height: number }[],
  noise: NoiseSource,
  given: DrawingOptions,
): Promise<Drawn[]> {
  const options = { ...open.defaults, ...given };
  const { model, special } = open;
  const width = latentSize(model.config);
  const grids = jobs.map((job) => latentGrid(model, job.height, job.width));
  const { signal, onProgress, onPreview, previewEvery = 5 } = options;
  const steps = options.steps ?? 50;
  let finished = 0;
  const denoising: DenoiseOptions = {
    ...fullGuidance(options),
    steps,
    shift: options.shift ?? 3,
    asReference: options.asReference ?? false,
    ...(signal ? { signal } : {}),
    onPart: (done, total) =>
      onProgress?.({ stage: "draw", done: finished + done / total, total: steps - 1 }),
    onStep: async (step) => {
      if (step.image === jobs.length - 1) finished = step.number;
      await showPreview(step);
    },
  };
  async function showPreview({ image, number, total, preview }: DenoiseStep): Promise<void> {
    if (!onPreview || image !== 0 || number % previewEvery !== 0 || number === total) return;
    const { rows, columns } = grids[0];
    const seen = await latentImage(model, open.decoder, preview(), rows, columns, {
      ...(signal ? { signal } : {}),
    });
    await onPreview(denormalize(seen), number, total);
  }
  const noises = grids.map(({ rows, columns }) => noise.next(rows * columns * width));
  const latents = await denoise(
    model,
    special,
    jobs.map(({ contexts }, i) => ({ contexts, noise: noises[i], ...grids[i] })),
    denoising,
  );
  const drawn: Drawn[] = [];
  for (const [i, tokens] of latents.entries()) {
    const { rows, columns } = grids[i];
    const pixels = await latentImage(model, open.decoder, tokens, rows, columns, {
      ...(signal ? { signal } : {}),
      onProgress: (done, total) =>
        onProgress?.({
          stage: "decode",
          done: Math.round(100 * (i + done / total)),
          total: 100 * latents.length,
        }),
    });
    const { signal: _signal, onPart: _part, onStep: _step, ...plain } = denoising;
    drawn.push({
      image: denormalize(pixels),
      latents: tokens,
      used: {
        ...plain,
        seed: noise.seed,
        noise: options.noise ?? "torch",
        width: pixels.width,
        height: pixels.height,
      },
    });
  }
  return drawn;
}
