import assert from "node:assert/strict";
import { seededRandom } from "../../lib/study/random.ts";

Deno.test("seededRandom() gives the published xoshiro128** sequence from state 1 2 3 4", () => {
  const random = seededRandom(new Uint32Array([1, 2, 3, 4]));
  const expected = [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034];
  assert.deepEqual(expected.map(() => random.uint32()), expected);
});

Deno.test("seededRandom() repeats for one seed and differs between neighbouring seeds", () => {
  const draw = (seed: number) => Array.from({ length: 4 }, seededRandom(seed).uint32);
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(0), draw(1));
});

Deno.test("seededRandom().below() is uniform and uniform() stays below 1", () => {
  const random = seededRandom(3);
  const counts = new Array(7).fill(0);
  for (let i = 0; i < 70_000; i++) counts[random.below(7)] += 1;
  // Chi-square with 6 degrees of freedom: 22.5 is its 99.9 % point.
  const chi2 = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
  assert.ok(chi2 < 22.5, `chi-square ${chi2}, counts ${counts}`);
  for (let i = 0; i < 1000; i++) {
    const u = random.uniform();
    assert.ok(u >= 0 && u < 1);
  }
});

Deno.test("seededRandom().shuffle() keeps the elements and moves them", () => {
  const shuffled = seededRandom(1).shuffle(Array.from({ length: 50 }, (_, i) => i));
  assert.notDeepEqual(shuffled, shuffled.toSorted((a, b) => a - b));
  assert.deepEqual(
    shuffled.toSorted((a, b) => a - b),
    Array.from({ length: 50 }, (_, i) => i),
  );
});

Deno.test("seededRandom() refuses a seed that is not an integer ≥ 0", () => {
  assert.throws(
    () => seededRandom(-1),
    new RangeError("Cannot seed random numbers with -1: not an integer ≥ 0"),
  );
  assert.throws(() => seededRandom(0.5), RangeError);
  assert.throws(() => seededRandom(new Uint32Array(4)), RangeError);
});
