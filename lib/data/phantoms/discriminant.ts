// Linear discriminant analysis with a shrunken common covariance (Friedman 1989, with one pooled
// covariance): closed form, no iterations, nothing random.

/** Log of (prior × likelihood) of each class, up to a constant that all classes share. */
export type Discriminant = (x: Float64Array) => Float64Array;

/**
 * Fits Gaussians with one covariance, `Σ = (1 - s) S + s tr(S)/F I` on standardized features.
 *
 * @param examples N feature vectors of length F
 * @param labels N class numbers in [0, classes); every class occurs
 * @param shrinkage s in (0, 1]
 * @throws {RangeError} If a class has no example
 */
export function fitDiscriminant(
  examples: readonly Float64Array[],
  labels: readonly number[],
  classes: number,
  shrinkage: number,
): Discriminant {
  const features = examples[0].length;
  const { mean, scale } = spread(examples);
  const standard = examples.map((x) => x.map((value, f) => (value - mean[f]) / scale[f]));
  const counts = new Float64Array(classes);
  const centres = Array.from({ length: classes }, () => new Float64Array(features));
  standard.forEach((x, n) => {
    counts[labels[n]]++;
    for (let f = 0; f < features; f++) centres[labels[n]][f] += x[f];
  });
  counts.forEach((count, k) => {
    if (count === 0) throw new RangeError(`Cannot fit a discriminant: class ${k} has no example`);
    for (let f = 0; f < features; f++) centres[k][f] /= count;
  });
  const covariance = new Float64Array(features * features); // lower triangle only
  standard.forEach((x, n) => {
    const centre = centres[labels[n]];
    const rest = x.map((value, f) => value - centre[f]);
    for (let f = 0; f < features; f++) {
      const a = rest[f];
      for (let g = 0; g <= f; g++) covariance[f * features + g] += a * rest[g];
    }
  });
  let trace = 0;
  for (let f = 0; f < features; f++) trace += covariance[f * features + f];
  const ridge = shrinkage * trace / features / examples.length;
  for (let i = 0; i < covariance.length; i++) {
    covariance[i] *= (1 - shrinkage) / examples.length;
  }
  for (let f = 0; f < features; f++) covariance[f * features + f] += ridge;
  factorize(covariance, features);
  const weights = centres.map((centre) => solve(covariance, features, centre));
  const biases = centres.map((centre, k) => {
    const half = 0.5 * centre.reduce((sum, value, f) => sum + value * weights[k][f], 0);
    return Math.log(counts[k] / examples.length) - half;
  });
  return (x) =>
    Float64Array.from(weights, (weight, k) => {
      let sum = biases[k];
      for (let f = 0; f < features; f++) sum += weight[f] * (x[f] - mean[f]) / scale[f];
      return sum;
    });
}

function spread(examples: readonly Float64Array[]) {
  const features = examples[0].length;
  const mean = new Float64Array(features), scale = new Float64Array(features);
  for (const x of examples) for (let f = 0; f < features; f++) mean[f] += x[f] / examples.length;
  for (const x of examples) for (let f = 0; f < features; f++) scale[f] += (x[f] - mean[f]) ** 2;
  // A feature that never varies is kept from dividing by zero; its weight comes out as zero.
  for (let f = 0; f < features; f++) scale[f] = Math.sqrt(scale[f] / examples.length) || 1;
  return { mean, scale };
}

/** Cholesky factor in place, of the lower triangle of a positive definite (n, n). */
function factorize(a: Float64Array, n: number) {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i === j ? Math.sqrt(sum) : sum / a[j * n + j];
    }
  }
}

/** Solves `L Lᵀ x = b`. */
function solve(factor: Float64Array, n: number, b: Float64Array): Float64Array {
  const x = Float64Array.from(b);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= factor[i * n + k] * x[k];
    x[i] /= factor[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= factor[k * n + i] * x[k];
    x[i] /= factor[i * n + i];
  }
  return x;
}
