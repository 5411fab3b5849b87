// A training on several processes: the losses of one process with all the samples, a killed rank that leaves a
// checkpoint, and a resume to the bits of the same processes left alone.

import assert from "node:assert/strict";
import { readRun } from "../../lib/study/read_run.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { HAS_MPIRUN, mpiTest, msUntilGone } from "../comm/mpirun.ts";
import { startTraining } from "./processes.ts";
import { inFolder, leftBehind, SHORT, shortSettings, trainUntil } from "./small_runs.ts";

const root = Deno.build.os !== "windows" && Deno.uid() === 0;
const launcher = (ranks: number, ...program: string[]) => [
  "mpirun",
  ...(root ? ["--allow-run-as-root"] : []),
  ...["--oversubscribe", "-n", String(ranks)],
  ...program,
];
/** The arguments after the folder as a rank's command, that leaves its process number in the folder. */
const NUMBERED = ["bash", "-c", 'echo $$ > "$0/rank-$OMPI_COMM_WORLD_RANK"; exec "$@"'];

/** One thread a rank: two cores serve them all. */
const ENV = { LP_NUM_THREADS: "1" };

/** Differences of f32 sums in another order, after a few updates. */
const CLOSE = 1e-5;

function assertSameLosses(run: string, want: string, what: string): void {
  const [a, b] = [run, want].map((each) => readRun(each).metrics);
  for (const name of ["text", "flow", "norm"]) {
    assert.deepEqual(a[name].steps, b[name].steps, `${what}: steps of ${name}`);
    a[name].values.forEach((value, i) => {
      const off = Math.abs(value - b[name].values[i]);
      assert.ok(
        off < CLOSE * Math.max(1, Math.abs(value)),
        `${what}: ${name} is ${off} off at ${i}`,
      );
    });
  }
}

Deno.test({
  ...mpiTest(
    "two ranks train as one process with twice the micro-batches, state shared out or not",
  ),
  ...(HAS_MPIRUN ? GPU_TEST : {}),
  fn: async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const one = `${dir}/study/one/seed-0`;
      await trainUntil(gpu, shortSettings(), { run: one }); // accumulates two micro-batches
      const config = `${dir}/short.json`;
      await Deno.writeTextFile(config, JSON.stringify({ ...SHORT, accumulate: 1 }));
      const sharded = ["--set", "parallel.shardOptimizer=true"];
      for (const [arm, more] of [["two", []], ["sharded", sharded]] as const) {
        const run = `${dir}/study/${arm}/seed-0`;
        const args = ["--config", config, "--run", run, ...more];
        const { code, stderr } = await (await startTraining(args, launcher(2), ENV)).ended;
        assert.equal(code, 0, stderr);
        assertSameLosses(run, one, arm);
      }
    });
  },
});

Deno.test({
  ...mpiTest(
    "told by USR2, ranks stop saved; a killed one ends the job; resumed, it ends in the bits of one left alone",
  ),
  ...(HAS_MPIRUN ? GPU_TEST : {}),
  fn: async () => {
    await inFolder(async (dir) => {
      const config = `${dir}/short.json`;
      const settings = { ...SHORT, accumulate: 1, save: { every: 1, keep: 2 } };
      await Deno.writeTextFile(config, JSON.stringify(settings));
      const start = (arm: string, ...more: string[]) => {
        const args = ["--config", config, "--run", `${dir}/study/${arm}/seed-0`, ...more];
        return startTraining(args, launcher(2, ...NUMBERED, dir), ENV);
      };
      const whole = await (await start("whole")).ended;
      assert.equal(whole.code, 0, whole.stderr);
      const done = `${dir}/study/whole/seed-0`;
      const alone = await startTraining(["--config", config, "--run", done, "--resume"]);
      assert.equal((await alone.ended).code, 2, "one process goes on with a run of two");
      const { sessions } = readRun(done);
      assert.deepEqual(sessions.map(({ exitCode }) => exitCode), [0], "its record was touched");

      const told = await start("told");
      await told.step(1);
      told.child.kill("SIGUSR2"); // mpirun hands it on
      const stopped = await told.ended;
      assert.equal(stopped.code, 143, stopped.stderr);
      const last = stopped.events.findLast(({ event }) => event === "step")!.number!;
      assert.ok(last < 7, "it was stopped before its end");
      const { digests } = await leftBehind(`${dir}/study/told/seed-0`, last);
      assert.ok("model.safetensors" in digests);

      const process = await start("killed");
      await process.step(2);
      const ranks = [0, 1].map((i) => Number(Deno.readTextFileSync(`${dir}/rank-${i}`)));
      const killed = performance.now();
      assert.ok(
        (await new Deno.Command("kill", { args: ["-9", String(ranks[1])] }).output()).success,
      );
      const { code } = await process.ended;
      assert.notEqual(code, 0);
      assert.ok(performance.now() - killed < 10_000, "the job outlived its rank by 10 s");
      for (const rank of ranks) {
        assert.ok(await msUntilGone(rank, 5000) < 5000, `rank ${rank} is left`);
      }

      const resumed = await (await start("killed", "--resume")).ended;
      assert.equal(resumed.code, 0, resumed.stderr);
      const arms = ["whole", "killed"].map((arm) => leftBehind(`${dir}/study/${arm}/seed-0`, 7));
      const [want, got] = await Promise.all(arms);
      assert.deepEqual(got, want);
    });
  },
});
