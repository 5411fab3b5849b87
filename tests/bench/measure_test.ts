import assert from "node:assert/strict";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  elapsed,
  fmaCeiling,
  geometricMean,
  logSlope,
  median,
  repeatsFor,
  takeTurns,
} from "./measure.ts";

Deno.test("median() is the middle of the sorted values", () => {
  assert.equal(median([9, 1, 10]), 9);
  assert.equal(median([4, 1, 10, 2]), 3);
  assert.ok(Number.isNaN(median([])));
});

Deno.test("geometricMean() is the root of the product", () => {
  assert.ok(Math.abs(geometricMean([2, 4, 27]) - 6) < 1e-12);
});

Deno.test("logSlope() is the exponent of a power law", () => {
  const points = [1, 2, 4, 8].map((x) => [x, 3 * x ** 1.5] as const);
  assert.ok(Math.abs(logSlope(points) - 1.5) < 1e-12);
});

Deno.test("takeTurns() samples everyone once a round, each round beginning with another", async () => {
  const order: string[] = [];
  const samples = await takeTurns(["a", "b", "c"], 2, (name, round) => {
    order.push(name);
    return Promise.resolve(`${name}${round}`);
  });
  assert.equal(order.join(""), "abcbca");
  assert.deepEqual(samples, [["a0", "a1"], ["b0", "b1"], ["c0", "c1"]]);
});

Deno.test("elapsed() launches as often as told and settles before and after", async () => {
  const calls: string[] = [];
  const timed = {
    launch: () => void calls.push("launch"),
    settle: () => Promise.resolve(void calls.push("settle")),
  };
  const ms = await elapsed(timed, 2, 1e9);
  assert.deepEqual(calls, ["settle", "launch", "launch", "settle"]);
  assert.equal(ms, 1e-3); // a wait longer than the whole leaves no negative time
});

Deno.test("repeatsFor() stops at the most, and at one launch where that is long enough", async () => {
  const instant = { launch: () => {}, settle: () => Promise.resolve() };
  assert.equal(await repeatsFor(instant, 0, 1e9, 300), 300);
  assert.equal(await repeatsFor(instant, 0, 0, 300), 1);
});

Deno.test(
  "fmaCeiling() is positive, the best of its variants, and checks what they compute",
  GPU_TEST,
  async () => {
    const { gflops, variants } = await fmaCeiling(await testGpu(), 1);
    assert.ok(gflops > 0);
    assert.equal(gflops, Math.max(...Object.values(variants)));
    assert.ok(Object.keys(variants).length > 1);
  },
);
