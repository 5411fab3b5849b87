// The effect report: paired differences between arms over seeds or, with too few seeds, over items and
// named as such.

import {
  type Groups,
  holm,
  type Interval,
  mcnemarTest,
  mean,
  type Numbers,
  pairedBootstrap,
  sd,
  signFlipTest,
  tInterval,
} from "./statistics.ts";

/** Scores of single test items, so that arms can be compared on the same items. */
export interface ItemScores {
  /** Identity of each item; arms are matched on it. */
  ids: readonly string[];
  /** Score of each item, 0 or 1 for an accuracy. */
  scores: Numbers;
  /** Image or patient of each item, if several items share one. */
  groups?: Groups;
}

/** What one trained arm scored with one seed. */
export interface ArmRecord {
  arm: string;
  seed: number;
  /** Metric name → value, larger is better. */
  metrics: Readonly<Record<string, number>>;
  /** Metric name → its items, where it has any. */
  items?: Readonly<Record<string, ItemScores>>;
}

/** One pair of runs. */
export interface EffectPoint {
  seed: number;
  value: number;
  baselineValue: number;
  /** value − baselineValue */
  difference: number;
}

/** The paired difference of one arm and the baseline on one metric. */
export interface Effect {
  metric: string;
  arm: string;
  baseline: string;
  points: EffectPoint[];
  /** Seeds that only one of the two arms has; they are not in the points. */
  unpairedSeeds: number[];
  /** Mean paired difference over seeds. */
  mean: number;
  /** Standard deviation of the paired difference over seeds; absent with one seed. */
  sd?: number;
  /** 95 % interval of the mean; absent with fewer than 3 seeds and no items. */
  interval?: Interval & { method: "t over seeds" | "paired bootstrap over items" };
  /** Exact p of `test`, the smallest p that this design can reach, and p after Holm's correction. */
  p?: number;
  floor?: number;
  pHolm?: number;
  test?: "sign-flip over seeds" | "McNemar over items";
  /** Items shared by the arms, where there are any. */
  items?: number;
  verdict: string;
}

/** Options of {@linkcode compareArms}. */
export interface CompareOptions {
  metric: string;
  /** Arm that the others are compared with. */
  baseline: string;
  /** What pairs two runs; only seeds are paired so far. */
  pair: "seed";
  /** Level of the tests, default 0.05. */
  alpha?: number;
  /** Seed of the bootstrap, default 0. */
  bootstrapSeed?: number;
  /** The text shows differences × 100 as points (a fraction), or as they are. Default "points". */
  unit?: "points" | "raw";
}

/**
 * Compares every other arm with the baseline, seed by seed.
 *
 * From 3 seeds on: t interval and exact sign-flip test over seeds. With 1 or 2: each item's mean
 * difference over the seeds, bootstrapped over items (whole groups), which is silent about other seeds;
 * McNemar's exact test if there is one seed, scores are 0 or 1 and items are not grouped. Holm's
 * correction runs over the arms of this call.
 *
 * @param records one per arm and seed
 * @returns one effect per arm other than the baseline, in order of first appearance
 * @throws {RangeError} If the baseline, the metric or a common seed is missing, an (arm, seed) comes
 *   twice, a value is not finite, or paired items differ
 */
export function compareArms(records: readonly ArmRecord[], options: CompareOptions): Effect[] {
  const { metric, baseline, alpha = 0.05 } = options;
  const arms = new Map<string, Map<number, ArmRecord>>();
  for (const record of records) {
    const { arm, seed } = record;
    const seeds = arms.get(arm) ?? new Map<number, ArmRecord>();
    if (seeds.has(seed)) {
      throw new RangeError(`Cannot compare arms: ${arm} seed ${seed} comes twice`);
    }
    if (!Number.isFinite(record.metrics[metric])) {
      const names = Object.keys(record.metrics).join(", ") || "no metric";
      throw new RangeError(
        `Cannot compare arms on ${metric}: ${arm} seed ${seed} has ${record.metrics[metric]} ` +
          `(it records ${names})`,
      );
    }
    arms.set(arm, seeds.set(seed, record));
  }
  const base = arms.get(baseline);
  if (base === undefined) {
    throw new RangeError(
      `Cannot compare with ${baseline}: arms are ${[...arms.keys()].join(", ")}`,
    );
  }
  arms.delete(baseline);
  const effects = [...arms].map(([arm, seeds]) => compare(arm, seeds, base, options));

  const family = effects.filter((effect) => effect.p !== undefined);
  holm(family.map((effect) => effect.p!)).forEach((p, i) => family[i].pHolm = p);
  for (const effect of effects) {
    effect.verdict = verdict(effect, family.length, alpha, options.unit ?? "points");
  }
  return effects;
}

function compare(
  arm: string,
  seeds: Map<number, ArmRecord>,
  base: Map<number, ArmRecord>,
  { metric, baseline, bootstrapSeed = 0 }: CompareOptions,
): Effect {
  const paired = [...seeds.keys()].filter((seed) => base.has(seed)).sort((a, b) => a - b);
  if (paired.length === 0) {
    throw new RangeError(
      `Cannot compare ${arm} (seeds ${[...seeds.keys()]}) with ${baseline} ` +
        `(seeds ${[...base.keys()]}): no seed in common`,
    );
  }
  const points = paired.map((seed): EffectPoint => {
    const [value, baselineValue] = [seeds.get(seed)!, base.get(seed)!].map((r) =>
      r.metrics[metric]
    );
    return { seed, value, baselineValue, difference: value - baselineValue };
  });
  const differences = points.map((point) => point.difference);
  const effect: Effect = {
    metric,
    arm,
    baseline,
    points,
    unpairedSeeds: [...new Set([...seeds.keys(), ...base.keys()])]
      .filter((seed) => !paired.includes(seed)).sort((a, b) => a - b),
    mean: mean(differences),
    verdict: "",
  };
  if (points.length > 1) effect.sd = sd(differences);

  const items = paired.map((seed) => matchItems(arm, base.get(seed)!, seeds.get(seed)!, metric));
  const shared = items.every((item) => item !== undefined) ? averaged(items) : undefined;
  if (shared !== undefined) effect.items = shared.before.length;
  if (points.length >= 3) {
    effect.interval = { ...tInterval(differences), method: "t over seeds" };
    const { p, floor } = signFlipTest(differences);
    Object.assign(effect, { p, floor, test: "sign-flip over seeds" });
  } else if (shared !== undefined) {
    const { before, after, groups } = shared;
    const { low, high } = pairedBootstrap(before, after, {
      seed: bootstrapSeed,
      ...(groups === undefined ? {} : { groups }),
    });
    effect.interval = { low, high, method: "paired bootstrap over items" };
    const binary = [...before, ...after].every((score) => score === 0 || score === 1);
    if (points.length === 1 && binary && groups === undefined) {
      const { p, onlyFirst, onlySecond } = mcnemarTest(before, after);
      const floor = Math.min(1, 2 ** (1 - onlyFirst - onlySecond));
      Object.assign(effect, { p, floor, test: "McNemar over items" });
    }
  }
  return effect;
}

interface MatchedItems {
  ids: readonly string[];
  before: Numbers;
  after: Float64Array;
  groups: Groups | undefined;
}

/** Items of one seed in the baseline's order, or undefined if either run kept none. */
function matchItems(
  arm: string,
  baseline: ArmRecord,
  other: ArmRecord,
  metric: string,
): MatchedItems | undefined {
  const [a, b] = [baseline.items?.[metric], other.items?.[metric]];
  if (a === undefined || b === undefined) return undefined;
  const at = new Map(b.ids.map((id, i) => [id, i]));
  const missing = a.ids.find((id) => !at.has(id));
  if (missing !== undefined || at.size !== a.ids.length || b.ids.length !== a.ids.length) {
    throw new RangeError(
      `Cannot pair items of ${arm} with ${baseline.arm} on ${metric}: ` +
        (missing === undefined ? `${b.ids.length} and ${a.ids.length} items` : `no ${missing}`),
    );
  }
  return {
    ids: a.ids,
    before: a.scores,
    after: Float64Array.from(a.ids, (id) => b.scores[at.get(id)!]),
    groups: a.groups,
  };
}

/** Per item, the mean over seeds; undefined if the seeds were tested on different items. */
function averaged(seeds: readonly (MatchedItems | undefined)[]) {
  const [first, ...rest] = seeds as MatchedItems[];
  const places = rest.map((seed) => new Map(seed.ids.map((id, i) => [id, i])));
  const same = rest.every((seed, s) =>
    seed.ids.length === first.ids.length && first.ids.every((id) => places[s].has(id))
  );
  if (!same) return undefined;
  const over = (pick: (seed: MatchedItems) => Numbers) =>
    first.ids.map((id, i) =>
      rest.reduce((sum, seed, s) => sum + pick(seed)[places[s].get(id)!], pick(first)[i]) /
      seeds.length
    );
  return {
    before: over((seed) => seed.before),
    after: over((seed) => seed.after),
    groups: first.groups,
  };
}

/** `0.031`, and no more zeros than a reader needs. */
function shortP(p: number): string {
  return p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`;
}

function verdict(effect: Effect, family: number, alpha: number, unit: "points" | "raw"): string {
  const { arm, baseline, metric, points, interval, p, floor, pHolm } = effect;
  const show = (x: number) => {
    const text = unit === "points" ? (100 * x).toFixed(1) : Number(x.toPrecision(3)).toString();
    return (x >= 0 ? "+" : "") + text;
  };
  const n = points.length;
  const parts = [
    `${metric}, ${arm} − ${baseline}: ${show(effect.mean)}${unit === "points" ? " points" : ""}`,
  ];
  if (interval !== undefined) {
    const over = interval.method === "t over seeds"
      ? `t over ${n} seeds`
      : `paired bootstrap over ${effect.items} items`;
    parts[0] += ` [${show(interval.low)}, ${show(interval.high)}] (95 %, ${over})`;
  }
  if (n === 1) parts.push("one seed: says nothing about seed-to-seed spread");
  if (n === 2) parts.push("2 seeds: says little about seed-to-seed spread");
  if (p === undefined || floor === undefined || pHolm === undefined) {
    parts.push(n < 3 ? "no claim" : "no test");
  } else {
    const corrected = family > 1 ? `, Holm p ${shortP(pHolm)} over ${family}` : "";
    parts.push(
      `exact p ${shortP(p)} (${effect.test}, floor ${
        floor < 0.001 ? "< 0.001" : floor.toFixed(3)
      })${corrected}`,
    );
    if (family * floor > alpha) parts.push(`cannot reach α = ${alpha}`);
    else if (pHolm > alpha) parts.push("no difference shown");
    else if (n < 3) parts.push("these two models differ on these items");
    else parts.push(effect.mean > 0 ? `${arm} is higher` : `${arm} is lower`);
  }
  if (effect.unpairedSeeds.length > 0) {
    parts.push(`seeds ${effect.unpairedSeeds.join(", ")} not paired`);
  }
  return parts.join("; ");
}
