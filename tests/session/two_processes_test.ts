// One run and two processes at it, and a process that is told to stop twice.

import assert from "node:assert/strict";
import { readRun } from "../../lib/study/read_run.ts";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { startTraining, type TrainProcess } from "./processes.ts";
import { train } from "../../lib/session/train.ts";
import { inFolder, SHORT, shortSettings } from "./small_runs.ts";

Deno.test("a second process at a run ends with 6 and names the first", GPU_TEST, async () => {
  const gpu = await testGpu();
  await inFolder(async (dir) => {
    const run = `${dir}/study/held/seed-0`;
    const config = `${dir}/short.json`;
    await Deno.writeTextFile(config, JSON.stringify(SHORT));
    const steps: number[] = [];
    let second: Awaited<TrainProcess["ended"]> | undefined;
    for await (const { number } of train(gpu, shortSettings(), { run })) {
      steps.push(number);
      second ??= await (await startTraining(["--config", config, "--run", run, "--resume"])).ended;
    }
    const { code, events } = second!;
    const told = events.find(({ event }) => event === "error");
    const lock = new RegExp(`process ${Deno.pid} since \\d{4}-\\d\\d-\\d\\dT\\S+ is writing it$`);
    assert.equal(code, 6, told?.message);
    assert.match(told!.message!, lock);
    assert.equal(steps.length, 7, "the first went on");
    assert.equal(readRun(run).sessions.length, 1);
  });
});

Deno.test(
  "a second SIGINT stops a training in the middle of a step; it goes on from the step before",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const config = `${dir}/slow.json`;
      // Steps of some seconds, so that there is one to interrupt.
      const settings = {
        ...SHORT,
        batch: { samples: 16 },
        accumulate: 20,
        save: { every: 1, keep: 2 },
      };
      await Deno.writeTextFile(
        config,
        JSON.stringify({ ...settings, stages: [{ ...SHORT.stages[0], steps: 3 }] }),
      );
      const run = `${dir}/study/stopped/seed-0`;
      const args = ["--config", config, "--run", run];
      const process = await startTraining(args);
      const told = await process.step(1);
      // Signals that come while nobody listens are heard as one: like somebody at the keyboard, until it stops.
      const impatient = setInterval(() => process.child.kill("SIGINT"), 150);
      process.child.status.then(() => clearInterval(impatient));
      const { code, stderr, events } = await process.ended;
      assert.equal(code, 130, stderr);
      assert.match(stderr, /once more stops at once/);
      const last = events.findLast(({ event }) => event === "step")!.number!;
      assert.equal(last, told, `the step in hand was finished: ${JSON.stringify(events)}`);
      assert.equal((await findCheckpoint(run))?.step, told);

      const resumed = await (await startTraining([...args, "--resume"])).ended;
      assert.equal(resumed.code, 0, resumed.stderr);
      const steps = resumed.events.filter(({ event }) => event === "step");
      assert.deepEqual(steps.map(({ number }) => number), told === 1 ? [2, 3] : [3]);
    });
  },
);
