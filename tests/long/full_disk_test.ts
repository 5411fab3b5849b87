// Checkpoints on a disk of one megabyte that is really full: what the system says there, not what a test makes up.

import assert from "node:assert/strict";
import { ResourceError } from "../../lib/errors.ts";
import { DISK } from "../../lib/train/checkpoint/files.ts";
import { cleanUp } from "../../lib/train/checkpoint/retention.ts";
import { writeCheckpoint } from "../../lib/train/checkpoint/write.ts";
import {
  assertHolds,
  assertNoHalves,
  FILES,
  namesIn,
  newest,
  snapshotOf,
} from "../train/checkpoint/snapshots.ts";

const may = (name: "sys" | "run", what: string) =>
  Deno.permissions.querySync(
    name === "sys" ? { name, kind: "uid" } : { name, command: what },
  ).state === "granted";
const isRoot = Deno.build.os === "linux" && may("sys", "uid") && Deno.uid() === 0 &&
  may("run", "mount") && may("run", "umount");

/** Sevens of rows so that three files are 280 kB: three checkpoints fit into a megabyte, a fourth does not. */
const SCALE = 300;

async function system(command: string, ...args: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(command, { args, stderr: "null" }).output();
  return success;
}

Deno.test({
  name: "writeCheckpoint() makes room on a full disk and stops where there is none to make" +
    (isRoot ? "" : " (needs root, and permission to run mount and umount)"),
  ignore: !isRoot,
  fn: async (t) => {
    const disk = await Deno.makeTempDir();
    if (!await system("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)) {
      await t.step({ name: "this machine lets nobody mount", ignore: true, fn: () => {} });
      await Deno.remove(disk);
      return;
    }
    try {
      // Without a look at the free space: the system itself has to refuse.
      const files = { ...DISK, freeBytes: () => Promise.resolve(undefined) };
      const save = (step: number, scale: number, keep = 9) =>
        writeCheckpoint(disk, snapshotOf(step, FILES, scale), { keep, session: 1, files });
      for (const step of [1, 2, 3]) assert.deepEqual((await save(step, SCALE)).removed, []);
      const { removed } = await save(4, SCALE);
      assert.deepEqual(removed, ["checkpoints/step-0000001", "checkpoints/step-0000002"]);
      await assertHolds(`${disk}/checkpoints/step-0000004`, 4, FILES, SCALE);

      await assert.rejects(save(5, 3 * SCALE), (error) => {
        assert.ok(error instanceof ResourceError);
        assert.match(error.message, /^Cannot save step 5 .*No space left on device/);
        assert.equal(error.exitCode, 4);
        return true;
      });
      await assertNoHalves(disk);
      assert.deepEqual(await cleanUp(disk), []);
      assert.deepEqual(namesIn(disk), ["latest", "step-0000004"]);
      assert.equal(await newest(disk), 4);
      await save(5, SCALE); // a smaller one fits: nothing else is the matter
      assert.equal(await newest(disk), 5);

      // With the look: refused before anything is written.
      const looking = { keep: 9, session: 1 };
      await assert.rejects(
        writeCheckpoint(disk, snapshotOf(6, FILES, 9 * SCALE), looking),
        (error) => error instanceof ResourceError && /too little space .* free/.test(error.message),
      );
      assert.equal(await newest(disk), 5);
    } finally {
      assert.ok(await system("umount", disk));
      await Deno.remove(disk);
    }
  },
});
