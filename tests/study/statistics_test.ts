import assert from "node:assert/strict";
import { seededRandom } from "../../lib/study/random.ts";
import {
  accuracyInterval,
  holm,
  mcnemarTest,
  mean,
  pairedBootstrap,
  percentile,
  proportionDifference,
  sd,
  signFlipTest,
  tInterval,
  wilsonInterval,
} from "../../lib/study/statistics.ts";
import { near } from "./helpers.ts";

// Darwin's crossed and self-fertilised maize, in eighths of an inch (Fisher 1935, §§ 17 and 21).
const MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];

Deno.test("mean(), sd() and tInterval() reproduce Fisher's analysis of Darwin's maize", () => {
  near(mean(MAIZE), 20.933, 5e-4);
  near(sd(MAIZE), 37.744, 5e-4);
  const { low, high } = tInterval(MAIZE);
  const half = 2.144787 * 37.744 / Math.sqrt(15);
  near(low, 20.933 - half, 2e-3);
  near(high, 20.933 + half, 2e-3);
  near(tInterval([1, 2, 3]).high, 2 + 4.302652729749462 / Math.sqrt(3), 1e-12);
});

Deno.test("signFlipTest() counts Fisher's 1726 of 32768 sign patterns for Darwin's maize", () => {
  assert.equal(signFlipTest(MAIZE).p, 1726 / 32768);
});

Deno.test("signFlipTest() matches patterns counted by hand and states its floor", () => {
  assert.deepEqual(signFlipTest([1, 2, 3]), { p: 0.25, floor: 0.25, n: 3 });
  // ±3 ±1 ±2: |sum| ≥ 4 for +3−1+2, +3+1+2 and their negatives.
  assert.equal(signFlipTest([3, -1, 2]).p, 0.5);
  assert.equal(signFlipTest([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).p, 2 / 64);
  assert.deepEqual(signFlipTest([5]), { p: 1, floor: 1, n: 1 });
  assert.equal(signFlipTest([0, 0, 0]).p, 1);
  // 0.1 + 0.2 is not 0.3 in binary: equal patterns must still count. +−−: |sum| = 0.
  assert.equal(signFlipTest([0.3, -0.1, -0.2]).p, 1);
  assert.throws(() => signFlipTest([]), /on 0 differences: 1 to 24 needed/);
  assert.throws(() => signFlipTest([1, NaN]), /Cannot run a sign-flip test on 1,NaN: not finite/);
});

Deno.test("signFlipTest() equals enumeration of all patterns on seeded differences", () => {
  const random = seededRandom(11);
  for (const n of [1, 2, 5, 8]) {
    const d = Array.from({ length: n }, () => random.uniform() - 0.3);
    const observed = Math.abs(d.reduce((sum, x) => sum + x, 0));
    let extreme = 0;
    for (let pattern = 0; pattern < 2 ** n; pattern++) {
      const sum = d.reduce((total, x, i) => total + ((pattern >> i) & 1 ? -x : x), 0);
      if (Math.abs(sum) >= observed - 1e-12) extreme += 1;
    }
    assert.equal(signFlipTest(d).p, extreme / 2 ** n);
  }
});

Deno.test("wilsonInterval() gives the limits printed in Newcombe 1998", () => {
  const printed: [number, number, number, number][] = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ];
  for (const [k, n, low, high] of printed) {
    const interval = wilsonInterval(k, n);
    near(interval.low, low, 5e-5, `low of ${k}/${n}`);
    near(interval.high, high, 5e-5, `high of ${k}/${n}`);
  }
  assert.equal(wilsonInterval(20, 20).high, 1);
  near(wilsonInterval(20, 20).low, 1 - 0.1611, 5e-5);
  assert.throws(() => wilsonInterval(5, 4), /Cannot take an interval for 5 of 4/);
});

Deno.test("proportionDifference() gives the limits printed in Newcombe 1998 for method 10", () => {
  const printed: [number, number, number, number, number, number][] = [
    [56, 70, 48, 80, 0.0524, 0.3339],
    [9, 10, 3, 10, 0.1705, 0.809],
    [5, 56, 0, 29, -0.0381, 0.1926],
  ];
  for (const [k1, n1, k2, n2, low, high] of printed) {
    const interval = proportionDifference(k1, n1, k2, n2);
    near(interval.low, low, 5e-5, `low of ${k1}/${n1} − ${k2}/${n2}`);
    near(interval.high, high, 5e-5, `high of ${k1}/${n1} − ${k2}/${n2}`);
  }
});

Deno.test("accuracyInterval() widens for items repeated within groups, not for independent ones", () => {
  const one = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1];
  const plain = accuracyInterval(one);
  assert.equal(plain.effectiveN, 10);
  // Every item six times within its group carries no news: the design effect is 6 · g/(g − 1).
  const six = one.flatMap((x) => new Array(6).fill(x));
  const groups = one.flatMap((_, i) => new Array(6).fill(`image ${i}`));
  near(accuracyInterval(six, groups).effectiveN, 9, 1e-9);
  assert.equal(accuracyInterval(six, groups).value, plain.value);
  // Groups that cancel within have no between-group variance: the effective n stays n.
  assert.equal(accuracyInterval([1, 0, 0, 1], ["a", "a", "b", "b"]).effectiveN, 4);
  assert.equal(accuracyInterval([1, 1, 1, 1], ["a", "a", "b", "b"]).effectiveN, 2);
});

Deno.test("pairedBootstrap() agrees with the normal interval of the mean difference", () => {
  const random = seededRandom(5);
  const a = Array.from({ length: 800 }, () => random.uniform() < 0.5 ? 1 : 0);
  const b = a.map((x) => random.uniform() < 0.2 ? 1 - x : random.uniform() < 0.1 ? 1 : x);
  const d = b.map((x, i) => x - a[i]);
  const result = pairedBootstrap(a, b, { seed: 1, resamples: 8000 });
  const half = 1.96 * sd(d) / Math.sqrt(800);
  near(result.value, mean(d), 1e-12);
  near(result.low, mean(d) - half, 0.003);
  near(result.high, mean(d) + half, 0.003);
  assert.deepEqual(result, pairedBootstrap(a, b, { seed: 1, resamples: 8000 }));
  assert.notDeepEqual(result, pairedBootstrap(a, b, { seed: 2, resamples: 101 }));
});

Deno.test("pairedBootstrap() draws whole groups: copies of an item do not narrow the interval", () => {
  const random = seededRandom(6);
  const a = Array.from({ length: 300 }, () => random.below(2));
  const b = Array.from({ length: 300 }, () => random.below(2));
  const times4 = (list: number[]) => list.flatMap((x) => [x, x, x, x]);
  const groups = times4(a.map((_, i) => i));
  const once = pairedBootstrap(a, b, { seed: 3 });
  const grouped = pairedBootstrap(times4(a), times4(b), { seed: 3, groups });
  assert.deepEqual([grouped.low, grouped.high], [once.low, once.high]);
  assert.equal(grouped.groups, 300);
  const naive = pairedBootstrap(times4(a), times4(b), { seed: 3 });
  near((naive.high - naive.low) / (once.high - once.low), 0.5, 0.05, "width ratio");
  assert.throws(() => pairedBootstrap([1], [1, 0], { seed: 0 }), /a paired bootstrap: 1 and 2/);
});

Deno.test("holm() steps down as in a worked example and never exceeds 1", () => {
  const adjusted = holm([0.01, 0.04, 0.03, 0.005]);
  [0.03, 0.06, 0.06, 0.02].forEach((p, i) => near(adjusted[i], p, 1e-15));
  assert.deepEqual(holm([0.6, 0.7]), [1, 1]);
  assert.deepEqual(holm([]), []);
  assert.throws(() => holm([1.2]), /Cannot correct a p value of 1.2/);
});

Deno.test("mcnemarTest() sums the binomial tail of the discordant items", () => {
  const first = [...new Array(10).fill(1), ...new Array(2).fill(0), 1, 1, 0];
  const second = [...new Array(10).fill(0), ...new Array(2).fill(1), 1, 1, 0];
  const { p, onlyFirst, onlySecond } = mcnemarTest(first, second);
  near(p, 2 * (1 + 12 + 66) / 4096, 1e-14);
  assert.deepEqual([onlyFirst, onlySecond], [10, 2]);
  assert.equal(mcnemarTest([1, 0], [1, 0]).p, 1);
  assert.equal(mcnemarTest([1, 0], [0, 1]).p, 1);
  assert.throws(() => mcnemarTest([0.5], [1]), /score 0.5 of item 0: not 0 or 1/);
});

Deno.test("percentile() interpolates; mean() and sd() refuse too few values", () => {
  assert.equal(percentile([1, 2, 4], 0.75), 3);
  assert.equal(percentile([1, 2, 4], 1), 4);
  assert.throws(() => mean([]), /Cannot take the mean of no values/);
  assert.throws(() => sd([1]), /Cannot take a standard deviation of 1 value/);
  assert.throws(() => tInterval([1, 2], 1), /Cannot take an interval at level 1/);
});
