// Ridge regression from sums: each part's Σx, Σxxᵀ, Σxy is taken once, and every fit and validation
// error of every fold and ridge strength follows from them without another pass over the rows.

import type { Round } from "./probe_parts.ts";
import type { Numbers } from "./statistics.ts";
import { cholesky, choleskySolve } from "./symmetric.ts";

/** Regression targets, read by row and column. */
export interface Targets {
  /** K */
  columns: number;
  at(row: number, column: number): number;
}

/** Sums over the rows of each part, of features shifted by their overall mean (for precision only). */
export interface Moments {
  rows: number;
  /** C */
  width: number;
  /** (N, C) shifted features. */
  shifted: Float64Array;
  /** Part of each row. */
  of: Int32Array;
  parts: { count: number; x: Float64Array; xx: Float64Array }[];
  /** Per column, the squared size below which a variance is rounding: the column is constant. */
  noise: Float64Array;
}

/** One fitted round. */
export interface Fit {
  /** Part held out. */
  test: number;
  /** Chosen strength, relative to the number of fitted rows. */
  ridge: number;
  /** Mean of each target over the fitted rows. */
  targetMeans: Float64Array;
  /** Standard deviation of the first target's prediction over the fitted rows. */
  spread: number;
  /** Predictions (K) for one row; the array is reused by the next call. */
  predict(row: number): Float64Array;
}

/**
 * Sums of the features per part.
 *
 * The shift does not leak: a ridge fit on standardised columns does not depend on it.
 *
 * @param features (N, C) row-major
 * @throws {TypeError} If features and shape disagree
 * @throws {RangeError} If a feature is not finite
 */
export function moments(
  features: Numbers,
  [rows, width]: readonly [number, number],
  of: Int32Array,
  partCount: number,
): Moments {
  if (features.length !== rows * width || features.length === 0) {
    throw new TypeError(`Cannot fit a probe on (${rows}, ${width}): ${features.length} features`);
  }
  const shifted = Float64Array.from(features);
  const means = new Float64Array(width);
  const noise = new Float64Array(width);
  for (let i = 0; i < shifted.length; i++) {
    if (!Number.isFinite(shifted[i])) {
      throw new RangeError(
        `Cannot fit a probe: feature ${i % width} of row ${Math.floor(i / width)} is ${shifted[i]}`,
      );
    }
    means[i % width] += shifted[i] / rows;
    noise[i % width] = Math.max(noise[i % width], 1e-14 * shifted[i] ** 2);
  }
  for (let i = 0; i < shifted.length; i++) shifted[i] -= means[i % width];

  const parts = Array.from({ length: partCount }, () => ({
    count: 0,
    x: new Float64Array(width),
    xx: new Float64Array(width * width),
  }));
  for (let row = 0; row < rows; row++) {
    const part = parts[of[row]];
    const x = shifted.subarray(row * width, (row + 1) * width);
    part.count += 1;
    for (let i = 0; i < width; i++) {
      const value = x[i];
      part.x[i] += value;
      for (let j = 0, at = i * width; j <= i; j++, at++) part.xx[at] += value * x[j];
    }
  }
  return { rows, width, shifted, of, parts, noise };
}

/** Sums over a set of parts, with targets: what one fit or one error needs. */
interface Sums {
  count: number;
  x: Float64Array;
  /** Lower triangle. */
  xx: Float64Array;
  y: Float64Array;
  /** (C, K) */
  xy: Float64Array;
  /** Σ y² over rows and columns. */
  yy: number;
}

/**
 * Fits every round: for each strength, train → squared error on validation; the smallest error (the
 * first of equals) is refitted on train and validation together.
 *
 * @param ridges strengths relative to the number of fitted rows, strongest first
 */
export function* crossFit(
  data: Moments,
  targets: Targets,
  rounds: readonly Round[],
  ridges: readonly number[],
): Generator<Fit> {
  const { width } = data;
  const K = targets.columns;
  const parts = withTargets(data, targets);
  const out = new Float64Array(K);

  for (const round of rounds) {
    const train = total(round.train.map((part) => parts[part]));
    let best = { error: Infinity, ridge: ridges[0] };
    const validation = parts[round.validation];
    for (const ridge of ridges) {
      const error = squaredError(fitRidge(train, width, K, ridge, data.noise), validation);
      if (error < best.error) best = { error, ridge };
    }
    const fitted = total([train, validation]);
    const line = fitRidge(fitted, width, K, best.ridge, data.noise);
    yield {
      test: round.test,
      ridge: best.ridge,
      targetMeans: fitted.y.map((sum) => sum / fitted.count),
      spread: predictionSpread(line, fitted),
      predict(row) {
        out.set(line.bias);
        for (let i = 0, at = row * width; i < width; i++, at++) {
          const x = data.shifted[at];
          for (let k = 0; k < K; k++) out[k] += x * line.weight[i * K + k];
        }
        return out;
      },
    };
  }
}

/** y = xW + b for shifted features. */
interface Line {
  /** (C, K) */
  weight: Float64Array;
  /** (K) */
  bias: Float64Array;
}

/** Ridge on columns standardised by these sums; a constant column gets weight 0. */
function fitRidge(sums: Sums, width: number, K: number, ridge: number, noise: Float64Array): Line {
  const { count, x, xx, y, xy } = sums;
  const scale = new Float64Array(width); // 1 / standard deviation
  for (let i = 0; i < width; i++) {
    const variance = xx[i * width + i] / count - (x[i] / count) ** 2;
    if (variance > noise[i]) scale[i] = 1 / Math.sqrt(variance);
  }
  const gram = new Float64Array(width * width);
  const weight = new Float64Array(width * K);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j <= i; j++) {
      const centred = xx[i * width + j] - (x[i] * x[j]) / count;
      gram[i * width + j] = centred * scale[i] * scale[j];
    }
    gram[i * width + i] += ridge * count;
    for (let k = 0; k < K; k++) {
      weight[i * K + k] = (xy[i * K + k] - (x[i] * y[k]) / count) * scale[i];
    }
  }
  choleskySolve(cholesky(gram, width), width, weight, K);
  const bias = y.map((sum) => sum / count);
  for (let i = 0; i < width; i++) {
    for (let k = 0; k < K; k++) {
      weight[i * K + k] *= scale[i];
      bias[k] -= (weight[i * K + k] * x[i]) / count;
    }
  }
  return { weight, bias };
}

/** Σ (y − xW − b)², expanded so that only sums are needed. */
function squaredError({ weight, bias }: Line, sums: Sums): number {
  const [width, K] = [sums.x.length, bias.length];
  let error = sums.yy;
  for (let k = 0; k < K; k++) {
    error += sums.count * bias[k] ** 2 - 2 * bias[k] * sums.y[k];
    for (let i = 0; i < width; i++) {
      const w = weight[i * K + k];
      error += 2 * w * (bias[k] * sums.x[i] - sums.xy[i * K + k]);
    }
    error += quadratic(weight, k, K, sums.xx, width);
  }
  return error;
}

/** Standard deviation of column 0 of xW over the rows of the sums. */
function predictionSpread({ weight, bias }: Line, sums: Sums): number {
  const [width, K] = [sums.x.length, bias.length];
  let shift = 0;
  for (let i = 0; i < width; i++) shift += weight[i * K] * sums.x[i];
  const variance = quadratic(weight, 0, K, sums.xx, width) / sums.count -
    (shift / sums.count) ** 2;
  return Math.sqrt(Math.max(0, variance));
}

/** wᵀ S w for column k of the weight, S given by its lower triangle. */
function quadratic(weight: Float64Array, k: number, K: number, s: Float64Array, width: number) {
  let sum = 0;
  for (let i = 0; i < width; i++) {
    const wi = weight[i * K + k];
    let inner = 0.5 * wi * s[i * width + i];
    for (let j = 0; j < i; j++) inner += weight[j * K + k] * s[i * width + j];
    sum += 2 * wi * inner;
  }
  return sum;
}

/** The sums of each part together with those of the targets. */
function withTargets(data: Moments, targets: Targets): Sums[] {
  const { width, shifted, of } = data;
  const K = targets.columns;
  const sums = data.parts.map((part) => ({
    ...part,
    y: new Float64Array(K),
    xy: new Float64Array(width * K),
    yy: 0,
  }));
  for (let row = 0; row < data.rows; row++) {
    const part = sums[of[row]];
    for (let k = 0; k < K; k++) {
      const value = targets.at(row, k);
      if (value === 0) continue;
      part.y[k] += value;
      part.yy += value * value;
      for (let i = 0, at = row * width; i < width; i++, at++) {
        part.xy[i * K + k] += value * shifted[at];
      }
    }
  }
  return sums;
}

function total(list: readonly Sums[]): Sums {
  const add = (pick: (sums: Sums) => Float64Array) => {
    const out = pick(list[0]).slice();
    for (const sums of list.slice(1)) pick(sums).forEach((value, i) => out[i] += value);
    return out;
  };
  return {
    count: list.reduce((n, sums) => n + sums.count, 0),
    x: add((sums) => sums.x),
    xx: add((sums) => sums.xx),
    y: add((sums) => sums.y),
    xy: add((sums) => sums.xy),
    yy: list.reduce((n, sums) => n + sums.yy, 0),
  };
}
