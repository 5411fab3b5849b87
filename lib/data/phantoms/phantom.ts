// A phantom: a small synthetic medical picture of which everything is known. Eight looks share one
// anatomy, so that the same case can be seen in any modality, with and without its lesion.

import { InputError } from "../../errors.ts";
import { type Anatomy, cover, drawAnatomy, maskOf } from "./anatomy.ts";
import { type Canvas, type Look, waves } from "./canvas.ts";
import { Draws } from "../draws.ts";
import {
  type Answered,
  captionOf,
  drawFactors,
  type Factors,
  LESION_COUNT_RATES,
  LESION_RATE,
  type Modality,
  questionsOf,
} from "./factors.ts";
import { cfp, endo, his } from "./looks_colour.ts";
import { ct, cxr, mri, oct, us } from "./looks_grey.ts";

const LOOKS: Record<Modality, Look> = { cfp, cxr, ct, his, mri, oct, us, endo };

/** What a phantom looks like beyond its factors. */
export interface PhantomOptions {
  /** Rows and columns of the image, ≥ 16; default 32. */
  size?: number;
  /** How far lesions stand out, from 0 (invisible) to 1; default 0.8. */
  lesionAmplitude?: number;
  /** Share of phantoms with a lesion, 0 … 1; default 0.6. */
  lesionRate?: number;
  /** Shares of one, two and three lesions among those with any; default 0.75, 0.15, 0.1. */
  lesionCounts?: readonly number[];
  /** Drop the colour: every channel is the luminance. Default false. */
  grey?: boolean;
  /**
   * How much brightness, colour cast and uneven lighting vary between cases, from 0 (as the looks have
   * it) to 1 (hardly two alike), so that few labelled images no longer tell the modalities apart.
   * Default 0.
   */
  disguise?: number;
}

/** One synthetic case. Treat it as read-only: pools hand out the same object again. */
export interface Phantom {
  /** What it was made from; with these three and the options it can be made again. */
  seed: number;
  split: string;
  index: number;
  options: Required<PhantomOptions>;
  factors: Factors;
  anatomy: Anatomy;
  size: number;
  /** (size, size, 3), in [-1, 1], on the 256 levels of an 8-bit image. */
  image: Float32Array;
  /** (size, size), 1 where a lesion is. */
  lesionMask: Uint8Array;
  /** (size, size), 1 where the organ is. */
  organMask: Uint8Array;
  caption: string;
  questions: Answered[];
}

/**
 * Makes phantom `index` of a split. The same arguments give the same bytes, in any order of calls.
 *
 * @param seed of the whole data set, whole and ≥ 0
 * @param split "train", "val", "test" or any other word; splits share nothing
 * @param index of the item, whole and ≥ 0
 * @throws {InputError} If the seed, the index or an option is out of range
 */
export function phantom(
  seed: number,
  split: string,
  index: number,
  options: PhantomOptions = {},
): Phantom {
  const resolved = resolve(options);
  const factors = factorsOf(seed, split, index, resolved);
  const anatomy = drawAnatomy(new Draws("phantom", seed, split, index, "anatomy"), factors);
  return build({ seed, split, index, options: resolved }, factors, anatomy);
}

/**
 * The ground truth of phantom `index`, without drawing it.
 *
 * @throws {InputError} If the seed, the index or an option is out of range
 */
export function phantomFactors(
  seed: number,
  split: string,
  index: number,
  options: PhantomOptions = {},
): Factors {
  return factorsOf(seed, split, index, resolve(options));
}

function factorsOf(
  seed: number,
  split: string,
  index: number,
  { lesionRate, lesionCounts }: Required<PhantomOptions>,
): Factors {
  const draws = new Draws("phantom", seed, split, index, "factors");
  return drawFactors(draws, lesionRate, lesionCounts);
}

/** The same case, same noise, with its lesions gone; a healthy phantom is returned as it is. */
export function withoutLesion(p: Phantom): Phantom {
  if (p.factors.lesion === null) return p;
  return build(p, { ...p.factors, lesion: null }, { ...p.anatomy, lesions: [] });
}

/** The same case as another modality shows it; the noise is that modality's own. */
export function inModality(p: Phantom, modality: Modality): Phantom {
  if (p.factors.modality === modality) return p;
  return build(p, { ...p.factors, modality }, p.anatomy);
}

function build(
  { seed, split, index, options }: Pick<Phantom, "seed" | "split" | "index" | "options">,
  factors: Factors,
  anatomy: Anatomy,
): Phantom {
  const { size } = options;
  const coverage = cover(anatomy, size);
  const rgb = new Float32Array(size * size * 3);
  const canvas: Canvas = {
    ...coverage,
    rgb,
    bright: factors.lesion?.tone === "bright",
    amplitude: options.lesionAmplitude,
  };
  const draws = new Draws("phantom", seed, split, index, "look", factors.modality);
  const paint = LOOKS[factors.modality](canvas, draws);
  for (let row = 0, i = 0; row < size; row++) {
    const v = (2 * row + 1) / size - 1;
    for (let column = 0; column < size; column++, i++) paint((2 * column + 1) / size - 1, v, i);
  }
  if (options.grey) dropColour(rgb);
  if (options.disguise > 0) {
    disguise(rgb, size, options, new Draws("phantom", seed, split, index, "disguise"));
  }
  for (let i = 0; i < rgb.length; i++) {
    rgb[i] = Math.round(255 * Math.min(1, Math.max(0, rgb[i]))) / 127.5 - 1;
  }
  return {
    seed,
    split,
    index,
    options,
    factors,
    anatomy,
    size,
    image: rgb,
    lesionMask: maskOf(coverage.lesion),
    organMask: maskOf(coverage.organ),
    caption: captionOf(factors),
    questions: questionsOf(factors),
  };
}

/** Luminance of ITU-R BT.601, the weights that image libraries use. */
function dropColour(rgb: Float32Array) {
  for (let i = 0; i < rgb.length; i += 3) {
    rgb[i] = rgb[i + 1] = rgb[i + 2] = 0.299 * rgb[i] + 0.587 * rgb[i + 1] + 0.114 * rgb[i + 2];
  }
}

/** x → gain(channel) · light(u, v) · x + lift, with one light per case. */
function disguise(
  rgb: Float32Array,
  size: number,
  { disguise: strength, grey }: Required<PhantomOptions>,
  draws: Draws,
) {
  const light = waves(draws, 2.5);
  const gain = Math.exp(strength * draws.uniform(-0.9, 0.15));
  const cast = [0, 1, 2].map(() => Math.exp(strength * draws.uniform(-0.5, 0.5)));
  const lift = strength * draws.uniform(-0.05, 0.3);
  for (let i = 0; i < size * size; i++) {
    const u = (2 * (i % size) + 1) / size - 1, v = (2 * Math.floor(i / size) + 1) / size - 1;
    const share = gain * (1 + 0.45 * strength * light(u, v));
    for (let c = 0; c < 3; c++) {
      rgb[3 * i + c] = lift + share * (grey ? 1 : cast[c]) * rgb[3 * i + c];
    }
  }
}

function resolve(options: PhantomOptions): Required<PhantomOptions> {
  const { size = 32, lesionAmplitude = 0.8, lesionRate = LESION_RATE, grey = false, disguise = 0 } =
    options;
  const lesionCounts = options.lesionCounts ?? LESION_COUNT_RATES;
  const refuse = (what: string, help: string) => {
    throw new InputError(`Cannot make a phantom: ${what}`, { help });
  };
  if (!Number.isInteger(size) || size < 16) {
    refuse(`size is ${size}`, "Give a whole number of pixels from 16 up");
  }
  if (!(lesionAmplitude >= 0 && lesionAmplitude <= 1)) {
    refuse(`lesionAmplitude is ${lesionAmplitude}`, "Give a number from 0 to 1");
  }
  if (!(disguise >= 0 && disguise <= 1)) {
    refuse(`disguise is ${disguise}`, "Give a number from 0 to 1");
  }
  if (!(lesionRate >= 0 && lesionRate <= 1)) {
    refuse(`lesionRate is ${lesionRate}`, "Give a number from 0 to 1");
  }
  const sum = lesionCounts.reduce((s, rate) => s + rate, 0);
  if (lesionCounts.length !== 3 || !lesionCounts.every((rate) => rate >= 0) || !(sum > 0)) {
    refuse(`lesionCounts is [${lesionCounts}]`, "Give the shares of one, two and three lesions");
  }
  return { size, lesionAmplitude, lesionRate, lesionCounts, grey, disguise };
}

/** An image in [-1, 1] as bytes, for files and the screen: `byte = 127.5 (x + 1)`, cut and rounded. */
export function bytesOf(image: Float32Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    image,
    (x) => Math.round(127.5 * (Math.min(1, Math.max(-1, x)) + 1)),
  );
}

/** (size, size, 3) as (3, size, size), the order in which convolutions read. */
export function planesOf(image: Float32Array): Float32Array {
  const area = image.length / 3;
  const planes = new Float32Array(image.length);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) planes[c * area + i] = image[3 * i + c];
  }
  return planes;
}
