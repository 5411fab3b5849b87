// Distribution functions that the statistics need, to near double precision: the regularised
// incomplete beta function, and from it Student's t and the binomial; the normal by its own series.

/** Lanczos coefficients for g = 7, n = 9 (Godfrey 2001); relative error below 1e-14. */
const LANCZOS = [
  0.99999999999980993,
  676.5203681218851,
  -1259.1392167224028,
  771.32342877765313,
  -176.61502916214059,
  12.507343278686905,
  -0.13857109526572012,
  9.9843695780195716e-6,
  1.5056327351493116e-7,
];

/** Natural logarithm of Γ(x), x > 0. */
export function logGamma(x: number): number {
  if (!(x > 0)) throw new RangeError(`Cannot take log Γ of ${x}: not above 0`);
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const z = x - 1;
  let sum = LANCZOS[0];
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i] / (z + i);
  const t = z + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

/**
 * Regularised incomplete beta function `I_x(a, b)`, by its continued fraction (DLMF 8.17.22)
 * evaluated with the modified Lentz method.
 *
 * @param x in [0, 1]
 * @param a above 0
 * @param b above 0
 */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (!(x >= 0 && x <= 1 && a > 0 && b > 0)) {
    throw new RangeError(`Cannot take the incomplete beta function at x ${x}, a ${a}, b ${b}`);
  }
  if (x === 0 || x === 1) return x;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a); // where it converges fast
  const front = Math.exp(
    logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x),
  ) / a;
  const tiny = 1e-300;
  let c = 1;
  let d = 1 / (1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m < 10_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d || tiny);
    c = 1 + even / c || tiny;
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d || tiny);
    c = 1 + odd / c || tiny;
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return front * fraction;
}

/** P(T ≤ t) for Student's t with `df` degrees of freedom. */
export function tCdf(t: number, df: number): number {
  if (!(df > 0)) throw new RangeError(`Cannot use Student's t with ${df} degrees of freedom`);
  const square = t * t;
  // Two forms of one identity: each is exact where the other would subtract nearly equal numbers.
  const tail = square > df
    ? 0.5 * incompleteBeta(df / (df + square), df / 2, 0.5)
    : 0.5 - 0.5 * incompleteBeta(square / (df + square), 0.5, df / 2);
  return t < 0 ? tail : 1 - tail;
}

/**
 * The t with `tCdf(t, df) = p`, by bisection to the last bit.
 *
 * @param p in (0, 1)
 * @param df degrees of freedom, above 0
 */
export function tQuantile(p: number, df: number): number {
  return quantile(p, (t) => tCdf(t, df), `Student's t with ${df} degrees of freedom`);
}

/** P(Z ≤ z) for the standard normal. */
export function normalCdf(z: number): number {
  const x = Math.abs(z);
  if (x > 39) return z < 0 ? 0 : 1;
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  let tail: number;
  if (x < 3) { // Φ(x) − ½ = φ(x) Σ x^(2k+1) / (1·3·5…(2k+1)): all terms positive
    let term = x;
    let sum = x;
    for (let k = 1; term > 1e-17 * sum; k++) sum += term *= (x * x) / (2 * k + 1);
    tail = 0.5 - density * sum;
  } else { // Laplace's continued fraction 1 − Φ(x) = φ(x) / (x + 1/(x + 2/(x + …)))
    let fraction = x;
    for (let k = 200; k >= 1; k--) fraction = x + k / fraction;
    tail = density / fraction;
  }
  return z < 0 ? tail : 1 - tail;
}

/** The z with `normalCdf(z) = p`, p in (0, 1). */
export function normalQuantile(p: number): number {
  return quantile(p, normalCdf, "the normal");
}

/** P(X ≤ k) for X binomial with `n` trials of probability `p`. */
export function binomialCdf(k: number, n: number, p: number): number {
  if (k < 0) return 0;
  if (k >= n) return 1;
  return 1 - incompleteBeta(p, k + 1, n - k);
}

/** Inverts a symmetric distribution function on the lower half, where its tail is precise. */
function quantile(p: number, cdf: (x: number) => number, name: string): number {
  if (!(p > 0 && p < 1)) throw new RangeError(`Cannot take the ${p} quantile of ${name}`);
  if (p > 0.5) return -quantile(1 - p, cdf, name);
  if (p === 0.5) return 0;
  let low = -1;
  while (cdf(low) > p) low *= 2;
  let high = 0;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    if (cdf(middle) < p) low = middle;
    else high = middle;
  }
}
