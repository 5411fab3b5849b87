// The checkpoint with the lowest held-out loss, and trainings that end when it is lower no more.

import assert from "node:assert/strict";
import { Best, heldOutLoss } from "../../lib/session/best.ts";
import type { StageConfig } from "../../lib/train/config/schema.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { givenNames } from "../../lib/train/checkpoint/names.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, leftBehind, shortSettings, trainUntil } from "./small_runs.ts";

Deno.test("Best knows the lowest of a measure and counts what came after it", () => {
  const best = new Best(undefined);
  assert.equal(best.see("a", NaN, 1), false);
  assert.ok(!best.state, "a loss that is not finite is no start");
  assert.deepEqual([3, 2, 2, NaN].map((loss, i) => best.see("a", loss, i + 2)), [
    true,
    true,
    false,
    false,
  ]);
  assert.deepEqual(best.state, { measure: "a", loss: 2, step: 3, since: 2 });
  assert.deepEqual([null, 1, 2, 3].map((patience) => best.isOver(patience)), [
    false,
    true,
    true,
    false,
  ]);
  const resumed = new Best(best.state);
  assert.equal(resumed.see("a", 1.5, 6), true);
  assert.equal(resumed.see("b", 9, 7), true, "another measure begins anew");
});

Deno.test("heldOutLoss() weighs losses as the stage does, and is none without any", () => {
  const stage = { loss: { text: 0.25, flow: 2, reweightText: false } } as StageConfig;
  assert.equal(heldOutLoss({ text: 4, flow: 3 }, stage), 7);
  assert.equal(heldOutLoss({ flow: 3 }, stage), 6);
  assert.equal(heldOutLoss({}, stage), undefined);
});

const END = 6;
/** One stage whose rate soon makes everything worse. */
const settings = (...set: string[]) =>
  shortSettings(
    `stages=[{"name":"first","steps":${END},"learningRate":0.02,"schedule":"constant","warmup":2}]`,
    "validate.every=1",
    "validate.samples=2",
    "validate.generate=0",
    "validate.ask=0",
    "accumulate=1",
    "save.keep=1",
    "save.best=true",
    ...set,
  );

Deno.test(
  "save.best keeps the step with the lowest held-out loss; patience ends a training; both outlive a resume",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      await trainUntil(gpu, settings(), { run: whole });
      const { metrics } = readRun(whole);
      const losses = metrics["held-out/text"].values.map((text, i) =>
        text + metrics["held-out/flow"].values[i]
      );
      assert.equal(losses.length, END);
      const lowest = losses.indexOf(Math.min(...losses)) + 1;
      assert.ok(lowest <= END - 3, `the lowest of ${losses} is not early`);
      const name = `step-000000${lowest}`;
      assert.equal((await givenNames(whole)).get("best"), name);
      assert.equal((await findCheckpoint(whole, { name: "best" }))!.step, lowest);
      const kept = [...Deno.readDirSync(`${whole}/checkpoints`)].map(({ name }) => name).sort();
      assert.deepEqual(kept, ["best", "latest", name, `step-000000${END}`]);

      const stops = settings("validate.patience=2");
      const run = `${dir}/study/patient/seed-0`;
      const notes: string[] = [];
      const onNote = (text: string) => void notes.push(text);
      await trainUntil(gpu, stops, { run }, ({ number }) => number >= lowest + 1);
      const rest = await trainUntil(gpu, stops, { run, resume: true, onNote });
      assert.deepEqual(rest.map(({ number }) => number), [lowest + 2]);
      assert.equal(rest[0].validation!.lowest, false);
      assert.match(notes.join("\n"), new RegExp(`no lower held-out loss since step ${lowest}:`));
      assert.equal((await givenNames(run)).get("best"), name);
      assert.deepEqual(
        readRun(run).sessions.map(({ reason }) => reason),
        ["left", "no lower held-out loss"],
      );
      assert.deepEqual(await trainUntil(gpu, stops, { run, resume: true }), [], "it has ended");

      // A name is given after its checkpoint is written: a run killed between the two gives it when resumed.
      await Deno.remove(`${run}/checkpoints/best`);
      const on = settings();
      await trainUntil(gpu, on, { run, resume: true });
      assert.equal((await givenNames(run)).get("best"), name);
      const [got, want] = [await leftBehind(run, END), await leftBehind(whole, END)];
      assert.deepEqual(got.rows, want.rows);
      for (const file of Object.keys(want.digests)) {
        if (file !== "state.json") assert.equal(got.digests[file], want.digests[file], file);
      }
    });
  },
);
