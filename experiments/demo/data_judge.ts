// Who says what a drawn picture shows, for real images: a linear discriminant on coarse colours and
// roughness. It never sees the model, nor any image of the test split; how good it is on that split is
// part of the result.

import { blocky, blurred, noisy } from "../../lib/data/phantoms/damage.ts";
import { fitDiscriminant } from "../../lib/data/phantoms/discriminant.ts";
import { Draws } from "../../lib/data/draws.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { interleaved } from "./world.ts";

/** A picture whose class is known. */
export interface Labelled {
  image: Pixels;
  label: number;
}

/** Cells along a side whose mean colours are features. */
const CELLS = 8;
const SHRINKAGE = 0.3;

/**
 * Fits on the pictures as they are and on one blurred, noisy or blocky copy of each, which is how young
 * generators draw.
 *
 * @param examples square, of one size, a multiple of 8; every class occurs
 * @returns the class of a picture, which is cut to [-1, 1] first
 * @throws {RangeError} If a class has no example
 */
export function fitDataJudge(
  examples: readonly Labelled[],
  classes: number,
  seed: number,
): (picture: Pixels) => number {
  const features: Float64Array[] = [];
  const labels: number[] = [];
  examples.forEach(({ image, label }, n) => {
    const picture = interleaved(image);
    const draws = new Draws("data judge", seed, n);
    for (const copy of [picture, damaged(picture, n, draws)]) {
      features.push(featuresOf(copy));
      labels.push(label);
    }
  });
  const discriminant = fitDiscriminant(features, labels, classes, SHRINKAGE);
  return (picture) => {
    const scores = discriminant(featuresOf(interleaved(picture)));
    return scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
  };
}

/** Share of pictures whose class the judge names. */
export function judgeAccuracy(
  judge: (picture: Pixels) => number,
  pictures: readonly Labelled[],
): number {
  return pictures.filter(({ image, label }) => judge(image) === label).length / pictures.length;
}

function damaged(picture: Float32Array, n: number, draws: Draws): Float32Array {
  switch (n % 3) {
    case 0:
      return blurred(picture, draws.uniform(0.5, 1.6));
    case 1:
      return noisy(picture, draws.uniform(0.05, 0.35), draws);
    default:
      return blocky(picture, Math.sqrt(picture.length / 3) / CELLS);
  }
}

/** Mean colours of the cells; then mean, deviation and roughness per channel, and colourfulness. */
function featuresOf(image: Float32Array): Float64Array {
  const size = Math.sqrt(image.length / 3), area = size * size, cell = size / CELLS;
  const cells = 3 * CELLS * CELLS;
  const x = new Float64Array(cells + 10);
  const cut = (i: number) => Math.min(1, Math.max(-1, image[i]));
  for (let i = 0; i < area; i++) {
    const row = Math.floor(i / size), column = i % size;
    const at = 3 * (Math.floor(row / cell) * CELLS + Math.floor(column / cell));
    let low = 1, high = -1;
    for (let c = 0; c < 3; c++) {
      const value = cut(3 * i + c);
      x[at + c] += value / cell ** 2;
      x[cells + c] += value / area;
      x[cells + 3 + c] += value ** 2 / area;
      if (column > 0) x[cells + 6 + c] += Math.abs(value - cut(3 * i - 3 + c)) / area;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    x[cells + 9] += (high - low) / area;
  }
  for (let c = 0; c < 3; c++) {
    x[cells + 3 + c] = Math.sqrt(Math.max(0, x[cells + 3 + c] - x[cells + c] ** 2));
  }
  return x;
}
