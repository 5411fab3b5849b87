// A training that was stopped and resumed ends in the bits of one that was not.

import assert from "node:assert/strict";
import { readRun } from "../../lib/study/read_run.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, leftBehind, shortSettings, trainUntil } from "./small_runs.ts";

const END = 7;

Deno.test(
  "train() resumed at any step, across stages, ends in the same bits",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const settings = shortSettings();
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      await trainUntil(gpu, settings, { run: whole });
      const want = await leftBehind(whole, END);
      for (const cuts of [[2, 5], [4]]) {
        const run = `${dir}/study/cut-${cuts.join("-")}/seed-0`;
        for (const cut of [...cuts, Infinity]) {
          await trainUntil(gpu, settings, { run, resume: true }, ({ number }) => number >= cut);
        }
        const got = await leftBehind(run, END);
        assert.deepEqual(got.digests, want.digests, `cut at ${cuts}`);
        assert.deepEqual(got.rows, want.rows, `cut at ${cuts}`);
      }
    });
  },
);

Deno.test("an aborted signal ends train() after the step in hand, saved", GPU_TEST, async () => {
  const gpu = await testGpu();
  const stop = new AbortController();
  await inFolder(async (dir) => {
    const run = `${dir}/study/arm/seed-0`;
    const long = shortSettings("stages.second.steps=500"); // more than any adapter makes at once
    const steps = await trainUntil(gpu, long, { run, signal: stop.signal }, (step) => {
      if (step.number >= 2) stop.abort(new Error("enough"));
      return false;
    });
    const last = steps.at(-1)!.number;
    assert.ok(last >= 2 && last < 500, `stopped after ${last}`);
    const saved = [...Deno.readDirSync(`${run}/checkpoints`)].map(({ name }) => name).sort();
    assert.deepEqual(saved, ["latest", `step-${String(last).padStart(7, "0")}`]);
    const { sessions } = readRun(run);
    assert.equal(sessions[0].reason, "enough");
  });
});
