import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { DENO } from "../deno_command.ts";
import { InputError, LabError, ResourceError, UsageError } from "../../lib/errors.ts";
import { resolveConfig } from "../../lib/study/config.ts";
import { compareArms } from "../../lib/study/effect.ts";
import { armRecords, readRun } from "../../lib/study/read_run.ts";
import { BusyError, runFolder } from "../../lib/study/run_folder.ts";
import { openRun, type RunOptions } from "../../lib/study/runs.ts";

const CONFIG = resolveConfig({ steps: 10, optimizer: { lr: 1e-3 } }, [
  { origin: "preset quick", values: { steps: 4 } },
]);
const DONE = { exitCode: 0, reason: "done" };
const repository = decodeURIComponent(new URL("../..", import.meta.url).pathname);

/** Runs with a temporary folder for runs and small sources of its own. */
async function withRoot(test: (root: string, options: RunOptions) => unknown): Promise<void> {
  const root = Deno.makeTempDirSync();
  try {
    Deno.mkdirSync(`${root}/lib`);
    Deno.writeTextFileSync(`${root}/lib/a.ts`, "1");
    await test(root, { root, now: () => new Date(0) });
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
}

/** Fails unless `action` throws this class with this message and exit code. */
function throwsLab(
  action: () => unknown,
  kind: new (message: string) => LabError,
  message: RegExp,
  exitCode: number,
): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof kind, `${error}`);
    assert.match(error.message, message);
    assert.equal(error.exitCode, exitCode);
    return true;
  });
}

Deno.test("openRun() records a run that readRun() gives back whole", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "joint", 0);
    const session = {
      adapter: "llvmpipe",
      software: true,
      limits: { maxBufferSize: 1 },
      argv: ["--quick"],
    };
    const run = openRun(dir, CONFIG, { ...options, session });
    run.metrics(1, { "loss.text": 2.5, gradNorm: NaN });
    run.metrics(2, { "loss.text": 1.5, gradNorm: -Infinity });
    run.event("slow step", { kernel: "matmul" }, { step: 2, ms: 40 });
    run.checkpoint({ step: 2, path: "checkpoints/step-0000002", bytes: 7, sha256: "ab" });
    const evaluation = {
      step: 2,
      benchmark: "planted-vqa",
      version: 1,
      scorer: "exact",
      split: "test",
      weights: "raw",
      n: 2,
      value: 0.5,
      low: 0.1,
      high: 0.9,
      options: { temperature: 0 },
      items: [
        { item: "img-1/where", answer: "left", target: "left", score: 1 },
        { item: "img-2/where", target: "'); DROP TABLE item; --", error: "no answer" },
      ],
    } as const;
    assert.equal(run.evaluation(evaluation), 1);
    const probe = {
      site: "und.layers.0.out",
      step: 2,
      target: "modality",
      kind: "linear",
      control: "none",
      split: "test",
      value: 0.2,
      low: 0.1,
      high: 0.3,
      n: 100,
    } as const;
    run.probe({ ...probe, value: 0.15 });
    run.probe(probe);
    run.artifact({ path: "figure.svg", kind: "figure", sha256: "cd", madeFrom: "joint" });
    run.close(DONE);
    run.close({ exitCode: 1, reason: "a second close does nothing" });

    const back = readRun(dir);
    assert.deepEqual({ ...back.metrics }, {
      "loss.text": { steps: [1, 2], values: [2.5, 1.5] },
      gradNorm: { steps: [1, 2], values: [NaN, -Infinity] },
    });
    assert.deepEqual(back.events, [
      { session: 1, step: 2, ms: 40, kind: "slow step", detail: { kernel: "matmul" } },
    ]);
    assert.deepEqual(back.evaluations, [{ ...evaluation, id: 1, session: 1 }]);
    assert.deepEqual(back.probes, [probe]);
    assert.equal(back.checkpoints[0].path, "checkpoints/step-0000002");
    assert.equal(back.artifacts[0].madeFrom, "joint");
    assert.deepEqual(
      [back.header.study, back.header.arm, back.header.seed, back.header.config],
      ["demo", "joint", 0, { steps: 4, optimizer: { lr: 1e-3 } }],
    );
    assert.deepEqual(back.header.origins, { steps: "preset quick", "optimizer.lr": "default" });
    assert.match(back.header.configSha256 + back.header.sourcesSha256, /^[0-9a-f]{128}$/);
    const { started, exitCode, reason, adapter, software } = back.sessions[0];
    assert.deepEqual(
      [started, exitCode, reason, adapter, software],
      ["1970-01-01T00:00:00.000Z", 0, "done", "llvmpipe", true],
    );
    assert.equal(back.finished, true);
    assert.equal(
      Deno.readTextFileSync(`${dir}/log.txt`),
      "1970-01-01T00:00:00.000Z session 1 starts\n" +
        "1970-01-01T00:00:00.000Z session 1 ends with 0: done\n",
    );
    // Nothing beside the record: no journal, no temporary file.
    assert.deepEqual(
      [...Deno.readDirSync(dir)].map((entry) => entry.name).sort(),
      ["lock", "log.txt", "run.json", "run.sqlite"],
    );
  }));

Deno.test("Run tells checkpoints that stand from those that were removed or replaced", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "joint", 0);
    const row = (step: number, sha256: string) => ({
      step,
      path: `checkpoints/step-000000${step}`,
      bytes: 7,
      sha256,
    });
    const first = openRun(dir, CONFIG, options);
    for (const step of [1, 2, 3]) first.checkpoint(row(step, "a"));
    first.checkpointsGone(["checkpoints/step-0000001", "checkpoints/step-0000009"]);
    first.checkpoint(row(3, "b")); // the same step once more in one session
    first.close(DONE);
    const second = openRun(dir, CONFIG, { ...options, resume: true, fromStep: 1 });
    second.checkpoint(row(2, "c"));
    second.close(DONE);
    assert.deepEqual(
      readRun(dir).checkpoints.map(({ step, session, sha256, deleted }) => ({
        step,
        session,
        sha256,
        deleted,
      })),
      [
        { step: 1, session: 1, sha256: "a", deleted: true },
        { step: 2, session: 1, sha256: "a", deleted: true },
        { step: 2, session: 2, sha256: "c", deleted: false },
        { step: 3, session: 1, sha256: "b", deleted: false },
      ],
    );
  }));

Deno.test("openRun() writes metrics within a second while nobody calls it", () =>
  withRoot(async (root, options) => {
    const dir = runFolder(root, "demo", "und", 3);
    using run = openRun(dir, CONFIG, options);
    run.metrics(1, { loss: 1 });
    assert.deepEqual({ ...readRun(dir).metrics }, {});
    await new Promise((resolve) => setTimeout(resolve, 1200));
    assert.deepEqual(readRun(dir).metrics.loss.values, [1]);
    assert.equal(readRun(dir).finished, false);
  }));

Deno.test("openRun() refuses an existing run without resume, and keeps it", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    openRun(dir, CONFIG, options).close(DONE);
    throwsLab(
      () => openRun(dir, CONFIG, options),
      UsageError,
      /^Cannot start .*seed-0: this run exists$/,
      2,
    );
    assert.equal(readRun(dir).sessions.length, 1);
    openRun(dir, CONFIG, { ...options, resume: true }).close(DONE); // the lock was given back
  }));

Deno.test("openRun() begins a run again that failed before it held anything", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    openRun(dir, CONFIG, options).close({ exitCode: 3, reason: "Cannot read data" });
    const mended = resolveConfig(CONFIG.values, [
      { origin: "--set", values: { optimizer: { lr: 0.01 } } },
    ]);
    const again = openRun(dir, mended, options);
    assert.deepEqual([again.session, again.notes], [2, []]);
    again.metrics(1, { loss: 1 });
    again.close({ exitCode: 3, reason: "Cannot read data" });
    assert.deepEqual(readRun(dir).header.config, mended.values);
    throwsLab(() => openRun(dir, mended, options), UsageError, /this run exists$/, 2);
    throwsLab(
      () => openRun(dir, CONFIG, { ...options, resume: true }),
      UsageError,
      /settings differ/,
      2,
    );
    const other = runFolder(root, "demo", "und", 1);
    openRun(other, CONFIG, options).close({ exitCode: 4, reason: "no memory" });
    Deno.mkdirSync(`${other}/checkpoints/step-0000001`, { recursive: true });
    throwsLab(() => openRun(other, CONFIG, options), UsageError, /this run exists$/, 2);
  }));

Deno.test("openRun() on resume hides the rows that the new session replaces and keeps them all", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    const first = openRun(dir, CONFIG, { ...options, resume: true }); // none yet: a new run
    for (let step = 1; step <= 5; step++) first.metrics(step, { loss: step });
    first.close({ exitCode: 130, reason: "interrupted" });
    const second = openRun(dir, CONFIG, { ...options, resume: true, fromStep: 3 });
    second.metrics(4, { loss: 40 });
    second.close(DONE);
    assert.equal(second.session, 2);
    const { metrics, sessions } = readRun(dir);
    assert.deepEqual(metrics.loss, { steps: [1, 2, 3, 4], values: [1, 2, 3, 40] });
    assert.deepEqual(sessions.map((s) => s.exitCode), [130, 0]);
    const db = new DatabaseSync(`${dir}/run.sqlite`, { readOnly: true });
    assert.equal(db.prepare("SELECT count(*) AS n FROM metric").get()!.n, 6);
    db.close();
    // From nothing: all old rows are hidden, also those of step 0.
    openRun(dir, CONFIG, { ...options, resume: true }).close(DONE);
    assert.deepEqual({ ...readRun(dir).metrics }, {});
  }));

Deno.test("openRun() resumes with other steps but not with other settings or data", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    openRun(dir, CONFIG, options).close(DONE);
    const again = { ...options, resume: true };
    const other = (values: object) => resolveConfig(CONFIG.values, [{ origin: "--set", values }]);
    throwsLab(
      () => openRun(dir, other({ optimizer: { lr: 0.01 } }), again),
      UsageError,
      /: settings differ: optimizer.lr 0.001 → 0.01$/,
      2,
    );
    throwsLab(
      () => openRun(dir, CONFIG, { ...again, dataSha256: "x" }),
      UsageError,
      /differ: the data none → x$/,
      2,
    );
    openRun(dir, other({ steps: 99 }), again).close(DONE);
    assert.deepEqual(readRun(dir).header.config, { steps: 99, optimizer: { lr: 1e-3 } });
  }));

Deno.test("openRun() resumes with changed settings where that is allowed, and records every change", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    const stages = [{ name: "first", steps: 5, rate: 1 }, { name: "second", steps: 5, rate: 1 }];
    const config = (change: object) =>
      resolveConfig({ steps: 10, save: { every: 5, keep: 2 }, stages }, [
        { origin: "--set", values: change },
      ]);
    openRun(dir, config({}), options).close(DONE);
    const again = { ...options, resume: true, freeSettings: ["save.every", "steps"] };
    const changed = config({
      steps: 20,
      save: { every: 7, keep: 3 },
      stages: [stages[0], { name: "second", steps: 6, rate: 1 }],
    });
    const refuses = (allow: { allowConfigChange?: boolean }, help: string) =>
      assert.throws(() => openRun(dir, changed, { ...again, ...allow }), (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /: settings differ: save.keep 2 → 3, stages.1.steps 5 → 6$/);
        assert.equal(error.help, help);
        return true;
      });
    refuses({}, "Resume with the old settings, or start another run by --run");
    refuses(
      { allowConfigChange: false },
      "Resume with the old settings, allow the change by --allow-config-change, or start another " +
        "run by --run",
    );
    const before = readRun(dir);
    assert.deepEqual([before.sessions.length, before.events], [1, []]); // the refused ones left nothing
    const run = openRun(dir, changed, { ...again, allowConfigChange: true, dataSha256: "x" });
    run.close(DONE);
    assert.deepEqual(run.notes, [
      "settings changed: save.keep 2 → 3, stages.1.steps 5 → 6, the data none → x",
    ]);
    const { header, events } = readRun(dir);
    assert.deepEqual(header.config, changed.values);
    assert.deepEqual(events.map(({ session, kind, detail }) => ({ session, kind, detail })), [{
      session: 2,
      kind: "config changed",
      detail: {
        changes: ["save.keep 2 → 3", "stages.1.steps 5 → 6", "the data none → x"],
        from: before.header.configSha256,
        to: header.configSha256,
      },
    }]);
    // The new settings are the run's: resuming with them is no change.
    openRun(dir, changed, { ...again, dataSha256: "x" }).close(DONE);
    assert.equal(readRun(dir).events.length, 1);
    const shorter = config({ stages: [stages[0]] });
    throwsLab(
      () => openRun(dir, shorter, { ...again, dataSha256: "x" }),
      UsageError,
      /stages.1.name "second" → absent, stages.1.steps 6 → absent, stages.1.rate 1 → absent$/,
      2,
    );
  }));

Deno.test("openRun() on resume tells of other sources and another adapter", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    openRun(dir, CONFIG, { ...options, session: { adapter: "A" } }).close(DONE);
    Deno.writeTextFileSync(`${root}/lib/a.ts`, "2");
    const run = openRun(dir, CONFIG, { ...options, resume: true, session: { adapter: "B" } });
    run.close(DONE);
    assert.deepEqual(run.notes, [
      "the sources changed since the run was last open",
      "the adapter was A, now it is B",
    ]);
    assert.deepEqual(readRun(dir).events.map((event) => event.kind), [
      "sources changed",
      "adapter changed",
    ]);
  }));

Deno.test("openRun() refuses a second writer in the same process and names the holder", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    using _run = openRun(dir, CONFIG, options);
    throwsLab(
      () => openRun(dir, CONFIG, { ...options, resume: true }),
      BusyError,
      new RegExp(`: process ${Deno.pid} since 1970-01-01T00:00:00.000Z is writing it$`),
      6,
    );
  }));

Deno.test({
  name:
    "openRun() needs only read of the sources and write of the runs; its lock dies with its owner" +
    (DENO ? "" : " (needs permission to run deno)"),
  ignore: !DENO,
  fn: () =>
    withRoot(async (root, options) => {
      const dir = runFolder(`${root}/runs`, "demo", "und", 0);
      Deno.mkdirSync(`${root}/runs`);
      const code = `
        import { openRun } from "${repository}lib/study/runs.ts";
        const config = { values: ${JSON.stringify(CONFIG.values)}, origins: {} };
        const run = openRun(${JSON.stringify(dir)}, config, { root: ${JSON.stringify(root)} });
        run.metrics(1, { loss: 3 });
        run.flush();
        console.log("open");
        setTimeout(() => {}, 60_000);`;
      Deno.writeTextFileSync(`${root}/child.ts`, code);
      const child = new Deno.Command(DENO!, {
        args: [
          "run",
          "--no-prompt",
          "--no-config",
          `--allow-read=${root}`,
          `--allow-write=${root}/runs`,
          `${root}/child.ts`,
        ],
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const reader = child.stdout.getReader();
      try {
        const { value } = await reader.read();
        assert.equal(new TextDecoder().decode(value), "open\n");
        throwsLab(
          () => openRun(dir, CONFIG, { ...options, resume: true }),
          BusyError,
          new RegExp(`: process ${child.pid} since .* is writing it$`),
          6,
        );
        assert.deepEqual(readRun(dir).metrics.loss.values, [3]);
      } finally {
        child.kill("SIGKILL");
        await child.status;
        await reader.cancel();
      }
      const run = openRun(dir, CONFIG, { ...options, resume: true, fromStep: 1 });
      run.close(DONE);
      const { sessions, metrics } = readRun(dir);
      assert.deepEqual(sessions.map((s) => s.exitCode), [null, 0]);
      assert.deepEqual(metrics.loss.values, [3]);
    }),
});

Deno.test("openRun() refuses hostile names and creates nothing for them", () =>
  withRoot((root, options) => {
    throwsLab(() => runFolder(root, "a/b", "und", 0), UsageError, /^Cannot name a study "a\/b"/, 2);
    for (const bad of ["Demo", "a b", "..", "a_b", "-a", "ä", ""]) {
      throwsLab(() => runFolder(root, bad, "und", 0), UsageError, /^Cannot name a study /, 2);
      throwsLab(() => openRun(`${root}/${bad}/und/seed-0`, CONFIG, options), UsageError, /./, 2);
    }
    throwsLab(() => runFolder(root, "demo", "und", -1), UsageError, /seed -1 is not an integer/, 2);
    throwsLab(
      () => openRun(`${root}/demo/und/0`, CONFIG, options),
      UsageError,
      /its path does not end in study\/arm\/seed-0$/,
      2,
    );
    assert.deepEqual([...Deno.readDirSync(root)].map((entry) => entry.name), ["lib"]);
  }));

Deno.test("openRun() says so when its folder cannot be made", () =>
  withRoot((root, options) => {
    Deno.writeTextFileSync(`${root}/demo`, "a file");
    throwsLab(
      () => openRun(`${root}/demo/und/seed-0`, CONFIG, options),
      ResourceError,
      /^Cannot write to .*demo\/und\/seed-0: /,
      4,
    );
  }));

Deno.test("openRun() and readRun() refuse records that are damaged, foreign or newer", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    const again = { ...options, resume: true };
    throwsLab(() => readRun(dir), InputError, /^Cannot read a run from .*: it has no run.json$/, 3);
    openRun(dir, CONFIG, options).close(DONE);

    const database = (sql: string) => {
      const db = new DatabaseSync(`${dir}/run.sqlite`);
      db.exec(sql);
      db.close();
    };
    database("PRAGMA user_version = 2");
    throwsLab(() => readRun(dir), InputError, /its format is 2, this code reads 1$/, 3);
    throwsLab(() => openRun(dir, CONFIG, again), InputError, /its format is 2/, 3);
    database("PRAGMA user_version = 1; PRAGMA application_id = 7");
    throwsLab(() => readRun(dir), InputError, /run.sqlite: it is not a run database$/, 3);
    Deno.writeTextFileSync(`${dir}/run.sqlite`, "no database at all, but long enough a file");
    throwsLab(() => readRun(dir), InputError, /^Cannot open .*: file is not a database$/, 3);
    throwsLab(() => openRun(dir, CONFIG, again), InputError, /file is not a database$/, 3);
    Deno.writeTextFileSync(`${dir}/run.json`, '{"format": 1');
    throwsLab(() => readRun(dir), InputError, /^Cannot read .*run.json: /, 3);
    Deno.writeTextFileSync(`${dir}/run.json`, '{"format": 2}');
    throwsLab(() => readRun(dir), InputError, /run.json: its format is 2, not 1$/, 3);
  }));

Deno.test("Run refuses steps that do not rise, names, values and items that make no sense", () =>
  withRoot((root, options) => {
    using run = openRun(runFolder(root, "demo", "und", 0), CONFIG, options);
    run.metrics(3, { loss: 1 });
    assert.throws(
      () => run.metrics(3, { loss: 1 }),
      /log loss at step 3: step 3 is logged already/,
    );
    run.metrics(3, { other: 1 });
    assert.throws(() => run.metrics(1.5, { loss: 1 }), /at step 1.5: not an integer/);
    assert.throws(() => run.metrics(4, { "a b": 1 }), /Cannot log a metric named "a b"/);
    assert.throws(
      () => run.metrics(4, { loss: "1" as unknown as number }),
      new TypeError("Cannot log loss at step 4: string is not a number"),
    );
    const row = {
      step: 1,
      benchmark: "vqa",
      version: 1,
      scorer: "exact",
      split: "test",
      weights: "raw" as const,
      n: 1,
      value: 1,
      low: 0,
      high: 1,
    };
    assert.throws(() => run.evaluation({ ...row, benchmark: "V Q A" }), /Cannot name a benchmark/);
    assert.throws(() => run.evaluation({ ...row, value: NaN }), /vqa: NaN \[0, 1\] is not finite/);
    assert.throws(
      () => run.evaluation({ ...row, items: [{ item: "a", score: 1 }, { item: "b" }] }),
      /Cannot record item b of vqa: it needs a score or an error, not both/,
    );
    assert.equal(readRun(run.dir).evaluations.length, 0); // the refused one was taken back
  }));

Deno.test("Run refuses to write after it is closed; a left block ends the session with 1", () =>
  withRoot((root, options) => {
    const dir = runFolder(root, "demo", "und", 0);
    const run = openRun(dir, CONFIG, options);
    run.close(DONE);
    for (
      const late of [
        () => run.metrics(1, { loss: 1 }),
        () => run.event("x", null),
        () => run.log("x"),
        () => run.flush(),
      ]
    ) assert.throws(late, /^TypeError: Cannot .*: run .*seed-0 is closed$/);
    {
      using _left = openRun(dir, CONFIG, { ...options, resume: true });
    }
    assert.equal(readRun(dir).sessions[1].reason, "left without being closed");
    assert.equal(readRun(dir).sessions[1].exitCode, 1);
  }));

Deno.test("armRecords() feeds compareArms() with items grouped by image", () =>
  withRoot((root, options) => {
    const arms = { und: [0, 1, 0, 1], joint: [1, 1, 0, 1] };
    const runs = Object.entries(arms).map(([arm, scores]) => {
      const dir = runFolder(root, "demo", arm, 0);
      const run = openRun(dir, CONFIG, options);
      const items = scores.map((score, i) => ({ item: `img-${i >> 1}/q${i & 1}`, score }));
      const value = scores.reduce((a, b) => a + b) / 4;
      const row = { version: 1, scorer: "exact", weights: "raw" as const, n: 4, low: 0, high: 1 };
      run.evaluation({ ...row, step: 1, benchmark: "vqa", split: "test", value: 0 });
      run.evaluation({ ...row, step: 2, benchmark: "vqa", split: "test", value, items });
      run.evaluation({ ...row, step: 2, benchmark: "vqa", split: "train", value: 0.9 });
      run.close(DONE);
      return readRun(dir);
    });
    const records = armRecords(runs);
    assert.deepEqual(records[0].items!.vqa.groups, ["img-0", "img-0", "img-1", "img-1"]);
    const [effect] = compareArms(records, { metric: "vqa", baseline: "und", pair: "seed" });
    assert.deepEqual([effect.mean, effect.items], [0.25, 4]);
    assert.deepEqual([effect.interval!.low, effect.interval!.high], [0, 0.5]);
  }));
