// Descriptive geometry of features: linear CKA (Kornblith et al. 2019) and effective rank (Roy &
// Vetterli 2007). Compare a CKA with that of two seeds of one arm, never with 0.

import { symmetricEigenvalues } from "./symmetric.ts";
import type { Numbers } from "./statistics.ts";

/** Features of the same items, row-major (rows, columns). */
export interface Features {
  data: Numbers;
  /** (N, C) */
  shape: readonly [number, number];
}

/**
 * Linear CKA of two feature sets over the same rows, `‖X̂ᵀŶ‖²_F / (‖X̂ᵀX̂‖_F ‖ŶᵀŶ‖_F)`, columns centred.
 *
 * It is 1 for features equal up to rotation, one common scale and shift. It grows with C/N even for
 * unrelated features; `debiased` replaces each norm by the unbiased HSIC of Song et al. 2012, eq. 5,
 * whose expectation is 0 for unrelated features (single values may be slightly negative).
 *
 * @param x (N, C1)
 * @param y (N, C2)
 * @param options `debiased`: default false; needs N ≥ 4
 * @throws {TypeError} If rows differ or data and shape disagree
 * @throws {RangeError} If one of the two does not vary, or N is too small
 */
export function linearCka(
  x: Features,
  y: Features,
  options: { debiased?: boolean } = {},
): number {
  const { debiased = false } = options;
  const [n] = x.shape;
  if (n !== y.shape[0]) {
    throw new TypeError(`Cannot compare features of ${n} rows with features of ${y.shape[0]} rows`);
  }
  if (n < (debiased ? 4 : 2)) throw new RangeError(`Cannot compute CKA on ${n} rows`);
  const [a, b] = [centred(x), centred(y)];
  const hsic = debiased ? unbiasedHsic : (f: Centred, g: Centred) => crossSquares(f, g);
  const [aa, bb] = [hsic(a, a), hsic(b, b)];
  if (!(aa > 0 && bb > 0)) {
    throw new RangeError(`Cannot compute CKA: self-similarities are ${aa} and ${bb}, not above 0`);
  }
  return hsic(a, b) / Math.sqrt(aa * bb);
}

/**
 * Effective rank `exp(−Σ p_i ln p_i)`, `p_i = σ_i / Σσ` over the singular values σ of the centred
 * features: 1 if they vary along one line, C if equally along all columns.
 *
 * @param features (N, C), min(N, C) up to some hundreds
 * @throws {RangeError} If the features do not vary or are not finite
 */
export function effectiveRank(features: Features): number {
  const { data, rows, columns } = centred(features);
  const byRows = rows < columns; // the smaller Gram matrix has the same nonzero spectrum
  const d = byRows ? rows : columns;
  const gram = new Float64Array(d * d);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      if (byRows) {
        for (let c = 0; c < columns; c++) sum += data[i * columns + c] * data[j * columns + c];
      } else {
        for (let r = 0; r < rows; r++) sum += data[r * columns + i] * data[r * columns + j];
      }
      gram[i * d + j] = sum;
    }
  }
  const values = symmetricEigenvalues(gram, d);
  if (!(values[0] > 0)) throw new RangeError("Cannot take the rank of features that do not vary");
  // An eigenvalue below rounding (σ² < 1e-13 σ₁²) is a zero; its root would not look like one.
  const sigma = values.map((value) => value > 1e-13 * values[0] ? Math.sqrt(value) : 0);
  const total = sigma.reduce((sum, s) => sum + s, 0);
  let entropy = 0;
  for (const s of sigma) if (s > 0) entropy -= (s / total) * Math.log(s / total);
  return Math.exp(entropy);
}

interface Centred {
  data: Float64Array;
  rows: number;
  columns: number;
}

/** Columns minus their means, checked. */
function centred({ data, shape: [rows, columns] }: Features): Centred {
  if (data.length !== rows * columns || data.length === 0) {
    throw new TypeError(`Cannot read features (${rows}, ${columns}): ${data.length} values`);
  }
  const out = Float64Array.from(data);
  for (let c = 0; c < columns; c++) {
    let mean = 0;
    for (let r = 0; r < rows; r++) mean += out[r * columns + c] / rows;
    if (!Number.isFinite(mean)) {
      throw new RangeError(`Cannot use features: column ${c} is not finite`);
    }
    for (let r = 0; r < rows; r++) out[r * columns + c] -= mean;
  }
  return { data: out, rows, columns };
}

/** `‖XᵀY‖²_F`. */
function crossSquares(x: Centred, y: Centred): number {
  const cross = new Float64Array(x.columns * y.columns);
  for (let r = 0; r < x.rows; r++) {
    for (let i = 0; i < x.columns; i++) {
      const value = x.data[r * x.columns + i];
      for (let j = 0; j < y.columns; j++) {
        cross[i * y.columns + j] += value * y.data[r * y.columns + j];
      }
    }
  }
  let squares = 0;
  for (const value of cross) squares += value * value;
  return squares;
}

/**
 * Unbiased HSIC, up to 1/(n(n − 3)), which cancels in CKA: with K̃ = XXᵀ and L̃ = YYᵀ without their
 * diagonals, `tr(K̃L̃) + 1ᵀK̃1·1ᵀL̃1/((n − 1)(n − 2)) − 2/(n − 2)·1ᵀK̃L̃1`; no n×n matrix is formed.
 */
function unbiasedHsic(x: Centred, y: Centred): number {
  const n = x.rows;
  const [dx, dy] = [squaredNorms(x), squaredNorms(y)];
  let trace = crossSquares(x, y);
  let [sumX, sumY, product] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    // Centred rows sum to zero, so row i of K̃·1 is −k_ii.
    trace -= dx[i] * dy[i];
    sumX -= dx[i];
    sumY -= dy[i];
    product += dx[i] * dy[i];
  }
  return trace + (sumX * sumY) / ((n - 1) * (n - 2)) - (2 / (n - 2)) * product;
}

function squaredNorms({ data, rows, columns }: Centred): Float64Array {
  const norms = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) norms[r] += data[r * columns + c] ** 2;
  }
  return norms;
}
