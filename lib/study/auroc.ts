// Area under the ROC curve with an interval that respects groups (the patches of one image).
// Variance: DeLong et al. 1988 by midranks (Sun & Xu 2014); with groups, Obuchowski 1997.

import { normalQuantile } from "./distributions.ts";
import { type Groups, type Interval, type Numbers, wilsonInterval } from "./statistics.ts";

/** An area under the curve with its interval and counts. */
export interface Auroc extends Interval {
  /** P(score of a positive > score of a negative) + ½ P(equal). */
  value: number;
  positives: number;
  negatives: number;
  /** Groups that the interval treats as independent. */
  groups: number;
}

/** Midranks from 1 of `scores` at the given indices: equal scores share their mean rank. */
function midranks(scores: Numbers, indices: Int32Array): Float64Array {
  const order = indices.map((_, i) => i).sort((i, j) => scores[indices[i]] - scores[indices[j]]);
  const ranks = new Float64Array(indices.length);
  for (let start = 0; start < order.length;) {
    let end = start;
    const value = scores[indices[order[start]]];
    while (end < order.length && scores[indices[order[end]]] === value) end += 1;
    for (let i = start; i < end; i++) ranks[order[i]] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}

/**
 * Area under the ROC curve, ties counted half, with a normal interval from DeLong's variance clipped
 * to [0, 1].
 *
 * Where that variance is 0 (perfect separation), the interval is Wilson's for the smaller of the
 * numbers of positive and negative groups, which is wide when there are few. With fewer than two
 * groups of either, nothing is known: [0, 1].
 *
 * @param scores higher means more likely positive; finite
 * @param labels 0 or 1
 * @param options `groups`: the group of each row, default each row alone; `level`: default 0.95
 * @throws {RangeError} If a score is not finite, a label is not 0 or 1, or one of the two is missing
 */
export function auroc(
  scores: Numbers,
  labels: Numbers,
  options: { groups?: Groups; level?: number } = {},
): Auroc {
  const { groups, level = 0.95 } = options;
  const n = scores.length;
  if (labels.length !== n || (groups !== undefined && groups.length !== n)) {
    throw new RangeError(
      `Cannot take the AUROC of ${n} scores: ${labels.length} labels, ${
        groups?.length ?? n
      } groups`,
    );
  }
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(scores[i]) || (labels[i] !== 0 && labels[i] !== 1)) {
      throw new RangeError(
        `Cannot take the AUROC: item ${i} has score ${scores[i]} and label ${labels[i]}`,
      );
    }
  }
  const all = Int32Array.from({ length: n }, (_, i) => i);
  const positive = all.filter((i) => labels[i] === 1);
  const negative = all.filter((i) => labels[i] === 0);
  const [p, q] = [positive.length, negative.length];
  if (p === 0 || q === 0) {
    throw new RangeError(`Cannot take the AUROC of ${p} positives and ${q} negatives`);
  }

  // place[i] = share of the other kind that row i is on the right side of: rank among all − rank among own.
  const overall = midranks(scores, all);
  const place = new Float64Array(n);
  let pairs = 0; // a sum of halves: exact
  midranks(scores, positive).forEach((own, j) => {
    const beaten = overall[positive[j]] - own;
    place[positive[j]] = beaten / q;
    pairs += beaten;
  });
  const value = pairs / (p * q);
  midranks(scores, negative).forEach((own, j) => {
    place[negative[j]] = 1 - (overall[negative[j]] - own) / p;
  });

  // Deviations summed within each group; a group may hold positives, negatives or both.
  const sums = new Map<number | string, { up: number; down: number; ups: number; downs: number }>();
  for (let i = 0; i < n; i++) {
    const key = groups === undefined ? i : groups[i];
    const sum = sums.get(key) ?? { up: 0, down: 0, ups: 0, downs: 0 };
    if (labels[i] === 1) {
      sum.up += place[i] - value;
      sum.ups += 1;
    } else {
      sum.down += place[i] - value;
      sum.downs += 1;
    }
    sums.set(key, sum);
  }
  let [upUp, downDown, upDown, upGroups, downGroups] = [0, 0, 0, 0, 0];
  for (const sum of sums.values()) {
    upUp += sum.up ** 2;
    downDown += sum.down ** 2;
    upDown += sum.up * sum.down;
    if (sum.ups > 0) upGroups += 1;
    if (sum.downs > 0) downGroups += 1;
  }
  const counts = { value, positives: p, negatives: q, groups: sums.size };
  const k = Math.min(upGroups, downGroups);
  if (k < 2) return { ...counts, low: 0, high: 1 };
  const correct = (groups: number) => groups / (groups - 1);
  const variance = (correct(upGroups) * upUp) / (p * p) +
    (correct(downGroups) * downDown) / (q * q) +
    (2 * correct(sums.size) * upDown) / (p * q);
  if (variance < 1e-20) { // zero but for rounding
    return { ...counts, ...wilsonInterval(value * k, k, level) };
  }
  const half = normalQuantile(0.5 + level / 2) * Math.sqrt(variance);
  return { ...counts, low: Math.max(0, value - half), high: Math.min(1, value + half) };
}
