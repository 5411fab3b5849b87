// Trainings as processes: killed, interrupted, refused. Their ends are those of one that nothing happened to.

import assert from "node:assert/strict";
import { GPU_TEST } from "../helpers.ts";
import { killAndResume } from "./kill_loop.ts";
import { startTraining } from "./processes.ts";
import { inFolder, leftBehind, SHORT } from "./small_runs.ts";

/** Settings that save after every step, in a file. */
async function configIn(dir: string, changes: object = {}): Promise<string> {
  const path = `${dir}/short.json`;
  const config = { ...SHORT, accumulate: 1, save: { every: 1, keep: 2 }, ...changes };
  await Deno.writeTextFile(path, JSON.stringify(config));
  return path;
}

Deno.test(
  "a training killed at random moments ends in the bits of one that was not",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const config = await configIn(dir);
      const whole = `${dir}/study/whole/seed-0`;
      const { code, stderr } = await (await startTraining(["--config", config, "--run", whole]))
        .ended;
      assert.equal(code, 0, stderr);
      const run = `${dir}/study/killed/seed-0`;
      const args = ["--config", config, "--run", run, "--resume"];
      const seed = Math.floor(2 ** 31 * Math.random()); // told by what fails
      const { kills } = await killAndResume(run, args, { kills: 3, saveEvery: 1, seed });
      assert.ok(kills >= 1);
      const [got, want] = await Promise.all([run, whole].map((each) => leftBehind(each, 7)));
      assert.deepEqual(got.digests, want.digests, `seed ${seed}`);
      assert.deepEqual(got.rows, want.rows, `seed ${seed}`);
    });
  },
);

Deno.test("SIGINT and SIGTERM end a training saved, with 130 and 143", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const config = await configIn(dir, { save: { every: 100, keep: 2 } });
    for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const run = `${dir}/study/${signal.toLowerCase()}/seed-0`;
      const process = await startTraining(["--config", config, "--run", run]);
      await process.step(1);
      process.child.kill(signal);
      const { code, events, stderr } = await process.ended;
      assert.equal(code, expected, stderr);
      const last = events.findLast(({ event }) => event === "step")!.number!;
      const saved = [...Deno.readDirSync(`${run}/checkpoints`)].map(({ name }) => name);
      assert.ok(saved.some((name) => Number(name.split("-")[1]) >= last), saved.join());
    }
  });
});

Deno.test("a training says what is wrong before its first step", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const config = await configIn(dir);
    const end = async (...args: string[]) => {
      const { code, events } = await (await startTraining(["--config", config, ...args])).ended;
      const { message = "", help = "" } = events.find(({ event }) => event === "error") ?? {};
      return { code, message, help };
    };
    await Deno.writeTextFile(`${dir}/file`, "");
    const under = await end("--run", `${dir}/file/arm/seed-0`);
    assert.deepEqual([under.code, /Not a directory|file/.test(under.message)], [4, true]);
    const typed = await end("--set", "stages.first.learningrate=1");
    assert.equal(typed.code, 2);
    assert.match(typed.help, /learningRate/);
    const absent = await end(
      "--set",
      `data.sources.0.path=${dir}/none`,
      "--run",
      `${dir}/a/b/seed-0`,
    );
    assert.equal(absent.code, 3, absent.message);
    assert.match(absent.message, /none/);
    const sizes = ["--run", `${dir}/a/d/seed-0`, "--set"];
    const frozen = await end(...sizes, "stages.first.freeze=und.layers.9.mlp");
    assert.equal(frozen.code, 2, frozen.message);
    assert.match(frozen.message, /stages\.first\.freeze: und\.layers\.9/);
    const unknown = await end(...sizes, `model.preset=${dir}`);
    assert.match(unknown.help, /tiny, .* or a folder with config.json/);
    await assert.rejects(Deno.stat(`${dir}/a/d`), Deno.errors.NotFound, "a run was begun");
    const small = await end("--budget", "1MB", "--run", `${dir}/a/c/seed-0`);
    assert.equal(small.code, 4, small.message);
    assert.match(small.message, /budget/);
  });
});
