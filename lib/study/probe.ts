// Linear probes on frozen features: what a ridge classifier can read off a site. Held-out accuracy or
// AUROC, ridge strength chosen on a validation part, and a shuffled-label control from the same fits.
// (Alain & Bengio 2016; for the control, Hewitt & Liang 2019.)

import { type Auroc, auroc } from "./auroc.ts";
import { type Part, partition } from "./probe_parts.ts";
import { seededRandom } from "./random.ts";
import { crossFit, moments, type Targets } from "./ridge.ts";
import { accuracyInterval, type Groups, type Interval, type Numbers } from "./statistics.ts";

/** Ridge strengths tried, as a multiple of the number of fitted rows (columns have variance 1). */
const RIDGES = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10];

/** Options that both probes take. */
export interface ProbeOptions {
  /** Seed of the folds and of the control's shuffle. */
  seed: number;
  /** Cross-validation folds, at least 3, default 5: each is held out once, the next one validates. */
  folds?: number;
  /** The part of each row instead of folds; only "test" rows are held out. */
  split?: readonly Part[];
  /** Ridge strengths to choose from, relative to the number of fitted rows, above 0. */
  ridge?: readonly number[];
  /** Coverage of the intervals, default 0.95. */
  level?: number;
}

/** Result of {@linkcode fitLinearProbe}. */
export interface LinearProbe extends Interval {
  /** Share of held-out rows classified right. */
  accuracy: number;
  /** Held-out rows. */
  n: number;
  /** n divided by the design effect of the groups; the interval uses it. */
  effectiveN: number;
  /** 1 / classes. */
  chance: number;
  /** Held-out accuracy of always naming the most frequent fitted class. */
  majority: number;
  /** Class named for each row, −1 where the row was never held out. */
  predictions: Int32Array;
  /** Relative ridge strength chosen in each fold. */
  ridge: number[];
  /** The same procedure on shuffled labels. */
  control: Interval & { accuracy: number };
}

/**
 * Multi-class ridge probe: `W = (X̂ᵀX̂ + λI)⁻¹ X̂ᵀY`, Y one-hot, prediction the largest of `x̂W + ȳ`.
 *
 * X̂ is standardised on the fitted rows only. λ minimises the squared error on the validation part;
 * then train and validation are fitted together. A class whose mean lies between two others on one
 * line can be masked, as in any least-squares classifier: read the accuracy as a lower bound.
 *
 * The control shuffles labels between groups (or rows, without groups) and keeps their order within.
 *
 * @param features (N, C) row-major
 * @param shape (N, C)
 * @param labels N classes in [0, classes)
 * @param options with `groups`: rows of one group never sit on both sides of a split
 * @throws {TypeError} If sizes disagree
 * @throws {RangeError} If a feature is not finite, a label is out of range, or the parts cannot be made
 */
export function fitLinearProbe(
  features: Numbers,
  shape: readonly [number, number],
  labels: Numbers,
  options: ProbeOptions & { classes: number; groups?: Groups },
): LinearProbe {
  const { classes, seed, groups, level = 0.95 } = options;
  if (!(Number.isInteger(classes) && classes >= 2)) {
    throw new RangeError(`Cannot fit a probe for ${classes} classes: at least 2 needed`);
  }
  checkLabels(labels, shape[0], classes);
  const parts = partition(shape[0], { ...options, seed });
  const sums = moments(features, shape, parts.of, parts.count);
  const ridges = checkedRidges(options.ridge);

  const answer = (classOf: Numbers) => {
    const targets: Targets = { columns: classes, at: (row, k) => classOf[row] === k ? 1 : 0 };
    const predictions = new Int32Array(shape[0]).fill(-1);
    const frequent = new Int32Array(shape[0]).fill(-1);
    const chosen: number[] = [];
    for (const fit of crossFit(sums, targets, parts.rounds, ridges)) {
      chosen.push(fit.ridge);
      const common = largest(fit.targetMeans, 0, classes);
      for (const row of parts.rowsOf(fit.test)) {
        predictions[row] = largest(fit.predict(row), 0, classes);
        frequent[row] = common;
      }
    }
    const held = parts.heldOut;
    const right = (named: Int32Array) => held.map((row) => named[row] === classOf[row] ? 1 : 0);
    const heldGroups = groups === undefined ? undefined : Array.from(held, (row) => groups[row]);
    return {
      ...accuracyInterval(right(predictions), heldGroups, level),
      majority: accuracyInterval(right(frequent)).value,
      predictions,
      ridge: chosen,
    };
  };

  const real = answer(labels);
  const control = answer(shuffled(labels, groups, seed));
  return {
    accuracy: real.value,
    low: real.low,
    high: real.high,
    n: real.n,
    effectiveN: real.effectiveN,
    chance: 1 / classes,
    majority: real.majority,
    predictions: real.predictions,
    ridge: real.ridge,
    control: { accuracy: control.value, low: control.low, high: control.high },
  };
}

/** Result of {@linkcode fitDenseProbe}. */
export interface DenseProbe {
  /** Area under the curve on held-out patches; its interval treats images as the independent units. */
  auroc: Auroc;
  /** Score of each patch, NaN where it was never held out. Comparable within a fold only. */
  scores: Float64Array;
  /** Relative ridge strength chosen in each fold. */
  ridge: number[];
  /** The same procedure with masks moved to other images: what place alone gives away. */
  control: Auroc;
}

/**
 * Patch-level binary probe, for masks and lesions: ridge regression on 0/1, scored by AUROC.
 *
 * Folds are made of whole images. Scores of different folds come from different fits; each fold's
 * scores are centred and scaled by its fitted rows before they are ranked together.
 *
 * @param features (N, C) row-major, one row per patch
 * @param shape (N, C)
 * @param labels N values 0 or 1
 * @param options with `images`: the image of each patch; required
 * @throws {TypeError} If sizes disagree
 * @throws {RangeError} If a feature is not finite, a label is not 0 or 1, one of the two is missing
 *   from the held-out rows, or the parts cannot be made
 */
export function fitDenseProbe(
  features: Numbers,
  shape: readonly [number, number],
  labels: Numbers,
  options: ProbeOptions & { images: Groups },
): DenseProbe {
  const { seed, images, level = 0.95 } = options;
  checkLabels(labels, shape[0], 2);
  const parts = partition(shape[0], { ...options, groups: images, seed });
  const sums = moments(features, shape, parts.of, parts.count);
  const ridges = checkedRidges(options.ridge);

  const answer = (mask: Numbers) => {
    const targets: Targets = { columns: 1, at: (row) => mask[row] };
    const scores = new Float64Array(shape[0]).fill(NaN);
    const chosen: number[] = [];
    for (const fit of crossFit(sums, targets, parts.rounds, ridges)) {
      chosen.push(fit.ridge);
      const scale = fit.spread > 0 ? 1 / fit.spread : 1; // a constant prediction stays at 0
      for (const row of parts.rowsOf(fit.test)) {
        scores[row] = (fit.predict(row)[0] - fit.targetMeans[0]) * scale;
      }
    }
    const held = parts.heldOut;
    const area = auroc(
      Array.from(held, (row) => scores[row]),
      Array.from(held, (row) => mask[row]),
      { groups: Array.from(held, (row) => images[row]), level },
    );
    return { area, scores, ridge: chosen };
  };

  const real = answer(labels);
  const control = answer(shuffled(labels, images, seed));
  return { auroc: real.area, scores: real.scores, ridge: real.ridge, control: control.area };
}

/** Labels moved between groups: groups in shuffled order, laid out over the rows in group order. */
function shuffled(labels: Numbers, groups: Groups | undefined, seed: number): Float64Array {
  const members = new Map<number | string, number[]>();
  for (let row = 0; row < labels.length; row++) {
    const key = groups === undefined ? row : groups[row];
    const rows = members.get(key);
    if (rows === undefined) members.set(key, [row]);
    else rows.push(row);
  }
  const targets = [...members.values()].flat();
  const sources = seededRandom(seed).shuffle([...members.values()]).flat();
  const out = new Float64Array(labels.length);
  targets.forEach((row, i) => out[row] = labels[sources[i]]);
  return out;
}

function largest(values: Numbers, from: number, count: number): number {
  let best = from;
  for (let i = from + 1; i < from + count; i++) if (values[i] > values[best]) best = i;
  return best - from;
}

function checkedRidges(ridges: readonly number[] = RIDGES): number[] {
  if (ridges.length === 0 || ridges.some((ridge) => !(ridge > 0 && Number.isFinite(ridge)))) {
    throw new RangeError(`Cannot fit a probe with ridge strengths [${ridges}]: not all above 0`);
  }
  return [...ridges].sort((a, b) => b - a); // strongest first: it wins ties
}

function checkLabels(labels: Numbers, rows: number, classes: number): void {
  if (labels.length !== rows) {
    throw new TypeError(`Cannot fit a probe: ${labels.length} labels for ${rows} rows`);
  }
  for (let row = 0; row < rows; row++) {
    const label = labels[row];
    if (!(Number.isInteger(label) && label >= 0 && label < classes)) {
      throw new RangeError(
        `Cannot fit a probe: row ${row} has label ${label}, classes are 0 to ${classes - 1}`,
      );
    }
  }
}
