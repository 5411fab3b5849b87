import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { InputError } from "../../lib/errors.ts";
import { indexedRuns } from "../../lib/study/indexed_runs.ts";
import { findRuns, openIndex } from "../../lib/study/run_index.ts";
import { isLocked, plannedSteps, runState, summarizeRun } from "../../lib/study/run_summary.ts";
import { makeRun, STAGES, withRuns } from "./made_runs.ts";

/** Name → state of every run below a folder. */
function states(root: string): Record<string, string> {
  using index = openIndex(root);
  return Object.fromEntries(indexedRuns(index, root).map(({ name, state }) => [name, state]));
}

/** What the last opening did. */
function changes(root: string, rebuild = false) {
  using index = openIndex(root, { rebuild });
  return index.changes;
}

Deno.test("openIndex() reads a run once, and again when it has changed", () =>
  withRuns((root) => {
    makeRun(root, { seed: 0 });
    makeRun(root, { seed: 1 });
    assert.deepEqual(changes(root), { runs: 2, read: 2, removed: 0, damaged: 0 });
    assert.deepEqual(changes(root), { runs: 2, read: 0, removed: 0, damaged: 0 });
    makeRun(root, { seed: 2 });
    assert.equal(changes(root).read, 1);
    Deno.removeSync(`${root}/made/joint/seed-1`, { recursive: true });
    assert.deepEqual(changes(root), { runs: 2, read: 0, removed: 1, damaged: 0 });
    using index = openIndex(root);
    for (const table of ["metric", "setting", "evaluation", "checkpoint"]) {
      const sql = `SELECT count(*) AS n FROM ${table} WHERE run LIKE '%seed-1'`;
      assert.equal(index.db.prepare(sql).get()!.n, 0, table);
    }
    assert.deepEqual(changes(root, true), { runs: 2, read: 2, removed: 0, damaged: 0 });
  }));

Deno.test("an index that is deleted, damaged or of another version is made again", () =>
  withRuns((root) => {
    makeRun(root);
    const rows = () => {
      using index = openIndex(root);
      assert.equal(index.unwritable, null);
      return indexedRuns(index, root);
    };
    const first = rows();
    const path = `${root}/index.sqlite`;
    Deno.removeSync(path);
    assert.deepEqual(rows(), first);
    Deno.writeTextFileSync(
      path,
      "no database at all, only some text that is long enough".repeat(40),
    );
    assert.deepEqual(rows(), first);
    const db = new DatabaseSync(path);
    db.exec("DROP TABLE metric; PRAGMA user_version = 99");
    db.close();
    assert.deepEqual(rows(), first);
  }));

Deno.test("an index that cannot be written is made in memory, and says why", () =>
  withRuns((root) => {
    makeRun(root);
    Deno.mkdirSync(`${root}/index.sqlite`);
    using index = openIndex(root);
    assert.equal(index.path, ":memory:");
    assert.match(index.unwritable!, /./);
    assert.equal(indexedRuns(index, root).length, 1);
  }));

Deno.test("the state of a run is that of its last session and its lock", () =>
  withRuns((root) => {
    const killed = makeRun(root, { arm: "killed" });
    const db = new DatabaseSync(`${killed.dir}/run.sqlite`);
    db.exec("UPDATE session SET ended = NULL, exit_code = NULL");
    db.close();
    makeRun(root, { arm: "stopped", end: { exitCode: 143, reason: "SIGTERM" } });
    makeRun(root, { arm: "broken", end: { exitCode: 5, reason: "NaN" } });
    const open = makeRun(root, { arm: "open", end: null });
    const expected = {
      "made/broken/seed-0": "failed",
      "made/killed/seed-0": "interrupted",
      "made/open/seed-0": "running",
      "made/stopped/seed-0": "interrupted",
    };
    assert.deepEqual(states(root), expected);
    assert.equal(isLocked(open.dir), true);
    open.close({ exitCode: 0, reason: "finished" });
    assert.equal(isLocked(open.dir), false);
    assert.deepEqual(states(root), { ...expected, "made/open/seed-0": "finished" });
    assert.equal(runState({ ended: "2026", exitCode: 130 }, false), "interrupted");
  }));

Deno.test("a damaged run is listed with what is wrong, and the others as ever", () =>
  withRuns((root) => {
    makeRun(root, { arm: "whole" });
    const { dir } = makeRun(root, { arm: "cut" });
    Deno.writeTextFileSync(`${dir}/run.sqlite`, "x".repeat(5000));
    const { dir: gone } = makeRun(root, { arm: "gone" });
    Deno.removeSync(`${gone}/run.sqlite`);
    const { dir: text } = makeRun(root, { arm: "text" });
    Deno.writeTextFileSync(`${text}/run.json`, "{");
    using index = openIndex(root);
    assert.equal(index.changes.damaged, 3);
    const runs = indexedRuns(index, root);
    assert.deepEqual(runs.map(({ name, state }) => [name.split("/")[1], state]), [
      ["whole", "finished"],
      ["cut", "damaged"],
      ["gone", "damaged"],
      ["text", "damaged"],
    ]);
    assert.match(runs[1].error!, /run\.sqlite: .*not a database/);
    assert.match(runs[2].error!, /run\.sqlite/);
    assert.match(runs[3].error!, /run\.json/);
    assert.throws(() => summarizeRun(gone), InputError);
  }));

Deno.test("the index has last and least values, NaN and infinities included", () =>
  withRuns((root) => {
    makeRun(root, {
      metrics: (step) => ({
        text: [3, 1, 2, 5][step - 1],
        flow: step === 4 ? -Infinity : step,
        bad: NaN,
      }),
      config: { stages: STAGES },
      also: (run) => run.checkpoint({ step: 4, path: "checkpoints/a", bytes: 9, sha256: "x" }),
    });
    using index = openIndex(root);
    const [run] = indexedRuns(index, root);
    assert.deepEqual(run.metrics, { bad: NaN, flow: -Infinity, text: 5 });
    assert.deepEqual([run.step, run.steps], [4, 6]);
    const row = (name: string) => {
      const sql = "SELECT rows, step, value, flag, least, least_step FROM metric WHERE name = ?";
      return { ...index.db.prepare(sql).get(name) };
    };
    assert.deepEqual(row("text"), {
      rows: 4,
      step: 4,
      value: 5,
      flag: null,
      least: 1,
      least_step: 2,
    });
    assert.deepEqual(row("bad"), {
      rows: 4,
      step: 4,
      value: null,
      flag: "nan",
      least: null,
      least_step: null,
    });
    const setting = "SELECT value, origin FROM setting WHERE path = 'stages.1.steps'";
    assert.deepEqual({ ...index.db.prepare(setting).get() }, { value: "2", origin: null });
    const saved = index.db.prepare("SELECT step, bytes FROM checkpoint").all();
    assert.deepEqual(saved.map((r) => ({ ...r })), [{ step: 4, bytes: 9 }]);
  }));

Deno.test("rows that a later session has replaced do not count", () =>
  withRuns(async (root) => {
    const { dir } = makeRun(root, { metrics: (step) => ({ text: step === 4 ? 0 : 9 }) });
    const { openRun } = await import("../../lib/study/runs.ts");
    const { resolveConfig } = await import("../../lib/study/config.ts");
    const again = openRun(dir, resolveConfig({ steps: 4, rate: 1e-3 }, []), {
      root: `${root}/../sources`,
      resume: true,
      fromStep: 2,
    });
    again.metrics(3, { text: 7 });
    again.close({ exitCode: 0, reason: "finished" });
    const { metrics, step, sessions } = summarizeRun(dir);
    assert.deepEqual([metrics[0].value, metrics[0].least, metrics[0].rows, step, sessions], [
      7,
      7,
      3,
      3,
      2,
    ]);
  }));

Deno.test("findRuns() finds runs at any depth, without links, and names them in order", () =>
  withRuns(async (root) => {
    makeRun(root, { study: "b" });
    makeRun(root, { study: "a", seed: 10 });
    makeRun(root, { study: "a", seed: 9 });
    // By a shell: Deno itself makes links only with permission to write everywhere.
    const args = ["-c", 'ln -s "$1" "$2"', "ln", `${root}/a`, `${root}/link`];
    assert.ok((await new Deno.Command("bash", { args }).output()).success);
    assert.deepEqual(findRuns(root), ["a/joint/seed-10", "a/joint/seed-9", "b/joint/seed-0"]);
    assert.deepEqual(findRuns(`${root}/..`).map((name) => name.split("/")[0]), [
      "runs",
      "runs",
      "runs",
    ]);
  }));

Deno.test("plannedSteps() is what the settings say", () => {
  assert.equal(plannedSteps({ stages: STAGES, steps: 99 }), 6);
  assert.equal(plannedSteps({ steps: 99 }), 99);
  assert.equal(plannedSteps({ stages: ["x"] }), null);
  assert.equal(plannedSteps(null), null);
});
