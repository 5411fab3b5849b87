import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { learningRateAt, type Schedule } from "../../lib/train/schedule.ts";

const rates = (schedule: Schedule, steps: number[]) =>
  steps.map((step) => Number(learningRateAt(schedule, step).toPrecision(12)));

Deno.test("learningRateAt() rises from 0 over the warm-up and stays", () => {
  const schedule = { kind: "constant", learningRate: 1e-4, warmupSteps: 5 } as const;
  assert.deepEqual(rates(schedule, [0, 1, 4, 5, 6, 1000]), [0, 2e-5, 8e-5, 1e-4, 1e-4, 1e-4]);
  assert.deepEqual(rates({ kind: "constant", learningRate: 2 }, [0, 7]), [2, 2]);
});

Deno.test("learningRateAt() falls along half a cosine and climbs again after the end", () => {
  const schedule = {
    kind: "cosine",
    learningRate: 1,
    minLearningRate: 0.2,
    warmupSteps: 2,
    totalSteps: 10,
  } as const;
  assert.deepEqual(rates(schedule, [0, 1, 2, 6, 10, 14]), [0, 0.5, 1, 0.6, 0.2, 0.6]);
});

Deno.test("learningRateAt() falls along a line and stays down after the end", () => {
  const schedule = {
    kind: "linear",
    learningRate: 1,
    minLearningRate: 0.2,
    totalSteps: 8,
  } as const;
  assert.deepEqual(rates(schedule, [0, 2, 4, 8, 100]), [1, 0.8, 0.6, 0.2, 0.2]);
});

Deno.test("learningRateAt() refuses a schedule that ends before its warm-up", () => {
  const help = "give more total steps than warm-up steps";
  assert.throws(() => learningRateAt({ kind: "cosine", learningRate: 1 }, 0), (error) => {
    assert.ok(error instanceof UsageError);
    assert.equal(error.message, "Cannot plan a cosine schedule: no total steps, 0 of warm-up");
    assert.equal(error.help, help);
    return true;
  });
  const short = { kind: "linear", learningRate: 1, warmupSteps: 9, totalSteps: 9 } as const;
  assert.throws(() => learningRateAt(short, 0), {
    message: "Cannot plan a linear schedule: 9 total steps, 9 of warm-up",
  });
});
