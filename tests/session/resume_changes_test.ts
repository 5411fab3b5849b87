// Resuming under other settings or data: refused with a list of what differs, or allowed and recorded.

import assert from "node:assert/strict";
import { UsageError } from "../../lib/errors.ts";
import { courseOf } from "../../lib/session/course.ts";
import { readRun } from "../../lib/study/read_run.ts";
import {
  parseConfigFile,
  type ResolvedTrainConfig,
  resolveTrainConfig,
} from "../../lib/train/config/resolve.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, leftBehind, SHORT, trainUntil } from "./small_runs.ts";

/** Text of a JSONL file, two steps of one stage. */
function onText(path: string, ...set: string[]): ResolvedTrainConfig {
  const mix = { t2i: 0, i2t: 0, interleaved: 0, text: 1 };
  const file = {
    ...SHORT,
    accumulate: 1,
    data: { sources: [{ path, format: "vlm" }], workers: 0 },
    stages: [{ ...SHORT.stages[0], steps: 3, warmup: 1, mix }],
    save: { every: 1, keep: 9 },
  };
  return resolveTrainConfig({ file: parseConfigFile(JSON.stringify(file), "text"), set });
}

const line = (question: string, answer: string) =>
  JSON.stringify({
    conversations: [{ from: "human", value: question }, { from: "gpt", value: answer }],
  }) + "\n";

Deno.test(
  "train() resumed with other settings or data refuses with the list, or goes on and records it",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const data = `${dir}/text.jsonl`;
      await Deno.writeTextFile(data, line("is there a disc", "yes") + line("is it large", "no"));
      const run = `${dir}/study/changed/seed-0`;
      await trainUntil(gpu, onText(data), { run }, ({ number }) => number === 1);
      const resume = { run, resume: true };
      const refused = async (settings: ResolvedTrainConfig, ...changes: RegExp[]) => {
        const before = await leftBehind(run, 1);
        await assert.rejects(trainUntil(gpu, settings, resume), (error) => {
          assert.ok(error instanceof UsageError, String(error));
          for (const change of changes) assert.match(error.message, change);
          assert.match(error.help!, /--allow-config-change/);
          return true;
        });
        assert.deepEqual(await leftBehind(run, 1), before);
        assert.equal(readRun(run).sessions.length, 1, "it was never opened");
      };
      const other = onText(
        data,
        ...["optimizer.beta2=0.9", "stages.first.learningRate=2e-3", "stages.first.steps=4"],
      );
      await refused(
        other,
        /optimizer\.beta2 0\.95 → 0\.9/,
        /stages\.0\.learningRate 0\.001 → 0\.002/,
      );
      await Deno.writeTextFile(data, line("is there a disc", "no") + line("is it large", "no"));
      await refused(onText(data), /settings differ: the data [0-9a-f]{12} → [0-9a-f]{12}$/);

      await trainUntil(gpu, other, { ...resume, allowConfigChange: true });
      const { events, sessions } = readRun(run);
      const { detail, session } = events.find(({ kind }) => kind === "config changed")!;
      const { changes } = detail as { changes: string[] };
      assert.equal(session, 2);
      assert.equal(changes.length, 4, changes.join());
      assert.deepEqual(sessions.map(({ exitCode }) => exitCode), [0, 0]);
      const [stage] = courseOf(readRun(run)).stages;
      assert.deepEqual([stage.from, stage.to], [0, 4], "the figure has the stage as it became");
      // What was allowed is the run's now: nobody is asked again.
      await trainUntil(gpu, other, resume);
    });
  },
);
