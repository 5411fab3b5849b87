import assert from "node:assert/strict";
import { parquetWriteBuffer } from "hyparquet-writer";
import { Draws } from "../../../lib/data/draws.ts";
import {
  excludeRecords,
  type Exclusion,
  placeOf,
  readExclusions,
} from "../../../lib/data/training/exclusions.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { check, inWorld, phantomPng, vlm } from "./check_world.ts";
import { memorySource } from "./memory_source.ts";

const row = (record: string, more: Partial<Exclusion> = {}): Exclusion => ({
  record,
  kind: "image",
  why: "it is damaged",
  index: 0,
  records: 6,
  fingerprint: "made",
  ...more,
});

Deno.test("excludeRecords() leaves out the records of the list and keeps blocks and tasks", async () => {
  const source = memorySource("made", 9, { blocks: [0, 3, 6] });
  const left = excludeRecords(source, [3, 4, 5, 7].map((i) => row(`made.jsonl line ${i + 1}`)));
  assert.deepEqual([left.count, left.blocks], [5, [0, 3]]);
  assert.deepEqual([...left.tasks], [0, 1, 2, 6, 8].map((i) => source.tasks[i]));
  assert.deepEqual(
    Array.from({ length: 5 }, (_, i) => left.where(i)),
    [0, 1, 2, 6, 8].map((i) => `made.jsonl line ${i + 1}`),
  );
  assert.equal((await left.read(3, new Draws(1))).where, "made.jsonl line 7");
  assert.equal((await left.inspect(4)).where, "made.jsonl line 9");
  assert.throws(() => left.where(5), /Cannot read record 5 of made: it has 5, from 0/);
  assert.notEqual(left.fingerprint, source.fingerprint);
  assert.equal(excludeRecords(source, [row("other.jsonl line 1")]), source);
  const all = Array.from({ length: 9 }, (_, i) => row(`made.jsonl line ${i + 1}`));
  assert.throws(() => excludeRecords(source, all), /all its records are on the list/);
  const changed = row("made.jsonl line 4", { index: 3, records: 9, fingerprint: "before" });
  assert.throws(() => excludeRecords(source, [changed]), /made: it changed since the list/);
});

Deno.test("excludeRecords() serves a split and another folder than the list was made of", async () => {
  const said = (split: string) => vlm("a.png", { split });
  const files = { "data/all.jsonl": [said("test"), said("train"), said("train")].join("\n") };
  await inWorld(files, async (dir) => {
    const whole = await openSource(`${dir}/data`);
    assert.equal(placeOf(whole, 2), "all.jsonl line 3");
    const list = [row(placeOf(whole, 2), { index: 2, records: 3, fingerprint: whole.fingerprint })];
    await Deno.rename(`${dir}/data`, `${dir}/moved`);
    const split = await openSource(`${dir}/moved/all.jsonl`, { split: "train" });
    const left = excludeRecords(split, list);
    assert.deepEqual([left.count, left.where(0)], [1, `${dir}/moved/all.jsonl line 2`]);
    assert.equal(placeOf(await openSource(`${dir}/moved/`), 2), "all.jsonl line 3");
  });
});

Deno.test("readExclusions() names line and field of what is no list", async () => {
  const good = row("a.jsonl line 1");
  const { why: _, ...without } = good;
  const files = {
    "good.jsonl": `${JSON.stringify(good)}\n`,
    "field.jsonl": `${JSON.stringify(good)}\n${JSON.stringify(without)}\n`,
    "index.jsonl": JSON.stringify({ ...good, index: -1 }),
    "json.jsonl": "{",
  };
  await inWorld(files, async (dir) => {
    assert.deepEqual(await readExclusions(`${dir}/good.jsonl`), [good]);
    await assert.rejects(readExclusions(`${dir}/field.jsonl`), /field\.jsonl line 2: "why" is/);
    await assert.rejects(
      readExclusions(`${dir}/index.jsonl`),
      /line 1: "index" is no whole number/,
    );
    await assert.rejects(readExclusions(`${dir}/json.jsonl`), /line 1: it is not JSON/);
  });
});

Deno.test("a source tells a record's place as the record does, in every format", async () => {
  const png = await phantomPng(0, 32);
  const files: Record<string, string | Uint8Array> = {
    "jsonl/a.jsonl": `${vlm("0.png")}\n\n${vlm("0.png")}\n`,
    "jsonl/b.jsonl": vlm("0.png"),
    "jsonl/0.png": png,
    "folder/train/x.png": png,
    "folder/train/x.txt": "a text",
    "pack/manifest.jsonl": JSON.stringify({
      id: "one",
      file: "0.png",
      split: "val",
      modality: "ct",
      caption: "a caption",
    }),
    "pack/0.png": png,
    "t2i/rows.parquet": parquetFile([png, png, png]),
  };
  await inWorld(files, async (dir) => {
    const opened = ["jsonl", "folder", "pack", "t2i"].map((name) => openSource(`${dir}/${name}`));
    const sources = [...await Promise.all(opened), openPhantoms("phantoms?count=5")];
    assert.deepEqual(sources.map(({ count }) => count), [3, 1, 2, 3, 5]);
    for (const source of sources) {
      for (let i = 0; i < source.count; i++) {
        assert.equal((await source.read(i, new Draws(1))).where, source.where(i));
        assert.equal((await source.inspect(i)).where, source.where(i));
      }
      assert.throws(() => source.where(source.count), /Cannot read record/);
      source.close();
    }
    assert.deepEqual(sources.map((source) => placeOf(source, source.count - 1)), [
      "b.jsonl line 1",
      "train/x.txt",
      "manifest.jsonl one, caption",
      "rows.parquet row 2",
      "phantoms?count=5 record 4",
    ]);
    const { report, kinds } = await check(`${dir}/t2i`);
    assert.deepEqual([report.tally.uses, kinds], [3, ["small", "repeated", "repeated"]]);
  });
});

function parquetFile(images: Uint8Array[]): Uint8Array {
  const captions = images.map(() => JSON.stringify({ caption: "a round spot" }));
  const buffer = parquetWriteBuffer({
    columnData: [
      { name: "image", data: images, type: "BYTE_ARRAY" },
      { name: "captions", data: captions, type: "STRING" },
    ],
    rowGroupSize: 2,
  });
  return new Uint8Array(buffer);
}
