// What a training does when numbers go bad: stop with everything saved, or skip and count.

import assert from "node:assert/strict";
import { NumericsError } from "../../lib/errors.ts";
import { examine } from "../../lib/session/examine.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { readReplay } from "../../lib/train/replay.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, leftBehind, shortSettings, trainUntil } from "./small_runs.ts";

/** A rate at which the weights leave f32 after the first update. */
const BAD = ["stages.first.learningRate=1e30", "stages.first.schedule=constant"];

Deno.test(
  "a step with a number that is not finite stops the run, saved as before it",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const run = `${dir}/study/bad/seed-0`;
      const steps: number[] = [];
      const training = trainUntil(gpu, shortSettings(...BAD), { run }, ({ number }) => {
        steps.push(number);
        return false;
      });
      let message = "", help = "";
      await assert.rejects(training, (error) => {
        assert.ok(error instanceof NumericsError, String(error));
        [message, help] = [error.message, error.help ?? ""];
        return true;
      });
      const bad = Number(/at step (\d+)/.exec(message)?.[1]);
      assert.ok(bad >= 2, message);
      assert.deepEqual(
        steps,
        Array.from({ length: bad - 1 }, (_, i) => i + 1),
        "the steps before it",
      );
      const file = help.split(" ").at(-1)!;
      const { facts, objective } = await readReplay(file);
      assert.equal(facts.step, bad);
      assert.equal(facts.checkpoint, `checkpoints/step-000000${bad - 1}`);
      assert.equal(objective.inputs.packed.sampleLens.length, 2);
      assert.ok(facts.samples[0].includes("phantoms"), facts.samples[0]);
      assert.equal(readRun(run).sessions[0].exitCode, 5);
      const looked = await examine(gpu, file);
      assert.deepEqual(looked.weights, [], "the weights before it are finite");
      const where = looked.sites.findIndex(({ finite }) => !finite);
      assert.ok(where > 0, "a look at the batch finds where numbers stop being finite");
      assert.equal(Number.isFinite(looked.text), false);

      // A run that ends with the step before has the same state: nothing of the bad step is in it.
      const short = `${dir}/study/short/seed-0`;
      const until = shortSettings(...BAD, `save.every=${bad - 1}`);
      await assert.rejects(trainUntil(gpu, until, { run: short }), NumericsError);
      const [a, b] = await Promise.all([run, short].map((each) => leftBehind(each, bad - 1)));
      assert.deepEqual(a.digests, b.digests);
    });
  },
);

Deno.test(
  "skipped steps change nothing and are counted; too many in a row stop the run",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const run = `${dir}/study/skip/seed-0`;
      const settings = shortSettings(...BAD, "guards.nonFinite=skip", "guards.mostSkipped=2");
      const seen: boolean[] = [];
      await assert.rejects(
        trainUntil(gpu, settings, { run }, ({ skipped }) => {
          seen.push(skipped);
          return false;
        }),
        NumericsError,
      );
      assert.equal(
        seen.filter(Boolean).length,
        1,
        "the first is skipped, the second in a row stops",
      );
      const events = readRun(run).events.filter(({ kind }) => kind === "skipped");
      assert.equal(events.length, 2);
    });
  },
);
