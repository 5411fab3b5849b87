// A judge of pictures that knows nothing of the model under training: linear discriminants fitted on
// phantoms, blurred, noisy and blocky copies among them, because that is what young generators draw.

import { InputError } from "../../errors.ts";
import { type Factors, MODALITIES, type Modality, type Shape, SHAPES } from "./factors.ts";
import { blocky, blurred, noisy } from "./damage.ts";
import { Draws } from "../draws.ts";
import { fitDiscriminant } from "./discriminant.ts";
import { type Phantom, phantom, type PhantomOptions } from "./phantom.ts";

/** A verdict: the likeliest label and the log posterior of each, natural logarithm. */
export interface Verdict<Label extends string> {
  label: Label;
  scores: Record<Label, number>;
}

/** Reads the modality of any picture. */
export interface Judge {
  /** Which modality a picture looks like; (size, size, 3) in [-1, 1], size a multiple of 16. */
  modality(image: Float32Array): Verdict<Modality>;
}

/** Reads the organ shape of a picture whose modality is known. */
export interface ShapeJudge {
  /** Which organ shape a picture of this modality shows; image as for `Judge`. */
  shape(image: Float32Array, modality: Modality): Verdict<Shape>;
}

/** The phantoms a judge is fitted on. */
export interface JudgeOptions {
  /** Of the phantoms it is fitted on; default 0. */
  seed?: number;
  /** Phantoms to fit on, at least 320; default 640 for the modality, 1600 for the shape. */
  examples?: number;
  /** Options of these phantoms: size, grey and so on, as in the world to be judged. */
  phantoms?: PhantomOptions;
}

/**
 * Fits the judge of modalities on the split "judge", which no world uses.
 *
 * @throws {InputError} If there are fewer than 320 examples or the size is not a multiple of 16
 */
export function fitJudge(options: JudgeOptions = {}): Judge {
  const fit = new Fit(MODALITIES, 0.05);
  for (const { image, factors, coarse } of lessons({ examples: 640, ...options })) {
    fit.add(lookFeatures(image), factors.modality, coarse);
  }
  const judged = fit.finish();
  return { modality: (image) => judged(lookFeatures(image)) };
}

/**
 * Fits the judge of organ shapes, one discriminant per modality. It needs more phantoms than the other
 * and reads shapes off finished pictures well, off 4 × 4 blocks only roughly.
 *
 * @throws {InputError} As for `fitJudge`
 */
export function fitShapeJudge(options: JudgeOptions = {}): ShapeJudge {
  const fits = MODALITIES.map(() => new Fit(SHAPES, 0.1));
  for (const { image, factors, coarse } of lessons({ examples: 1600, ...options })) {
    fits[MODALITIES.indexOf(factors.modality)].add(outlineFeatures(image), factors.shape, coarse);
  }
  const judged = fits.map((fit) => fit.finish());
  return {
    shape: (image, modality) => judged[MODALITIES.indexOf(modality)](outlineFeatures(image)),
  };
}

/**
 * One discriminant in which every label is two classes, whole pictures and coarse ones of 4 × 4 blocks:
 * the borders between labels then bend, which a single line per pair of labels cannot.
 */
class Fit<Label extends string> {
  readonly #features: Float64Array[] = [];
  readonly #classes: number[] = [];

  constructor(readonly labels: readonly Label[], readonly shrinkage: number) {}

  add(features: Float64Array, label: Label, coarse: boolean) {
    this.#features.push(features);
    this.#classes.push(this.labels.indexOf(label) + (coarse ? this.labels.length : 0));
  }

  finish(): (x: Float64Array) => Verdict<Label> {
    const n = this.labels.length;
    const discriminant = fitDiscriminant(this.#features, this.#classes, 2 * n, this.shrinkage);
    return (x) => {
      const logits = discriminant(x);
      const top = logits.reduce((a, b) => Math.max(a, b));
      const weights = logits.map((z) => Math.exp(z - top));
      const total = Math.log(weights.reduce((a, b) => a + b, 0));
      // Each label's two classes together, in a form that stays finite far from the winner.
      const scores = this.labels.map((_, k) => {
        const high = Math.max(logits[k], logits[k + n]), low = Math.min(logits[k], logits[k + n]);
        return high + Math.log1p(Math.exp(low - high)) - top - total;
      });
      return {
        label: this.labels[scores.indexOf(Math.max(...scores))],
        scores: Object.fromEntries(this.labels.map((l, k) => [l, scores[k]])) as Record<
          Label,
          number
        >,
      };
    };
  }
}

interface Lesson {
  image: Float32Array;
  factors: Factors;
  coarse: boolean;
}

/** Each phantom twice: as it is, and as a young generator might draw it, half of these paler or lifted. */
function* lessons(
  { seed = 0, examples, phantoms = {} }: JudgeOptions & { examples: number },
): Generator<Lesson> {
  if (!Number.isInteger(examples) || examples < 320) {
    throw new InputError(`Cannot fit a judge on ${examples} phantoms`, {
      help: "Give 320 or more",
    });
  }
  for (let n = 0; n < examples; n++) {
    const p = phantom(seed, "judge", n, phantoms);
    const draws = new Draws("judge", seed, n);
    yield { image: p.image, factors: p.factors, coarse: false };
    const kind = KINDS[n % KINDS.length];
    const gain = draws.uniform(0.6, 1.1), lift = draws.uniform(-0.1, 0.1);
    const copy = damaged(p, kind, draws);
    const image = n % 8 < 4 ? copy : copy.map((x) => gain * x + lift);
    yield { image, factors: p.factors, coarse: kind === "blocks" };
  }
}

const KINDS = ["blur", "noise", "tiles", "blocks"] as const;

function damaged({ image, size }: Phantom, kind: typeof KINDS[number], draws: Draws): Float32Array {
  switch (kind) {
    case "blur":
      return blurred(image, draws.uniform(0.5, 1.6) * size / 32);
    case "noise":
      return noisy(image, draws.uniform(0.05, 0.35), draws);
    case "tiles":
      return blocky(image, size / 8);
    case "blocks":
      return blocky(image, size / 4);
  }
}

/** Counts of n labels: rows the truth, columns what the judge said. */
export function confusion(
  pairs: Iterable<readonly [truth: number, said: number]>,
  n: number,
): number[][] {
  const table = Array.from({ length: n }, () => new Array<number>(n).fill(0));
  for (const [truth, said] of pairs) table[truth][said]++;
  return table;
}

/** Means of a grid of 8 × 8 cells per channel, then per-channel mean, deviation and roughness. */
function lookFeatures(image: Float32Array): Float64Array {
  const cells = pooled(image, 8);
  const x = new Float64Array(cells.length + 9);
  x.set(cells);
  const size = Math.sqrt(image.length / 3), area = size * size;
  for (let c = 0; c < 3; c++) {
    let sum = 0, squares = 0, steps = 0;
    for (let i = 0; i < area; i++) {
      const value = image[3 * i + c];
      sum += value;
      squares += value * value;
      if (i % size > 0) steps += Math.abs(value - image[3 * i - 3 + c]);
    }
    const mean = sum / area;
    x[cells.length + 3 * c] = mean;
    x[cells.length + 3 * c + 1] = Math.sqrt(Math.max(0, squares / area - mean * mean));
    x[cells.length + 3 * c + 2] = steps / area;
  }
  return x;
}

/** Mean of the channels on a grid of 16 × 16 cells, brought to mean 0 and deviation 1. */
function outlineFeatures(image: Float32Array): Float64Array {
  const cells = pooled(image, 16);
  const x = Float64Array.from({ length: 256 }, (_, i) => {
    return (cells[3 * i] + cells[3 * i + 1] + cells[3 * i + 2]) / 3;
  });
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  const deviation = Math.sqrt(variance) || 1; // a flat picture stays flat
  return x.map((value) => (value - mean) / deviation);
}

/** (size, size, 3) → (n, n, 3), each the mean over its cell. */
function pooled(image: Float32Array, n: number): Float64Array {
  const size = Math.sqrt(image.length / 3), cell = size / n;
  if (!Number.isInteger(cell) || size % 16 !== 0) {
    throw new InputError(`Cannot judge an image of ${image.length / 3} pixels`, {
      help: "Give a square image whose side is a multiple of 16",
    });
  }
  const means = new Float64Array(n * n * 3);
  for (let row = 0, i = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = 3 * (Math.floor(row / cell) * n + Math.floor(column / cell));
      for (let c = 0; c < 3; c++) means[at + c] += image[i++];
    }
  }
  for (let i = 0; i < means.length; i++) means[i] /= cell * cell;
  return means;
}
