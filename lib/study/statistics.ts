// Statistics of a study: means and proportions with intervals, and the paired tests that its claims
// rest on. Everything is exact or seeded; n and the method are always stated by the caller's text.

import { binomialCdf, normalQuantile, tQuantile } from "./distributions.ts";
import { seededRandom } from "./random.ts";

/** A lower and an upper bound. */
export interface Interval {
  low: number;
  high: number;
}

/** Numbers in any list-like form. */
export type Numbers = ArrayLike<number>;

/** The group of each item (its image, its patient): items of one group are not independent. */
export type Groups = ArrayLike<number | string>;

/** Arithmetic mean. */
export function mean(values: Numbers): number {
  if (values.length === 0) throw new RangeError("Cannot take the mean of no values");
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** Sample standard deviation, `√(Σ(x − x̄)² / (n − 1))`; needs two values. */
export function sd(values: Numbers): number {
  if (values.length < 2) {
    throw new RangeError(`Cannot take a standard deviation of ${values.length} value(s)`);
  }
  const centre = mean(values);
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i] - centre) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

/**
 * Student's interval for a mean, `x̄ ± t(1 − (1 − level)/2, n − 1) · s/√n`.
 *
 * @param values at least two, independent
 * @param level coverage, default 0.95
 */
export function tInterval(values: Numbers, level = 0.95): Interval {
  checkLevel(level);
  const half = tQuantile(0.5 + level / 2, values.length - 1) * sd(values) /
    Math.sqrt(values.length);
  const centre = mean(values);
  return { low: centre - half, high: centre + half };
}

/**
 * Wilson's score interval for a proportion (Wilson 1927): inside [0, 1], and not empty at 0 or n.
 *
 * @param successes from 0 to n; need not be whole (an effective count may be passed)
 * @param n trials, above 0
 */
export function wilsonInterval(successes: number, n: number, level = 0.95): Interval {
  checkLevel(level);
  if (!(n > 0 && successes >= 0 && successes <= n)) {
    throw new RangeError(`Cannot take an interval for ${successes} of ${n}`);
  }
  const z2 = normalQuantile(0.5 + level / 2) ** 2;
  const p = successes / n;
  const centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = Math.sqrt(z2 * ((p * (1 - p)) / n + z2 / (4 * n * n))) / (1 + z2 / n);
  // The bound at 0 or n is exactly 0 or 1; rounding must not push it past.
  return {
    low: successes === 0 ? 0 : Math.max(0, centre - half),
    high: successes === n ? 1 : Math.min(1, centre + half),
  };
}

/**
 * Wilson's interval for an accuracy whose items come in groups (questions of one image): n is divided
 * by the design effect, the ratio of the between-group variance of the mean to `p(1 − p)/n`, at least 1.
 * With all items right or all wrong that ratio is unknown and the number of groups stands for n.
 *
 * @param correct 0 or 1 per item
 * @param groups the group of each item; without it items count as independent
 */
export function accuracyInterval(
  correct: Numbers,
  groups?: Groups,
  level = 0.95,
): Interval & { value: number; n: number; effectiveN: number } {
  const n = correct.length;
  const p = mean(correct);
  let effectiveN = n;
  if (groups !== undefined) {
    checkPaired("an accuracy over groups", correct, groups);
    const residuals = new Map<number | string, number>();
    for (let i = 0; i < n; i++) {
      residuals.set(groups[i], (residuals.get(groups[i]) ?? 0) + correct[i] - p);
    }
    const g = residuals.size;
    if (p === 0 || p === 1 || g === 1) effectiveN = g;
    else {
      let squares = 0;
      for (const r of residuals.values()) squares += r * r;
      const variance = ((g / (g - 1)) * squares) / (n * n);
      effectiveN = n / Math.max(1, (variance * n) / (p * (1 - p)));
    }
  }
  return { value: p, n, effectiveN, ...wilsonInterval(p * effectiveN, effectiveN, level) };
}

/**
 * Newcombe's interval for a difference of two independent proportions `p1 − p2` (Newcombe 1998,
 * method 10): each Wilson bound's distance from its proportion, combined as squares.
 */
export function proportionDifference(
  successes1: number,
  n1: number,
  successes2: number,
  n2: number,
  level = 0.95,
): Interval & { value: number } {
  const [p1, p2] = [successes1 / n1, successes2 / n2];
  const [w1, w2] = [wilsonInterval(successes1, n1, level), wilsonInterval(successes2, n2, level)];
  return {
    value: p1 - p2,
    low: p1 - p2 - Math.hypot(p1 - w1.low, w2.high - p2),
    high: p1 - p2 + Math.hypot(w1.high - p1, p2 - w2.low),
  };
}

/** Options of {@linkcode pairedBootstrap}. */
export interface BootstrapOptions {
  /** Seed of the resampling. */
  seed: number;
  /** Number of resamples, default 4000. */
  resamples?: number;
  /** Coverage, default 0.95. */
  level?: number;
  /** Group of each item (its image, its patient): whole groups are drawn. Default: each item alone. */
  groups?: Groups;
}

/**
 * Percentile bootstrap of the mean paired difference `mean(b − a)` over items scored twice.
 *
 * It speaks of other items for the same two trained models; it says nothing about other seeds.
 *
 * @param a score of each item under the baseline
 * @param b score of the same item under the other arm
 */
export function pairedBootstrap(
  a: Numbers,
  b: Numbers,
  options: BootstrapOptions,
): Interval & { value: number; n: number; groups: number } {
  checkPaired("a paired bootstrap", a, b);
  const { seed, resamples = 4000, level = 0.95, groups } = options;
  checkLevel(level);
  if (!(Number.isInteger(resamples) && resamples >= 100)) {
    throw new RangeError(
      `Cannot take a paired bootstrap with ${resamples} resamples: fewer than 100`,
    );
  }
  if (groups !== undefined) checkPaired("a paired bootstrap over groups", a, groups);
  const sums = new Map<number | string, { sum: number; size: number }>();
  let total = 0;
  for (let i = 0; i < a.length; i++) {
    const key = groups === undefined ? i : groups[i];
    const group = sums.get(key) ?? { sum: 0, size: 0 };
    group.sum += b[i] - a[i];
    group.size += 1;
    total += b[i] - a[i];
    sums.set(key, group);
  }
  const sum = Float64Array.from(sums.values(), (group) => group.sum);
  const size = Float64Array.from(sums.values(), (group) => group.size);
  const random = seededRandom(seed);
  const draws = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let drawn = 0;
    let items = 0;
    for (let i = 0; i < sum.length; i++) {
      const g = random.below(sum.length);
      drawn += sum[g];
      items += size[g];
    }
    draws[r] = drawn / items;
  }
  draws.sort();
  return {
    value: total / a.length,
    low: percentile(draws, (1 - level) / 2),
    high: percentile(draws, (1 + level) / 2),
    n: a.length,
    groups: sum.length,
  };
}

/** Linear interpolation between the order statistics of sorted values, `q` in [0, 1]. */
export function percentile(sorted: Numbers, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

/**
 * Exact paired sign-flip test, two-sided: the share of the 2ⁿ sign patterns whose |sum| is at least
 * the observed one. No p can be below `floor = 2/2ⁿ`.
 *
 * @param differences one per seed, 1 to 24 of them
 */
export function signFlipTest(differences: Numbers): { p: number; floor: number; n: number } {
  const n = differences.length;
  if (n < 1 || n > 24) {
    throw new RangeError(`Cannot run an exact sign-flip test on ${n} differences: 1 to 24 needed`);
  }
  let sum = 0;
  let size = 0;
  for (let i = 0; i < n; i++) {
    sum += differences[i];
    size += Math.abs(differences[i]);
  }
  if (!Number.isFinite(size)) {
    throw new RangeError(`Cannot run a sign-flip test on ${Array.from(differences)}: not finite`);
  }
  const bar = Math.abs(sum) - 1e-12 * size; // patterns equal in exact arithmetic must count as equal
  // Gray code: pattern k differs from k − 1 in one sign. The first sign is fixed: half of all, by symmetry.
  const sign = new Int8Array(n).fill(1);
  let running = sum;
  let extreme = 1;
  for (let k = 1; k < 2 ** (n - 1); k++) {
    const flip = 1 + (31 - Math.clz32(k & -k));
    sign[flip] = -sign[flip];
    running += 2 * sign[flip] * differences[flip];
    if (Math.abs(running) >= bar) extreme += 1;
  }
  return { p: extreme / 2 ** (n - 1), floor: 2 / 2 ** n, n };
}

/**
 * Holm's step-down correction (Holm 1979): sorted ascending, p₍ᵢ₎ becomes the running maximum of
 * `(m − i + 1) p₍ᵢ₎`, at most 1. Controls the chance of any false claim in the family.
 *
 * @param ps the p values of the whole family
 * @returns adjusted p in the order given
 */
export function holm(ps: readonly number[]): number[] {
  for (const p of ps) {
    if (!(p >= 0 && p <= 1)) throw new RangeError(`Cannot correct a p value of ${p}`);
  }
  const order = ps.map((_, i) => i).sort((i, j) => ps[i] - ps[j]);
  const adjusted = new Array<number>(ps.length);
  let running = 0;
  order.forEach((index, rank) => {
    running = Math.max(running, Math.min(1, (ps.length - rank) * ps[index]));
    adjusted[index] = running;
  });
  return adjusted;
}

/**
 * McNemar's exact test, two-sided: of the items that only one arm gets right, is the split even?
 * `p = min(1, 2 P(X ≤ min(b, c)))`, X ~ Binomial(b + c, ½).
 *
 * @param first 0 or 1 per item
 * @param second 0 or 1 for the same items
 */
export function mcnemarTest(
  first: Numbers,
  second: Numbers,
): { p: number; onlyFirst: number; onlySecond: number } {
  checkPaired("McNemar's test", first, second);
  let onlyFirst = 0;
  let onlySecond = 0;
  for (let i = 0; i < first.length; i++) {
    for (const score of [first[i], second[i]]) {
      if (score !== 0 && score !== 1) {
        throw new RangeError(
          `Cannot run McNemar's test on score ${score} of item ${i}: not 0 or 1`,
        );
      }
    }
    if (first[i] > second[i]) onlyFirst += 1;
    if (second[i] > first[i]) onlySecond += 1;
  }
  const n = onlyFirst + onlySecond;
  const p = n === 0 ? 1 : Math.min(1, 2 * binomialCdf(Math.min(onlyFirst, onlySecond), n, 0.5));
  return { p, onlyFirst, onlySecond };
}

/** @throws {RangeError} If the lists are empty or of different length */
function checkPaired(what: string, a: Numbers, b: Groups): void {
  if (a.length !== b.length || a.length === 0) {
    throw new RangeError(`Cannot take ${what}: ${a.length} and ${b.length} values`);
  }
}

function checkLevel(level: number): void {
  if (!(level > 0 && level < 1)) throw new RangeError(`Cannot take an interval at level ${level}`);
}
