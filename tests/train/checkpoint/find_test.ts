import assert from "node:assert/strict";
import { InputError } from "../../../lib/errors.ts";
import { findCheckpoint } from "../../../lib/train/checkpoint/find.ts";
import {
  manifestText,
  readManifest,
  verifyFolder,
} from "../../../lib/train/checkpoint/manifest.ts";
import { stepFolder, stepOf } from "../../../lib/train/checkpoint/names.ts";
import { openSnapshot } from "../../../lib/train/checkpoint/open.ts";
import { cleanUp } from "../../../lib/train/checkpoint/retention.ts";
import { writeCheckpoint } from "../../../lib/train/checkpoint/write.ts";
import { assertHolds, copyFolder, namesIn, newest, snapshotOf, withRun } from "./snapshots.ts";

const CONTENTS = [
  "ema.safetensors",
  "manifest.json",
  "model.safetensors",
  "optimizer.safetensors",
  "state.json",
];

/** Fails unless a promise is refused as bad input (exit 3) in these words. */
async function refused(work: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof InputError, `${error}`);
    assert.match(error.message, message);
    assert.equal(error.exitCode, 3);
    return true;
  });
}

Deno.test("findCheckpoint() gives the newest step and nothing where there is none", () =>
  withRun([3, 12, 7], async (runDir) => {
    const found = await findCheckpoint(runDir);
    assert.equal(found?.path, `${runDir}/checkpoints/step-0000012`);
    assert.deepEqual([found?.step, found?.skipped], [12, []]);
    assert.equal((await findCheckpoint(runDir, { step: 7 }))?.step, 7);
    assert.equal(await findCheckpoint(`${runDir}/none`), null);
  }));

Deno.test("findCheckpoint() passes over a checkpoint with any file changed, cut, gone, added or of another kind", () =>
  withRun([1, 2], async (runDir) => {
    const folder = `${runDir}/checkpoints/step-0000002`;
    copyFolder(folder, `${runDir}/spare`);
    const files = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(files, CONTENTS);
    /** Spoils the newer checkpoint, looks for one, and mends it. */
    const spoil = async (change: () => void, why: RegExp) => {
      change();
      const found = await findCheckpoint(runDir);
      assert.equal(found?.step, 1, `${why}`);
      assert.deepEqual(found.skipped.map(({ path }) => path), [folder]);
      assert.match(found.skipped[0].why, why);
      await refused(findCheckpoint(runDir, { step: 2 }), why);
      await refused(openSnapshot(folder), why);
      Deno.removeSync(folder, { recursive: true });
      copyFolder(`${runDir}/spare`, folder);
    };
    for (const name of CONTENTS) {
      const path = `${folder}/${name}`;
      const bytes = Deno.readFileSync(path);
      const wrong = new RegExp(
        `^Cannot use checkpoint .*step-0000002: ${
          name === "manifest.json" ? "(manifest.json|its format is)" : name
        } .*`,
      );
      for (let i = 0; i < 20; i++) {
        const at = Math.floor(i * (bytes.length - 1) / 19);
        await spoil(() => {
          const changed = bytes.slice();
          changed[at] ^= 1 << (i % 8);
          Deno.writeFileSync(path, changed);
        }, wrong);
      }
      for (const length of [0, 1, bytes.length >> 1, bytes.length - 1]) {
        await spoil(() => Deno.truncateSync(path, length), wrong);
      }
      await spoil(() => Deno.writeFileSync(path, new Uint8Array(1), { append: true }), wrong);
      const missing = name === "manifest.json" ? /: it has no manifest.json$/ : / is missing$/;
      await spoil(() => Deno.removeSync(path), missing);
      await spoil(() => {
        Deno.removeSync(path);
        Deno.mkdirSync(path);
      }, /is not a file$|cannot be read: Is a directory$/);
    }
    await spoil(
      () => Deno.writeTextFileSync(`${folder}/extra.json`, "{}"),
      /: extra.json is not in its manifest.json$/,
    );
    await spoil(() => {
      Deno.removeSync(folder, { recursive: true });
      copyFolder(`${runDir}/checkpoints/step-0000001`, folder);
    }, /: its name is that of step 2, its content is step 1$/);
    await spoil(() => {
      const text = Deno.readTextFileSync(`${folder}/manifest.json`);
      Deno.writeTextFileSync(`${folder}/manifest.json`, text.replace(`"format": 1`, `"format": 2`));
    }, /: its format is 2, this code reads 1$/);
    assert.equal(await newest(runDir), 2); // mended
  }));

Deno.test("readManifest() refuses lists that another program made up", () =>
  withRun([1], async (runDir) => {
    const folder = `${runDir}/checkpoints/step-0000001`;
    const good = await readManifest(folder);
    const [file] = good.files;
    const lists: [unknown, RegExp][] = [
      [[], /its format is undefined/],
      ["text", /is no record/],
      [null, /is no record/],
      [{ ...good, files: undefined }, /damaged/],
      [{ ...good, files: [null] }, /damaged/],
      [{ ...good, step: 1.5 }, /damaged/],
      [{ ...good, session: "1" }, /damaged/],
      [{ ...good, files: [{ ...file, name: "../../etc/passwd" }] }, /damaged/],
      [{ ...good, files: [{ ...file, bytes: -1 }] }, /damaged/],
      [{ ...good, files: [{ ...file, sha256: "ab" }] }, /damaged/],
    ];
    for (const [list, message] of lists) {
      // Those that are lists carry a digest that fits, as a program that knows the format would write it.
      const isList = typeof list === "object" && list !== null && "files" in list &&
        Array.isArray(list.files) && !list.files.includes(null);
      Deno.writeTextFileSync(
        `${folder}/manifest.json`,
        isList ? manifestText(list as unknown as typeof good) : JSON.stringify(list),
      );
      await refused(readManifest(folder), message);
    }
    Deno.writeTextFileSync(`${folder}/manifest.json`, " ".repeat(2 ** 20 + 1));
    await refused(
      readManifest(folder),
      /manifest.json has 1048577 bytes, at most 1048576 are read$/,
    );
    Deno.writeTextFileSync(`${folder}/manifest.json`, manifestText(good));
    await verifyFolder(folder);
  }));

Deno.test("findCheckpoint() follows the later session, though an earlier one went further", () =>
  withRun([1, 2, 3], async (runDir) => {
    await writeCheckpoint(runDir, snapshotOf(2), { keep: 9, session: 2 }); // went on from step 1
    const found = await findCheckpoint(runDir);
    assert.deepEqual([found?.step, found?.manifest.session], [2, 2]);
    assert.equal((await findCheckpoint(runDir, { step: 3 }))?.manifest.session, 1);
  }));

Deno.test("findCheckpoint() stops where every checkpoint is damaged rather than let a run start over", () =>
  withRun([1, 2], async (runDir) => {
    Deno.truncateSync(`${runDir}/checkpoints/step-0000001/state.json`, 3);
    Deno.removeSync(`${runDir}/checkpoints/step-0000002/manifest.json`);
    await refused(
      findCheckpoint(runDir),
      /^Cannot resume .*: none of its 2 checkpoints is whole: .*state.json has 3 bytes.*; .*no manifest/,
    );
  }));

Deno.test("findCheckpoint() refuses a step or name that is not there and says what is", () =>
  withRun([4, 8], async (runDir) => {
    await assert.rejects(findCheckpoint(runDir, { step: 5 }), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, /^Cannot resume .* from step 5: it has no such checkpoint$/);
      assert.equal(error.help, "it has those of steps 4, 8");
      return true;
    });
    await refused(findCheckpoint(runDir, { name: "best" }), /from best: no checkpoint has this/);
    await refused(findCheckpoint(`${runDir}/none`, { step: 1 }), /has no such checkpoint$/);
  }));

Deno.test("findCheckpoint() counts a folder that made way until another stands in its place", () =>
  withRun([1, 2], async (runDir) => {
    const folder = `${runDir}/checkpoints`;
    Deno.renameSync(`${folder}/step-0000002`, `${folder}/step-0000002.old-5`);
    assert.equal((await findCheckpoint(runDir))?.path, `${folder}/step-0000002.old-5`);
    assert.deepEqual(await cleanUp(runDir), ["step-0000002.old-5"]);
    await assertHolds(`${folder}/step-0000002`, 2);
    copyFolder(`${folder}/step-0000001`, `${folder}/step-0000001.old-5`);
    assert.deepEqual(await cleanUp(runDir), ["step-0000001.old-5"]);
    assert.deepEqual(namesIn(runDir), ["latest", "step-0000001", "step-0000002"]);
  }));

Deno.test("openSnapshot() gives what was saved, without another look at the sums if told so", () =>
  withRun([2], async (runDir) => {
    const folder = `${runDir}/checkpoints/step-0000002`;
    const open = await openSnapshot(folder, { verify: false });
    assert.deepEqual([open.step, open.session], [2, 1]);
    await refused(Promise.resolve().then(() => open.file("vae.safetensors")), /has no vae.safe/);
    open.close();
    copyFolder(folder, `${runDir}/exported`); // a copy may have any name
    await assertHolds(`${runDir}/exported`, 2);
    const path = `${folder}/model.safetensors`;
    const bytes = Deno.readFileSync(path);
    bytes[9] ^= 255; // in the header: the strict reader refuses it without the sums
    Deno.writeFileSync(path, bytes);
    await refused(openSnapshot(folder, { verify: false }), /^Cannot read safetensors file .*model/);
  }));

Deno.test("stepOf() reads what stepFolder() writes and nothing else", () => {
  for (const step of [0, 7, 9_999_999, 10_000_000]) assert.equal(stepOf(stepFolder(step)), step);
  for (const name of ["step-1", "step-00000001", "step-0000001.tmp-1", "step-99999999999999999"]) {
    assert.equal(stepOf(name), undefined);
  }
});
