// Job arrays: the script, and a cluster on loopback that runs it where Slurm is installed.

import assert from "node:assert/strict";
import { type RunQuietly, runQuietly } from "../../lib/cli/python.ts";
import { arrayScript, type ArraySpec, submitArray } from "../../lib/cli/slurm.ts";
import { readAxis, sweepRuns } from "../../lib/cli/sweep.ts";
import { ResourceError, UsageError } from "../../lib/errors.ts";
import { startCluster, whyNoCluster } from "./slurm_cluster.ts";

const spec = (more: Partial<ArraySpec> = {}): ArraySpec => ({
  name: "trial",
  runs: sweepRuns("trial", [readAxis("seed=0..2"), readAxis("data.name=it's,b")]),
  folder: "/a folder",
  logs: "/logs",
  command: (
    { name, settings },
  ) => ["train", "--name", name, ...settings.flatMap((s) => ["--set", s])],
  resume: ["--resume"],
  ...more,
});

Deno.test("readAxis() reads ranges with both ends, and lists", () => {
  assert.deepEqual(readAxis("seed=0..5"), {
    field: "seed",
    values: ["0", "1", "2", "3", "4", "5"],
  });
  assert.deepEqual(readAxis("seed=-1..1").values, ["-1", "0", "1"]);
  assert.deepEqual(readAxis("optimizer.beta2=0.9, 0.95"), {
    field: "optimizer.beta2",
    values: ["0.9", "0.95"],
  });
  for (
    const [text, message] of [
      ["seed", /not field=values/],
      ["seed=", /not field=values/],
      ["seed=5..0", /-4 values, of 1 to 1000/],
      ["seed=0..1000", /1001 values/],
      ["rate=0.1..0.3", /ends of a range are whole numbers/],
      ["seed=1,2,1", /1 comes twice/],
      ["seed=1,,2", /a value is empty/],
    ] as const
  ) {
    assert.throws(
      () => readAxis(text),
      (error) => error instanceof UsageError && message.test(error.message),
    );
  }
});

Deno.test("sweepRuns() makes every combination once", () => {
  const runs = sweepRuns("trial", [readAxis("seed=0..1"), readAxis("optimizer.clip=1,null")]);
  assert.deepEqual(runs, [
    { name: "trial-0", settings: ["seed=0", "optimizer.clip=1"], arm: "clip-1" },
    { name: "trial-1", settings: ["seed=0", "optimizer.clip=null"], arm: "clip-null" },
    { name: "trial-2", settings: ["seed=1", "optimizer.clip=1"], arm: "clip-1" },
    { name: "trial-3", settings: ["seed=1", "optimizer.clip=null"], arm: "clip-null" },
  ]);
  const arms = (...axes: string[]) => sweepRuns("trial", axes.map(readAxis)).map(({ arm }) => arm);
  assert.deepEqual(arms("seed=0..2"), ["train", "train", "train"], "seeds of one arm");
  assert.deepEqual(arms("name=A B,a-b"), ["arm-0", "arm-1"], "one name for two is none");
  const seed = readAxis("seed=0..99");
  assert.throws(() => sweepRuns("trial", [seed, seed]), /Cannot sweep over seed twice/);
  assert.throws(() => sweepRuns("trial", [seed, readAxis("x=0..10")]), /a sweep of 1100 runs/);
  assert.throws(() => sweepRuns("trial", []), /a sweep of 0 runs/);
  assert.throws(() => sweepRuns("../x", [seed]), /Cannot name runs after/);
});

Deno.test("arrayScript() passes options on, quotes words and refuses what could end a line", async () => {
  const script = arrayScript(
    spec({ atOnce: 2, slurm: { time: "2:00:00", mem: "24G", gres: "gpu:1", ntasks: 4 } }),
  );
  for (
    const line of [
      "#SBATCH --array=0-5%2",
      "#SBATCH --time=2:00:00",
      "#SBATCH --mem=24G",
      "#SBATCH --gres=gpu:1",
      "#SBATCH --ntasks=4",
      "#SBATCH --requeue",
      `  1) run=(train --name trial-1 --set seed=0 --set data.name=b) ;;`,
      `  0) run=(train --name trial-0 --set seed=0 --set 'data.name=it'\\''s') ;;`,
      `mpirun -n 4 "\${run[@]}" &`,
    ]
  ) assert.ok(script.split("\n").includes(line), line);
  assert.ok(!arrayScript(spec()).includes("mpirun"));
  assert.throws(() => arrayScript(spec({ slurm: { time: "1\n#SBATCH --uid=0" } })), UsageError);
  const { code, stderr } = (await runQuietly("bash", ["-n", "-c", script]))!;
  assert.equal(code, 0, stderr);
});

Deno.test("submitArray() gives the job's number, and says what sbatch says", async () => {
  const answers =
    (code: number, stdout: string, stderr = ""): RunQuietly => (command, [parsable, path]) => {
      assert.equal(command, "sbatch");
      assert.equal(parsable, "--parsable");
      assert.equal(Deno.readTextFileSync(path), "text");
      return Promise.resolve({ code, stdout, stderr });
    };
  assert.equal(await submitArray("text", answers(0, "12;cluster\n")), 12);
  const refused = answers(1, "", "sbatch: error: invalid partition\n");
  await assert.rejects(
    submitArray("text", refused),
    /^ResourceError: Cannot submit: sbatch: error: invalid/,
  );
  await assert.rejects(
    submitArray("text", () => Promise.resolve(undefined)),
    (error) => error instanceof ResourceError && /no sbatch/.test(error.message),
  );
});

const missing = await whyNoCluster();
const name = "a job array runs every run of a sweep, and a task that is told so saves and resumes";

Deno.test({
  name: missing ? `${name} (skipped: ${missing})` : name,
  ignore: missing !== undefined,
  fn: async () => {
    const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "slurm-" });
    const cluster = await startCluster(`${folder}/cluster`);
    try {
      const run: RunQuietly = (command, args) => runQuietly(command, args, cluster.env);
      // A run that writes what it was given; the one with seed 1 waits at first until it is told to save.
      const program =
        `echo "$@" >> "${folder}/$2"; case "$*" in *resume*) exit 0;; *seed=1*) ;; *) exit 0;; esac
        trap "exit 143" TERM; touch "${folder}/waiting"; while :; do sleep 0.1; done`;
      const script = arrayScript(spec({
        runs: sweepRuns("trial", [readAxis("seed=0..2")]),
        folder,
        logs: folder,
        command: (
          { name, settings },
        ) => ["bash", "-c", program, "run", "--name", name, ...settings],
      }));
      const job = await submitArray(script, run);
      const until = async (what: string, done: () => Promise<boolean>) => {
        const started = performance.now();
        while (!await done()) {
          const log = await Deno.readTextFile(`${folder}/trial-1.log`).catch(() => "");
          assert.ok(
            performance.now() - started < 60_000,
            `${what} takes more than a minute: ${log}`,
          );
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      };
      const exists = (path: string) => Deno.stat(path).then(() => true, () => false);
      await until("the first start", () => exists(`${folder}/waiting`));
      await run("scancel", ["--signal=USR1", "--batch", `${job}_1`]);
      const said = (i: number) => Deno.readTextFile(`${folder}/trial-${i}`);
      // A job that is put in the queue again waits there for some time: asked to, it begins now.
      await until("the second start", async () => {
        await run("scontrol", ["update", `JobId=${job}_1`, "StartTime=now"]);
        return (await said(1)).includes("--resume");
      });
      await until("the queue", async () => {
        const queue = await run("squeue", ["-h", "-j", String(job)]);
        return queue?.code === 0 && queue.stdout.trim() === "";
      });
      const log = await Deno.readTextFile(`${folder}/trial-1.log`).catch(() => "");
      assert.equal(await said(0), "--name trial-0 seed=0\n");
      assert.equal(await said(1), "--name trial-1 seed=1\n--name trial-1 seed=1 --resume\n", log);
      assert.equal(await said(2), "--name trial-2 seed=2\n");
    } finally {
      await cluster.close();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
