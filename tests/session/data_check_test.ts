// The check of data before a training: what is left out and why, what is only told, when it refuses, what a resume
// takes over.

import assert from "node:assert/strict";
import type { Communicator } from "../../lib/comm/communicator.ts";
import { SOLO } from "../../lib/comm/communicator.ts";
import { InputError } from "../../lib/errors.ts";
import { closeSources, type OpenSources, openSources } from "../../lib/session/data.ts";
import { checkSources, type DataCheck, leaveOut, saveCheck } from "../../lib/session/data_check.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { findCheckpoint } from "../../lib/train/checkpoint/find.ts";
import { SOURCE_DEFAULTS, VALIDATION_DEFAULTS } from "../../lib/train/config/defaults.ts";
import { inWorld, phantomPng, vlm } from "../data/training/check_world.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { inFolder, shortSettings, trainUntil } from "./small_runs.ts";

const RULES = { checkUpTo: 1000, leaks: "refuse", mostBad: 0.5, workers: 0 } as const;

const LINES = [
  vlm("0.png"),
  vlm("absent.png"),
  vlm("torn.png"),
  vlm("held-out.png"),
  vlm("copy.png"),
  vlm("0.png"),
  vlm("1.png"),
];

/** Seven records, of which line 2 to 5 are bad and line 6 repeats line 1, and three held out. */
async function withData(
  work: (dir: string, sources: OpenSources, heldOut: OpenSources) => Promise<void>,
): Promise<void> {
  const [zero, one, two, large, small, four] = await Promise.all([
    phantomPng(0),
    phantomPng(1),
    phantomPng(2),
    phantomPng(3),
    phantomPng(3, 128),
    phantomPng(4),
  ]);
  const files = {
    "train.jsonl": LINES.join("\n") + "\n",
    "val.jsonl": ["held-out.png", "large.png", "4.png"].map((name) => vlm(name)).join("\n"),
    "0.png": zero,
    "1.png": one,
    "torn.png": zero.subarray(0, 200),
    "held-out.png": two,
    "copy.png": small,
    "large.png": large,
    "4.png": four,
  };
  await inWorld(files, async (dir) => {
    const name = "data";
    const sources = await openSources([{ ...SOURCE_DEFAULTS, name, path: `${dir}/train.jsonl` }]);
    const heldOut = await openSources([{ ...VALIDATION_DEFAULTS, name, path: `${dir}/val.jsonl` }]);
    try {
      await work(dir, sources, heldOut);
    } finally {
      closeSources([...sources, ...heldOut]);
    }
  });
}

Deno.test("checkSources() finds what data check finds, and leaveOut() leaves the bad ones out", () =>
  withData(async (dir, sources, heldOut) => {
    const notes: string[] = [];
    const found = await checkSources(RULES, sources, heldOut, {
      onNote: (n) => void notes.push(n),
    });
    const { bad, told, records } = found!;
    assert.equal(records, 7);
    assert.deepEqual(bad.map(({ index, kind }) => [index, kind]), [
      [1, "record"],
      [2, "image"],
      [3, "leak"],
      [4, "near-leak"],
    ]);
    assert.match(bad[0].message, /train\.jsonl line 2, "image" 1: "absent\.png" does not exist/);
    assert.match(bad[1].message, /torn\.png/);
    assert.deepEqual(told.map(({ kind, count }) => [kind, count]), [["repeated", 1]]);
    assert.match(told[0].first, /line 6/);
    const [{ source }] = leaveOut(sources, found!.bad);
    assert.equal(source.count, 3);
    const lines = [0, 1, 2].map((i) => source.where(i));
    assert.deepEqual(lines, [1, 6, 7].map((line) => `${dir}/train.jsonl line ${line}`));
    assert.equal(notes.length, 2);
    assert.match(
      notes[0],
      /^left out 4 of 7 records \(the run's data-check\.json lists them\): 1 cannot be read/,
    );
    assert.match(notes[1], /^warning: of 7 records 1 repeat another; the first: .*line 6/);
  }));

Deno.test("above data.mostBad a training is refused, with file, line, field and what to do", () =>
  withData(async (dir, sources, heldOut) => {
    await assert.rejects(
      checkSources({ ...RULES, mostBad: 0.01 }, sources, heldOut),
      (error) => {
        assert.ok(error instanceof InputError);
        assert.match(
          error.message,
          /of 7 records 1 cannot be read, .* held out too, .*more than 1 %$/m,
        );
        assert.ok(error.message.includes(`${dir}/train.jsonl line 2, "image" 1`), error.message);
        assert.match(error.message, /line 3, "image"/);
        assert.match(error.message, /\n +and 1 more$/);
        assert.match(error.help!, /--fix .*data\.mostBad.*data\.leaks="tell"/);
        return true;
      },
    );
  }));

Deno.test("with data.leaks tell, images that are held out too are trained on and told", () =>
  withData(async (_, sources, heldOut) => {
    const found = await checkSources({ ...RULES, leaks: "tell" }, sources, heldOut);
    assert.deepEqual(found!.bad.map(({ index }) => index), [1, 2]);
    const told = found!.told.map(({ kind, count }) => [kind, count]);
    assert.deepEqual(told, [["repeated", 1], ["leak", 1], ["near-leak", 1]]);
  }));

Deno.test("held-out records that cannot be used are left out, or refused", () =>
  withData(async (dir, sources, heldOut) => {
    await Deno.remove(`${dir}/4.png`);
    await Deno.writeFile(`${dir}/large.png`, new Uint8Array(9));
    const notes: string[] = [];
    const found = await checkSources(RULES, sources, heldOut, {
      onNote: (n) => void notes.push(n),
    });
    const bad = found!.badHeldOut.map(({ index, kind }) => [index, kind]);
    assert.deepEqual(bad, [[1, "image"], [2, "record"]]);
    assert.equal(leaveOut(heldOut, found!.badHeldOut)[0].source.count, 1);
    assert.ok(notes.some((note) => /^left out 2 of 3 held-out records/.test(note)), notes.join());
    const [good] = leaveOut(sources, found!.bad);
    const strict = { ...RULES, mostBad: 0 };
    await assert.rejects(checkSources(strict, [good], heldOut), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, /^Cannot validate on this data: of 3 records 1 have an image/);
      assert.match(error.message, /val\.jsonl line 3, "image" 1/);
      assert.match(error.help!, /data\.validation\.N\.exclude/);
      return true;
    });
  }));

Deno.test("a resume takes over what was found; other rules look again", () =>
  withData(async (dir, sources, heldOut) => {
    const found = await checkSources(RULES, sources, heldOut, { run: dir });
    await saveCheck(dir, found);
    await Deno.remove(`${dir}/1.png`);
    assert.deepEqual(await checkSources(RULES, sources, heldOut, { run: dir }), found);
    const again = await checkSources({ ...RULES, leaks: "tell" }, sources, heldOut, { run: dir });
    assert.deepEqual(again!.bad.map(({ index }) => index), [1, 2, 6]);
    await Deno.writeTextFile(`${dir}/data-check.json`, "{");
    await assert.rejects(checkSources(RULES, sources, heldOut, { run: dir }), InputError);
  }));

Deno.test("large data and phantoms are not looked at before the first step", () =>
  withData(async (_, sources, heldOut) => {
    const notes: string[] = [];
    const onNote = (note: string) => void notes.push(note);
    assert.equal(
      await checkSources({ ...RULES, checkUpTo: 9 }, sources, heldOut, { onNote }),
      undefined,
    );
    assert.match(notes[0], /10 records, more than data\.checkUpTo 9, are checked only as they are/);
    assert.equal(
      await checkSources({ ...RULES, checkUpTo: 0 }, sources, heldOut, { onNote }),
      undefined,
    );
    const phantoms = await openSources([{
      ...SOURCE_DEFAULTS,
      name: "p",
      path: "phantoms?count=9",
    }]);
    assert.equal(await checkSources(RULES, phantoms, phantoms, { onNote }), undefined);
    closeSources(phantoms);
    assert.equal(notes.length, 1);
  }));

/** Two processes in one: sums and broadcasts meet in turn. */
function pair(): Communicator[] {
  let left: { values: unknown; meet: (other: unknown) => void } | undefined;
  const meet = <T>(values: T): Promise<T> => {
    if (left === undefined) return new Promise((r) => left = { values, meet: r as never });
    const { values: other, meet: answer } = left;
    left = undefined;
    answer(values);
    return Promise.resolve(other as T);
  };
  return [0, 1].map((rank) => ({
    ...SOLO,
    rank,
    size: 2,
    sumNumbers: async (own: readonly number[]) => {
      const other = await meet(own);
      return own.map((n, i) => n + other[i]);
    },
    broadcast: async (values: Uint8Array | Float32Array, root: number) => {
      const other = await meet(values.slice());
      if (rank !== root) values.set(other);
    },
  }));
}

Deno.test("the first process checks for all, and all leave the same records out", () =>
  withData(async (_, sources, heldOut) => {
    const notes: string[] = [];
    const found = await Promise.all(
      pair().map((comm) =>
        checkSources(RULES, sources, heldOut, { comm, onNote: (n) => void notes.push(n) })
      ),
    );
    assert.equal((found[0] as DataCheck).bad.length, 4);
    assert.deepEqual(found[1], found[0]);
    assert.equal(notes.length, 2, "told once");
  }));

Deno.test(
  "where held-out data cannot be read at last, the steps made so far are saved",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inWorld(
      { "val.jsonl": `${vlm("0.png")}\n{\n`, "0.png": await phantomPng(0) },
      async (dir) => {
        const settings = shortSettings(
          `data.validation=[{"path":${JSON.stringify(`${dir}/val.jsonl`)}}]`,
          "data.checkUpTo=0",
          "validate.every=2",
          "accumulate=1",
        );
        const run = `${dir}/study/late/seed-0`;
        await assert.rejects(trainUntil(gpu, settings, { run }), InputError);
        assert.equal((await findCheckpoint(run))?.step, 2);
      },
    );
  },
);

Deno.test("fewer held-out records than asked for are looked at once each", GPU_TEST, async () => {
  const gpu = await testGpu();
  const path = new URL("../../experiments/formats/vlm", import.meta.url).pathname;
  await inFolder(async (dir) => {
    await Deno.writeTextFile(
      `${dir}/words.json`,
      JSON.stringify({ type: "words", words: ["yes", "no"] }),
    );
    const data = {
      sources: [{ path }],
      validation: [{ path, split: null }],
      leaks: "tell",
      workers: 0,
    };
    const settings = shortSettings(
      ...Object.entries(data).map(([key, value]) =>
        `data.${key}=${typeof value === "string" ? value : JSON.stringify(value)}`
      ),
      `tokenizer.words=${dir}/words.json`,
      'stages=[{"name":"first","steps":2,"warmup":0,"mix":{"i2t":1,"t2i":0,"interleaved":0,"text":0}}]',
      "validate.every=2",
      "validate.samples=64",
      "validate.ask=64",
      "accumulate=1",
    );
    const run = `${dir}/study/few/seed-0`;
    const steps = await trainUntil(gpu, settings, { run });
    const { answers, text } = steps.at(-1)!.validation!;
    assert.ok(text! > 0);
    const items = answers.map(({ item }) => item);
    assert.ok(items.length > 0 && new Set(items).size === items.length, items.join());
    const record = readRun(run);
    assert.ok(record.sessions.at(-1)!.exitCode === 0);
    assert.ok((await Deno.stat(`${run}/data-check.json`)).isFile);
  });
});
