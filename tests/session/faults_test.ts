// A training whose device goes, whose disk fills up, whose memory does not reach: what was saved stands, nothing is
// ever made up, and the run goes on from there to the bits of one that nothing happened to.

import assert from "node:assert/strict";
import { DeviceLostError, ResourceError } from "../../lib/errors.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { FaultyFiles } from "../train/checkpoint/faulty_files.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { type Loss, openLosing, trainByCommand } from "./command_runs.ts";
import { inFolder, leftBehind, shortSettings, trainUntil } from "./small_runs.ts";

/** Two stages of two steps, saved after each second step. */
const SETTINGS = [
  ...["first", "second"].flatMap((
    stage,
  ) => [`stages.${stage}.steps=2`, `stages.${stage}.warmup=1`]),
  "accumulate=1",
  "save.every=2",
];
const END = 4;
const settings = shortSettings(...SETTINGS);

/** True while a checkpoint of a step is being written. */
const saving = (run: string, step: number) => () => {
  const name = `step-000000${step}.tmp-`;
  try {
    return [...Deno.readDirSync(`${run}/checkpoints`)].some((entry) => entry.name.startsWith(name));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
};

Deno.test(
  "a training whose device goes starts again once, and ends in the bits of one left alone",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      const { submits: [submits], error } = await trainByCommand(settings, whole);
      assert.equal(error, undefined);
      const want = await leftBehind(whole, END);
      const cases: [arm: string, loss: (run: string) => Loss, from: number | null][] = [
        ["opening", () => (n) => n === 1, null],
        ["halfway", () => (n) => n === submits >> 1, null],
        ["saving", (run) => saving(run, END), 2],
      ];
      for (const [arm, loss, from] of cases) {
        const run = `${dir}/study/${arm}/seed-0`;
        const { steps, error, submits } = await trainByCommand(settings, run, [loss(run)]);
        assert.equal(error, undefined, arm);
        assert.equal(submits.length, 2, `${arm}: it was started again`);
        assert.equal(steps.at(-1), END, arm);
        const got = await leftBehind(run, END);
        assert.deepEqual(got.digests, want.digests, arm);
        assert.deepEqual(got.rows, want.rows, arm);
        const { sessions } = readRun(run);
        assert.deepEqual(sessions.map(({ exitCode }) => exitCode), [4, 0], arm);
        if (from !== null) assert.equal(sessions[1].fromStep, from, arm);
      }
    });
  },
);

Deno.test(
  "a second loss of the device stops a training with exit 4; its last step stands",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const run = `${dir}/study/twice/seed-0`;
      const losses = [saving(run, END), saving(run, END)];
      const { error, steps } = await trainByCommand(settings, run, losses);
      assert.ok(error instanceof DeviceLostError, String(error));
      assert.equal(error.exitCode, 4);
      assert.match(error.message, /2 times in this run; step 2 stands$/);
      assert.ok(steps.every((step) => step < END), `told ${steps}`);
      assert.equal((await findCheckpoint(run))?.step, 2);
      const { error: none } = await trainByCommand(settings, run, [], { resume: true });
      assert.equal(none, undefined);
      const whole = `${dir}/study/whole/seed-0`;
      await trainByCommand(settings, whole);
      assert.deepEqual(await leftBehind(run, END), await leftBehind(whole, END));
    });
  },
);

Deno.test(
  "a disk that fills up while a training saves ends it with exit 4, the checkpoint before whole",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      const counting = new FaultyFiles(whole);
      let first = 0; // calls until step 2 is saved
      await trainUntil(gpu, settings, { run: whole, files: counting }, ({ checkpoint }) => {
        if (checkpoint && first === 0) first = counting.calls.length;
        return false;
      });
      const all = counting.calls.length;
      const want = await leftBehind(whole, END);
      for (const at of [first + 1, (first + all) >> 1]) {
        const run = `${dir}/study/full-${at}/seed-0`;
        const files = new FaultyFiles(run, at, "ENOSPC", true);
        await assert.rejects(trainUntil(gpu, settings, { run, files }), (error) => {
          assert.ok(error instanceof ResourceError, String(error));
          assert.match(error.message, /Cannot save step 4 in .*No space left.* needs \d+ bytes/);
          return true;
        });
        assert.ok(files.failed);
        assert.equal((await findCheckpoint(run))?.step, 2);
        assert.equal(readRun(run).sessions[0].exitCode, 4);
        await trainUntil(gpu, settings, { run, resume: true });
        assert.deepEqual(await leftBehind(run, END), want, `call ${at} of ${all}`);
      }
    });
  },
);

Deno.test(
  "a run that could never save is refused before its first step",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const run = `${dir}/study/file/seed-0`;
      await Deno.mkdir(run, { recursive: true });
      await Deno.writeTextFile(`${run}/checkpoints`, "in the way");
      const small = `${dir}/study/small/seed-0`;
      const files = new FaultyFiles(small);
      files.free = 1e6;
      const refused: [run: string, files: FaultyFiles | undefined, message: RegExp][] = [
        [run, undefined, /^Cannot .*seed-0\/checkpoints: Not a directory/],
        [small, files, /^Cannot save checkpoints in .* one needs \d{8} bytes, 1000000 are free$/],
      ];
      for (const [run, files, message] of refused) {
        let steps = 0;
        const training = trainUntil(gpu, settings, { run, ...(files ? { files } : {}) }, () => {
          steps++;
          return false;
        });
        await assert.rejects(training, (error) => {
          assert.ok(error instanceof ResourceError, String(error));
          assert.match(error.message, message);
          return true;
        });
        assert.equal(steps, 0);
        assert.equal(readRun(run).sessions[0].exitCode, 4);
      }
    });
  },
);

Deno.test(
  "a training within a memory budget fits or is refused by the name of a tensor; a larger budget resumes it",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const whole = `${dir}/study/whole/seed-0`;
      const free = await openLosing(() => false);
      await trainUntil(free, settings, { run: whole });
      const peak = free.buffers.peakBytes;
      free.close();
      const want = await leftBehind(whole, END);
      const run = `${dir}/study/tight/seed-0`;
      for (const share of [0.05, 0.3, 0.6, 0.9]) {
        const gpu = await openLosing(() => false, { budgetBytes: Math.floor(share * peak) });
        try {
          await assert.rejects(trainUntil(gpu, settings, { run, resume: true }), (error) => {
            assert.ok(error instanceof ResourceError, String(error));
            assert.match(
              error.message,
              /^Cannot allocate .* for \S.*: .* of the budget of .* in use$/,
            );
            return true;
          });
          assert.equal(gpu.buffers.liveBytes, 0, `${share}: all is given back`);
        } finally {
          gpu.close();
        }
        assert.equal(readRun(run).sessions.at(-1)!.exitCode, 4, `${share}`);
      }
      const enough = await openLosing(() => false, { budgetBytes: 2 * peak });
      await trainUntil(enough, settings, { run, resume: true });
      enough.close();
      assert.deepEqual(await leftBehind(run, END), want);
    });
  },
);
