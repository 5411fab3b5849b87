import assert from "node:assert/strict";
import { type ArmRecord, compareArms } from "../../lib/study/effect.ts";
import { seededRandom } from "../../lib/study/random.ts";
import { mcnemarTest, pairedBootstrap, tInterval } from "../../lib/study/statistics.ts";
import { near } from "./helpers.ts";

const OPTIONS = { metric: "vqa", baseline: "und", pair: "seed" } as const;

/** Records of arms with one value per seed. */
function seeds(values: Record<string, number[]>): ArmRecord[] {
  return Object.entries(values).flatMap(([arm, list]) =>
    list.map((vqa, seed) => ({ arm, seed, metrics: { vqa } }))
  );
}

/** One seed of two arms tested on the same 200 items, the second listed in reverse. */
function oneSeed(groups?: number[]): ArmRecord[] {
  const random = seededRandom(1);
  const ids = Array.from({ length: 200 }, (_, i) => `item-${i}`);
  const before = ids.map(() => random.uniform() < 0.5 ? 1 : 0);
  const after = before.map((x) => random.uniform() < 0.2 ? 1 : x);
  const share = (list: number[]) => list.reduce((a: number, b) => a + b, 0) / 200;
  const items = { ids, scores: before, ...(groups && { groups }) };
  return [
    { arm: "und", seed: 4, metrics: { vqa: share(before) }, items: { vqa: items } },
    {
      arm: "joint",
      seed: 4,
      metrics: { vqa: share(after) },
      items: { vqa: { ids: ids.toReversed(), scores: after.toReversed() } },
    },
  ];
}

Deno.test("compareArms() over 3 seeds gives the t interval, p at its floor and no claim", () => {
  const records = seeds({ joint: [0.397, 0.559, 0.523], und: [0.202, 0.179, 0.19] });
  const [effect] = compareArms(records, OPTIONS);
  // Differences 19.5, 38.0, 33.3: mean 30.267, SD 9.616, half width 4.3027 · 9.616 / √3 = 23.887.
  near(100 * effect.mean, 30.267, 1e-3);
  near(100 * effect.sd!, 9.616, 1e-3);
  near(100 * effect.interval!.low, 30.267 - 23.89, 5e-3);
  near(100 * effect.interval!.high, 30.267 + 23.89, 5e-3);
  assert.deepEqual([effect.p, effect.floor, effect.test], [0.25, 0.25, "sign-flip over seeds"]);
  assert.equal(
    effect.verdict,
    "vqa, joint − und: +30.3 points [+6.4, +54.2] (95 %, t over 3 seeds); " +
      "exact p = 0.250 (sign-flip over seeds, floor 0.250); cannot reach α = 0.05",
  );
});

Deno.test("compareArms() claims a direction from 6 seeds, and not when the arms overlap", () => {
  const und = [0.5, 0.52, 0.49, 0.51, 0.5, 0.53];
  const up = und.map((x, i) => x + 0.02 + 0.003 * i);
  const mixed = und.map((x, i) => x + (i % 2 ? 0.02 : -0.02));
  const verdicts = (arm: string, values: number[]) =>
    compareArms(seeds({ und, [arm]: values }), OPTIONS)[0].verdict;
  assert.match(verdicts("joint", up), /exact p = 0.031 .*floor 0.031\); joint is higher$/);
  assert.match(verdicts("joint", up.map((x, i) => 2 * und[i] - x)), /joint is lower$/);
  assert.match(verdicts("joint", mixed), /no difference shown$/);
});

Deno.test("compareArms() corrects over its arms: two comparisons on 6 seeds cannot reach α", () => {
  const und = [0.5, 0.52, 0.49, 0.51, 0.5, 0.53];
  const up = und.map((x, i) => x + 0.02 + 0.003 * i);
  const effects = compareArms(seeds({ und, joint: up, blocked: und }), OPTIONS);
  assert.deepEqual(effects.map((effect) => effect.arm), ["joint", "blocked"]);
  assert.deepEqual([effects[0].pHolm, effects[1].pHolm], [2 * 2 / 64, 1]);
  assert.match(effects[0].verdict, /Holm p = 0.063 over 2; cannot reach α = 0.05$/);
});

Deno.test("compareArms() with one seed bootstraps the items by identity and says what that means", () => {
  const records = oneSeed();
  const [effect] = compareArms(records, OPTIONS);
  const before = records[0].items!.vqa.scores;
  const after = Array.from(records[1].items!.vqa.scores).reverse();
  const direct = pairedBootstrap(before, after, { seed: 0 });
  assert.deepEqual(
    effect.interval,
    { low: direct.low, high: direct.high, method: "paired bootstrap over items" },
  );
  assert.equal(effect.p, mcnemarTest(before, after).p);
  assert.equal(effect.test, "McNemar over items");
  assert.equal(effect.sd, undefined);
  assert.match(effect.verdict, /paired bootstrap over 200 items\)/);
  assert.match(effect.verdict, /one seed: says nothing about seed-to-seed spread/);
  assert.match(effect.verdict, /these two models differ on these items$/);
});

Deno.test("compareArms() does not run McNemar's test on items that share images", () => {
  const groups = Array.from({ length: 200 }, (_, i) => i >> 2);
  const [effect] = compareArms(oneSeed(groups), OPTIONS);
  assert.equal(effect.p, undefined);
  assert.match(effect.verdict, /no claim$/);
});

Deno.test("compareArms() with 2 seeds averages each item over seeds before resampling", () => {
  const ids = ["a", "b", "c", "d"];
  const record = (arm: string, seed: number, scores: number[]): ArmRecord => ({
    arm,
    seed,
    metrics: { vqa: scores.reduce((a, b) => a + b) / 4 },
    items: { vqa: { ids, scores } },
  });
  const [effect] = compareArms([
    record("und", 0, [0, 0, 1, 0]),
    record("und", 1, [0, 1, 0, 0]),
    record("joint", 0, [1, 0, 1, 0]),
    record("joint", 1, [1, 1, 1, 0]),
  ], OPTIONS);
  const direct = pairedBootstrap([0, 0.5, 0.5, 0], [1, 0.5, 1, 0], { seed: 0 });
  assert.deepEqual([effect.interval!.low, effect.interval!.high], [direct.low, direct.high]);
  assert.deepEqual([effect.mean, effect.p, effect.items], [direct.value, undefined, 4]);
  assert.match(effect.verdict, /2 seeds: says little about seed-to-seed spread; no claim$/);
});

Deno.test("compareArms() without items and with one seed gives the difference alone", () => {
  const [effect] = compareArms(seeds({ und: [0.5], joint: [0.4] }), OPTIONS);
  assert.equal(effect.interval, undefined);
  assert.equal(
    effect.verdict,
    "vqa, joint − und: -10.0 points; one seed: says nothing about seed-to-seed spread; no claim",
  );
});

Deno.test("compareArms() pairs by seed and reports seeds that only one arm has", () => {
  const records = seeds({ und: [0.1, 0.5, 0.2, 0.3], joint: [0.2, 0.4, 0.4, 0.9] })
    .filter(({ arm, seed }) => !(arm === "und" && seed === 1));
  const [effect] = compareArms(records.toReversed(), OPTIONS);
  assert.deepEqual(effect.points.map((point) => point.seed), [0, 2, 3]);
  const { low } = tInterval([0.2 - 0.1, 0.4 - 0.2, 0.9 - 0.3]);
  near(effect.interval!.low, low, 1e-12);
  assert.deepEqual(effect.unpairedSeeds, [1]);
  assert.match(effect.verdict, /seeds 1 not paired$/);
});

Deno.test("compareArms() names the arm, seed, metric or item at fault", () => {
  const two = seeds({ und: [0.5], joint: [0.4] });
  const broken = oneSeed();
  const items = { vqa: { ids: ["other"], scores: [1] } };
  assert.throws(
    () => compareArms(two, { ...OPTIONS, baseline: "gen" }),
    new RangeError("Cannot compare with gen: arms are und, joint"),
  );
  assert.throws(
    () => compareArms(two, { ...OPTIONS, metric: "dice" }),
    /und seed 0 has undefined \(it records vqa\)/,
  );
  assert.throws(() => compareArms([...two, two[0]], OPTIONS), /und seed 0 comes twice/);
  assert.throws(
    () => compareArms([two[0], { ...two[1], seed: 3 }], OPTIONS),
    /Cannot compare joint \(seeds 3\) with und \(seeds 0\): no seed in common/,
  );
  assert.throws(
    () => compareArms([broken[0], { ...broken[1], items }], OPTIONS),
    /Cannot pair items of joint with und on vqa: no item-0/,
  );
});
