// The command on disks that are really too small, filled up under it, or read-only.

import assert from "node:assert/strict";
import { readRun } from "../../lib/study/read_run.ts";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { startTraining } from "../session/processes.ts";
import { leftBehind, SHORT } from "../session/small_runs.ts";
import { longTest } from "./long.ts";

const may = (command: string) =>
  Deno.permissions.querySync({ name: "run", command }).state === "granted";
const isRoot = Deno.build.os === "linux" &&
  Deno.permissions.querySync({ name: "sys", kind: "uid" }).state === "granted" &&
  Deno.uid() === 0 && may("mount") && may("umount");

async function system(command: string, ...args: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(command, { args, stderr: "null" }).output();
  return success;
}

/** Of one checkpoint and a record, not of two: one takes 12 MB. */
const SIZE = "14m";

longTest(
  `a training on a disk that is too small, fills up or is read-only ends with 4, and goes on later` +
    (isRoot ? "" : " (needs root, and permission to run mount and umount)"),
  async () => {
    const dir = await Deno.makeTempDir();
    const disk = `${dir}/disk`;
    await Deno.mkdir(disk);
    if (!await system("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)) {
      await Deno.remove(dir, { recursive: true });
      console.log("this machine lets nobody mount");
      return;
    }
    try {
      const config = `${dir}/short.json`;
      const settings = { ...SHORT, accumulate: 1, save: { every: 2, keep: 2 } };
      await Deno.writeTextFile(config, JSON.stringify(settings));
      const end = async (run: string, ...args: string[]) => {
        const started = await startTraining(["--config", config, "--run", run, ...args]);
        const { code, events, stderr } = await started.ended;
        const message = events.find(({ event }) => event === "error")?.message ?? "";
        return { code, message, stderr, steps: events.filter(({ event }) => event === "step") };
      };
      const resize = (options: string) => system("mount", "-o", `remount,${options}`, disk);

      const never = await end(`${disk}/study/never/seed-0`);
      assert.deepEqual([never.code, never.steps], [4, []], never.stderr);
      assert.match(never.message, /one needs \d{8} bytes, \d{7} are free/);
      await Deno.remove(`${disk}/study`, { recursive: true });

      assert.ok(await resize(`size=${SIZE}`));
      const run = `${disk}/study/full/seed-0`;
      const full = await end(run);
      assert.equal(full.code, 4, full.stderr);
      assert.match(full.message, /Cannot save step 4 in .*needs \d{8} bytes, \d{7} are free/);
      assert.equal((await findCheckpoint(run))?.step, 2);
      assert.equal(readRun(run).sessions[0].exitCode, 4);

      // Not even the record can be written.
      const slow = await startTraining([
        ...["--config", config, "--run", run, "--resume"],
        ...["--set", "save.every=1000", "--set", "batch.samples=16", "--allow-config-change"],
      ]);
      await slow.step(3);
      await fill(`${disk}/fill`);
      const { code, events, stderr } = await slow.ended;
      assert.equal(code, 4, stderr);
      assert.match(
        events.find(({ event }) => event === "error")!.message!,
        /Cannot (write the record of|save step)/,
      );
      assert.equal((await findCheckpoint(run))?.step, 2);
      await Deno.remove(`${disk}/fill`);

      assert.ok(await resize("ro"));
      const read = await end(`${disk}/study/read/seed-0`);
      assert.deepEqual([read.code, read.steps], [4, []], read.stderr);
      assert.match(read.message, /Cannot write to .*Read-only file system/);

      assert.ok(await resize("rw,size=80m"));
      const rest = await end(run, "--resume", "--allow-config-change");
      assert.equal(rest.code, 0, rest.stderr);
      const whole = `${dir}/study/whole/seed-0`;
      assert.equal((await end(whole)).code, 0);
      const [got, want] = await Promise.all([run, whole].map((each) => leftBehind(each, 7)));
      assert.deepEqual(got.digests, want.digests);
      assert.deepEqual(got.rows, want.rows);
    } finally {
      assert.ok(await system("umount", disk));
      await Deno.remove(dir, { recursive: true });
    }
  },
  { ignore: !isRoot },
);

/** Writes until the disk is full. */
async function fill(path: string): Promise<void> {
  using file = await Deno.open(path, { create: true, write: true });
  for (let size = 2 ** 20; size >= 1;) {
    try {
      if (await file.write(new Uint8Array(size)) < size) size >>= 1;
    } catch (cause) {
      if ((cause as { code?: string }).code !== "ENOSPC") throw cause;
      size >>= 1;
    }
  }
}
