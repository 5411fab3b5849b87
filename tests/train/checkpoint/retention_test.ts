import assert from "node:assert/strict";
import { InputError, UsageError } from "../../../lib/errors.ts";
import { findCheckpoint } from "../../../lib/train/checkpoint/find.ts";
import { forgetName, nameCheckpoint } from "../../../lib/train/checkpoint/names.ts";
import { cleanUp, makeRoom } from "../../../lib/train/checkpoint/retention.ts";
import { writeCheckpoint } from "../../../lib/train/checkpoint/write.ts";
import { assertHolds, namesIn, snapshotOf, withRun } from "./snapshots.ts";

/** Steps that have a folder. */
const steps = (runDir: string) =>
  namesIn(runDir).flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []).map(Number);

Deno.test("writeCheckpoint() keeps the newest few and those with a name", () =>
  withRun([], async (runDir) => {
    for (let step = 1; step <= 6; step++) {
      const { removed } = await writeCheckpoint(runDir, snapshotOf(step), { keep: 2, session: 1 });
      if (step === 2) await nameCheckpoint(runDir, "best", 1);
      if (step === 3) await nameCheckpoint(runDir, "best", 2);
      if (step === 4) await nameCheckpoint(runDir, "for-the-paper", 3);
      assert.deepEqual(
        removed,
        [[], [], [], [1], [], [4]][step - 1].map((s) => `checkpoints/step-000000${s}`),
      );
    }
    assert.deepEqual(steps(runDir), [2, 3, 5, 6]);
    assert.equal((await findCheckpoint(runDir, { name: "best" }))?.step, 2);
    assert.equal((await findCheckpoint(runDir, { name: "latest" }))?.step, 6);
    await forgetName(runDir, "best");
    await writeCheckpoint(runDir, snapshotOf(7), { keep: 2, session: 1 });
    assert.deepEqual(steps(runDir), [3, 6, 7]);
  }));

Deno.test("writeCheckpoint() keeps what it saved, though an earlier session went further", () =>
  withRun([1, 2, 3, 4], async (runDir) => {
    await writeCheckpoint(runDir, snapshotOf(2), { keep: 1, session: 2 });
    assert.deepEqual(steps(runDir), [2]);
    await assertHolds(`${runDir}/checkpoints/step-0000002`, 2);
  }));

Deno.test("makeRoom() keeps the newest whole checkpoint, and all of them where none is whole", () =>
  withRun([1, 2, 3], async (runDir) => {
    const damage = (step: number) =>
      Deno.truncateSync(`${runDir}/checkpoints/step-000000${step}/model.safetensors`, 50);
    damage(3);
    Deno.writeTextFileSync(`${runDir}/checkpoints/latest`, "step-0000001\n"); // it protects nothing
    assert.deepEqual(await makeRoom(runDir, { session: 2 }), ["checkpoints/step-0000001"]);
    assert.deepEqual(steps(runDir), [2, 3]);
    damage(2);
    assert.deepEqual(await makeRoom(runDir, { session: 2 }), []);
    assert.deepEqual(steps(runDir), [2, 3]);
  }));

Deno.test("cleanUp() removes what dead sessions left and touches nothing else", () =>
  withRun([1], async (runDir) => {
    const folder = `${runDir}/checkpoints`;
    Deno.mkdirSync(`${folder}/step-0000002.tmp-3/deep`, { recursive: true });
    Deno.writeTextFileSync(`${folder}/step-0000002.tmp-3/model.safetensors`, "half");
    Deno.writeTextFileSync(`${folder}/latest.tmp`, "step");
    Deno.writeTextFileSync(`${folder}/notes.txt`, "mine");
    Deno.mkdirSync(`${folder}/step-2.tmp-x`);
    assert.deepEqual(await cleanUp(runDir), ["latest.tmp", "step-0000002.tmp-3"]);
    assert.deepEqual(namesIn(runDir), ["latest", "notes.txt", "step-0000001", "step-2.tmp-x"]);
    assert.deepEqual(await cleanUp(`${runDir}/none`), []);
  }));

Deno.test("nameCheckpoint() refuses names that are taken or unfit, and steps that are not there", () =>
  withRun([1], async (runDir) => {
    for (const name of ["latest", "step-0000001", "Best", "../best", "a.tmp", ""]) {
      await assert.rejects(nameCheckpoint(runDir, name, 1), UsageError);
    }
    await assert.rejects(nameCheckpoint(runDir, "best", 2), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, /^Cannot name step 2 best: .* has no step-0000002$/);
      return true;
    });
    assert.deepEqual(namesIn(runDir), ["latest", "step-0000001"]);
  }));
