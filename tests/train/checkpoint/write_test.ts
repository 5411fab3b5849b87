import assert from "node:assert/strict";
import { LabError, ResourceError } from "../../../lib/errors.ts";
import { readManifest } from "../../../lib/train/checkpoint/manifest.ts";
import { cleanUp } from "../../../lib/train/checkpoint/retention.ts";
import { checkRoom } from "../../../lib/train/checkpoint/room.ts";
import { snapshotBytes } from "../../../lib/train/checkpoint/snapshot.ts";
import { writeCheckpoint } from "../../../lib/train/checkpoint/write.ts";
import { type Fault, FaultyFiles } from "./faulty_files.ts";
import {
  assertHolds,
  assertNoHalves,
  copyFolder,
  namesIn,
  newest,
  snapshotOf,
  withRun,
} from "./snapshots.ts";

Deno.test("writeCheckpoint() saves what openSnapshot() gives back, and says its size", () =>
  withRun([], async (runDir) => {
    const { row, removed } = await writeCheckpoint(runDir, snapshotOf(12), { keep: 3, session: 4 });
    const folder = `${runDir}/checkpoints/step-0000012`;
    await assertHolds(folder, 12);
    assert.deepEqual(removed, []);
    const sizes = [...Deno.readDirSync(folder)].map(({ name }) =>
      Deno.statSync(`${folder}/${name}`).size
    );
    const bytes = sizes.reduce((a, b) => a + b);
    assert.deepEqual({ ...row, sha256: row.sha256.length }, {
      step: 12,
      path: "checkpoints/step-0000012",
      bytes,
      sha256: 64,
    });
    assert.ok(snapshotBytes(snapshotOf(12)) < bytes);
    assert.equal((await readManifest(folder)).session, 4);
    assert.equal(Deno.readTextFileSync(`${runDir}/checkpoints/latest`), "step-0000012\n");
    assert.deepEqual(namesIn(runDir), ["latest", "step-0000012"]);
  }));

Deno.test("writeCheckpoint() gives equal snapshots equal bytes", () =>
  withRun([], async (one) => {
    await withRun([], async (other) => {
      const [a, b] = [
        await writeCheckpoint(one, snapshotOf(5), { keep: 1, session: 1 }),
        await writeCheckpoint(other, snapshotOf(5), { keep: 1, session: 1 }),
      ];
      assert.deepEqual(a.row, b.row);
    });
  }));

Deno.test("writeCheckpoint() writes, syncs, renames and points, in this order", () =>
  withRun([1], async (runDir) => {
    const files = new FaultyFiles(`${runDir}/checkpoints`);
    await writeCheckpoint(runDir, snapshotOf(2), { keep: 1, session: 7, files });
    const temporary = "step-0000002.tmp-7";
    const saved = ["model", "ema", "optimizer"].map((name) => `${name}.safetensors`);
    const each = [...saved, "state.json", "manifest.json"].flatMap((name) => [
      `create ${temporary}/${name}`,
      `write ${temporary}/${name}`,
      `sync ${temporary}/${name}`,
      `close ${temporary}/${name}`,
    ]);
    const calls = files.calls.map(({ action, path }) => `${action} ${path}`)
      .filter((call, i, all) => call !== all[i - 1]) // one tensor after the other
      .filter((call) => !/^(list|freeBytes)/.test(call));
    assert.deepEqual(calls, [
      `remove ${temporary}`,
      `makeFolder ${temporary}`,
      ...each,
      `syncFolder ${temporary}`,
      `rename ${temporary}`,
      "syncFolder ",
      "create latest.tmp",
      "write latest.tmp",
      "sync latest.tmp",
      "close latest.tmp",
      "rename latest.tmp",
      "syncFolder ",
      "remove step-0000002.old-7",
      "remove step-0000001.tmp-7",
      "rename step-0000001",
      "remove step-0000001.tmp-7",
      "syncFolder ",
    ]);
  }));

Deno.test("writeCheckpoint() holds one tensor at a time: the next is read when it is written", () =>
  withRun([], async (runDir) => {
    const files = new FaultyFiles(`${runDir}/checkpoints`);
    const snapshot = snapshotOf(1, ["model", "ema"]);
    let before: Uint8Array | undefined;
    for (const { tensors } of snapshot.files) {
      for (const tensor of tensors) {
        const { read, name } = tensor;
        tensor.read = async () => {
          files.calls.push({ action: "read", path: name });
          if (before) assert.equal(before.length, 0); // given back
          return before = await read();
        };
      }
    }
    await writeCheckpoint(runDir, snapshot, { keep: 1, session: 1, files });
    const seen = files.calls.map(({ action }) => action)
      .filter((action) => ["create", "read", "write"].includes(action)).join(" ");
    const tensors = "read read write read write read write"; // the first is empty; bf16 comes last
    const file = `create write ${tensors}`;
    assert.equal(seen, `${file} ${file} create write create write create write`);
  }));

/** Tensor files of the snapshots that meet faults: with one, every kind of call is made, and no more than needed. */
const ONE = ["model"];

/** A save into a copy of a run, failing at call `k`; what must hold after it, whatever came of it. */
async function failAt(
  base: string,
  step: number,
  k: number,
  fault: Fault,
  forGood: boolean,
): Promise<{ saved: boolean; failed: boolean }> {
  const runDir = await Deno.makeTempDir();
  const what = `step ${step}, call ${k}, ${fault}${forGood ? " for good" : ""}`;
  try {
    copyFolder(base, runDir);
    const files = new FaultyFiles(runDir, k, fault, forGood);
    const options = { keep: 2, session: 2, files };
    let error: unknown;
    try {
      await writeCheckpoint(runDir, snapshotOf(step, ONE), options);
    } catch (thrown) {
      error = thrown;
    }
    if (error !== undefined) {
      assert.ok(error instanceof ResourceError, `${what}: ${error}`);
      assert.equal((error as LabError).exitCode, 4);
      assert.match(
        (error as LabError).message,
        /^Cannot (save step \d .*checkpoints|remove old checkpoints after saving).*(No space left on device|Input\/output error)/,
      );
    }
    await assertNoHalves(runDir);
    const before = await newest(runDir);
    assert.ok(before === step || before === 2 && error !== undefined, `${what}: ${before} is left`);
    if (!forGood && /^Cannot save/.test((error as Error | undefined)?.message ?? "")) {
      const names = namesIn(runDir); // it has cleared up behind itself
      assert.ok(names.includes(`step-000000${before}`), `${what}: ${names}`);
      assert.ok(!names.some((name) => /tmp/.test(name)), `${what}: ${names}`);
    }
    await cleanUp(runDir);
    assert.equal(await newest(runDir), before, what);
    await assertHolds(`${runDir}/checkpoints/step-000000${before}`, before, ONE);
    assert.ok(namesIn(runDir).every((name) => /^(latest|step-\d{7})$/.test(name)), what);
    // The snapshot is as it was: the same call passes.
    const again = { keep: 2, session: 3, files: new FaultyFiles(runDir) };
    await writeCheckpoint(runDir, snapshotOf(step, ONE), again);
    await assertHolds(`${runDir}/checkpoints/step-000000${step}`, step, ONE);
    return { saved: error === undefined, failed: files.failed };
  } finally {
    await Deno.remove(runDir, { recursive: true });
  }
}

for (const fault of ["ENOSPC", "EIO", "short"] as const) {
  for (const forGood of [false, true]) {
    const shown = `${fault}${forGood ? " from then on" : ""}`;
    Deno.test(`writeCheckpoint() keeps an older checkpoint if any call fails: ${shown}`, () =>
      withRun([1, 2], async (base) => {
        for (const step of [3, 2]) { // a new step, and one that takes the place of another
          const saved: boolean[] = [];
          for (let k = 1;; k++) {
            const outcome = await failAt(base, step, k, fault, forGood);
            if (!outcome.failed) {
              assert.ok(outcome.saved);
              break;
            }
            saved.push(outcome.saved);
          }
          assert.ok(saved.length > 30, `only ${saved.length} calls`);
          const passed = saved.filter(Boolean).length;
          // A full disk is tried once more, unless the save is done and old ones cannot be removed. A short write is
          // written on: header, three tensors that are not empty, record, list and `latest`.
          const removals = step === 3 ? 5 : 1;
          if (forGood) assert.equal(passed, 0);
          else if (fault === "ENOSPC") assert.equal(passed, saved.length - removals);
          else if (fault === "short") assert.equal(passed, 7);
          else assert.equal(passed, 0);
        }
      }, ONE));
  }
}

Deno.test("writeCheckpoint() makes room by removing all but the newest whole checkpoint and named ones", () =>
  withRun([1, 2, 3, 4], async (runDir) => {
    Deno.writeTextFileSync(`${runDir}/checkpoints/best`, "step-0000001\n");
    Deno.truncateSync(`${runDir}/checkpoints/step-0000004/ema.safetensors`, 9);
    const files = new FaultyFiles(runDir, 12, "ENOSPC");
    const options = { keep: 4, session: 2, files };
    const { removed } = await writeCheckpoint(runDir, snapshotOf(5), options);
    assert.deepEqual(removed, ["checkpoints/step-0000002"]);
    assert.deepEqual(namesIn(runDir), [
      "best",
      "latest",
      "step-0000001",
      "step-0000003",
      "step-0000004",
      "step-0000005",
    ]);
  }));

Deno.test("writeCheckpoint() says needed and free bytes where there is too little space, before it writes", () =>
  withRun([1, 2], async (runDir) => {
    const files = new FaultyFiles(runDir);
    files.free = 100;
    const needed = snapshotBytes(snapshotOf(3));
    await assert.rejects(
      writeCheckpoint(runDir, snapshotOf(3), { keep: 3, session: 2, files }),
      (error) => {
        assert.ok(error instanceof ResourceError);
        assert.equal(
          error.message,
          `Cannot save step 3 in ${runDir}/checkpoints: cannot write step-0000003.tmp-2: too ` +
            `little space (a checkpoint needs ${needed} bytes, 100 are free)`,
        );
        return true;
      },
    );
    assert.ok(files.calls.every(({ action }) => action !== "create"));
    assert.deepEqual(namesIn(runDir), ["latest", "step-0000002"]);
    files.free = needed;
    await writeCheckpoint(runDir, snapshotOf(3), { keep: 3, session: 2, files });
    assert.equal(await newest(runDir), 3);
  }));

Deno.test("writeCheckpoint() passes on what reading a tensor throws, and an abort, and leaves no trace", () =>
  withRun([1], async (runDir) => {
    const broken = snapshotOf(2);
    const lost = new ResourceError("Cannot go on: the GPU was lost");
    broken.files[1].tensors[1].read = () => Promise.reject(lost);
    const options = { keep: 1, session: 2 };
    await assert.rejects(writeCheckpoint(runDir, broken, options), (error) => error === lost);
    broken.files[1].tensors[1].read = () => Promise.resolve(new Uint8Array(3));
    await assert.rejects(
      writeCheckpoint(runDir, broken, options),
      /^TypeError: Cannot save und.layers.0.weight: \(7,11\) of F32 has 308 bytes, 3 came$/,
    );
    const stop = new AbortController();
    const slow = snapshotOf(2);
    slow.files[0].tensors[0].read = () => {
      stop.abort(new Error("enough"));
      return Promise.resolve(new Uint8Array(30));
    };
    await assert.rejects(
      writeCheckpoint(runDir, slow, { ...options, signal: stop.signal }),
      /enough/,
    );
    assert.deepEqual(namesIn(runDir), ["latest", "step-0000001"]);
    await assertHolds(`${runDir}/checkpoints/step-0000001`, 1);
  }));

Deno.test("writeCheckpoint() refuses snapshots that would not come back as they are", () =>
  withRun([], async (runDir) => {
    const [model] = snapshotOf(1).files;
    const save = (change: object, keep = 1) =>
      writeCheckpoint(runDir, { ...snapshotOf(1), ...change }, { keep, session: 1 });
    const refused: [object, RegExp][] = [
      [{ state: { loader: { at: NaN } } }, /Cannot save state.loader.at: NaN is no JSON value/],
      [{ state: { list: [1, undefined] } }, /Cannot save state.list.1: undefined is no JSON/],
      [{ state: { bytes: new Uint8Array(2) } }, /Cannot save state.bytes: Uint8Array is no JSON/],
      [{ files: [model, model] }, /Cannot save "model.safetensors": the name is unfit or used/],
      [{ files: [{ ...model, name: "../a.safetensors" }] }, /the name is unfit/],
      [{ files: [{ ...model, tensors: [model.tensors[0], model.tensors[0]] }] }, /name is used/],
      [{ step: -1 }, /Cannot name a checkpoint of step -1/],
    ];
    for (const [change, message] of refused) await assert.rejects(save(change), message);
    await assert.rejects(save({}, 0), /Cannot keep 0 checkpoints: at least 1 stays/);
    assert.deepEqual([...Deno.readDirSync(runDir)], []);
  }));

Deno.test("checkRoom() and writeCheckpoint() refuse a folder that cannot be one, and a full disk", () =>
  withRun([], async (runDir) => {
    await checkRoom(runDir, 10);
    assert.deepEqual(namesIn(runDir), []);
    const files = new FaultyFiles(runDir);
    files.free = 99;
    await assert.rejects(checkRoom(runDir, 100, files), (error) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.message, /checkpoints: one needs 100 bytes, 99 are free$/);
      return true;
    });
    Deno.writeTextFileSync(`${runDir}/file`, "");
    for (const under of [`${runDir}/file`, `${runDir}/file/run`]) {
      await assert.rejects(checkRoom(under, 1), (error) => {
        assert.ok(error instanceof ResourceError);
        assert.match(error.message, /^Cannot save checkpoints in .*: cannot make folder .*: Not a/);
        return true;
      });
      await assert.rejects(
        writeCheckpoint(under, snapshotOf(1), { keep: 1, session: 1 }),
        (error) => error instanceof ResourceError && /Not a directory/.test(error.message),
      );
    }
  }));
