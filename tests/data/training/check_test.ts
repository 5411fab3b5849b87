import assert from "node:assert/strict";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { openTokenizer } from "../../../lib/data/tokenizer.ts";
import { loadSharp } from "../../../lib/data/image.ts";
import { dicomFile, imageParts, type Part, words } from "../dicom_files.ts";
import { check, inWorld, phantomPng, vlm } from "./check_world.ts";
import { memorySource } from "./memory_source.ts";
import { DEFAULT_TOKEN_RULES } from "../../../lib/data/training/check_tally.ts";
import type { InspectedRecord } from "../../../lib/data/training/record.ts";

const SHARED = new URL("../../../../shared/data/", import.meta.url).pathname;
const has = async (name: string) => await Deno.stat(SHARED + name).then(() => true, () => false);
const HAS_DATA = await has("medpack") && await has("vqa-rad");

/** Twelve images of size 160, a clean data set of them, and lines to add. */
const PNGS = await Promise.all(Array.from({ length: 8 }, (_, i) => phantomPng(i)));
const IMAGES = Object.fromEntries(PNGS.map((png, i) => [`images/${i}.png`, png]));
const lines = (...list: string[]) => list.join("\n") + "\n";

Deno.test("checkData() finds nothing in a clean set, and counts it", async () => {
  const files = {
    ...IMAGES,
    "train.jsonl": lines(
      vlm("images/0.png", { modality: "ct", dataset: "one" }),
      vlm("images/1.png", { modality: "mri", dataset: "one" }),
      vlm("images/2.png"),
    ),
    "test.jsonl": lines(vlm("images/3.png")),
  };
  await inWorld(files, async (dir) => {
    const { report: { tally, bad, leaks }, findings } = await check(dir);
    assert.deepEqual([findings, bad, leaks], [[], 0, []]);
    assert.deepEqual(Object.fromEntries(tally.by.split), { test: 1, train: 3 });
    assert.deepEqual(Object.fromEntries(tally.by.modality), { "(not said)": 2, ct: 1, mri: 1 });
    assert.deepEqual(Object.fromEntries(tally.by.task), { i2t: 4 });
    assert.deepEqual([tally.files, tally.images, tally.uses], [4, 4, 4]);
    assert.deepEqual([...tally.sides.counts], [[160, 4]]);
    // 378 pixels a side are 27 x 27 patches; question and answer at 4 characters per token; marks.
    const tokens = 27 * 27 + 2 + Math.ceil(24 / 4) + 2 + Math.ceil(31 / 4) + 2;
    assert.deepEqual([...tally.tokens.counts], [[tokens, 4]]);
  });
});

Deno.test("checkData() names line and field of every planted fault", async () => {
  const cut = PNGS[3].subarray(0, 900);
  const files = {
    ...IMAGES,
    "images/cut.png": cut,
    "images/copy.png": PNGS[0],
    "images/small.png": await phantomPng(20, 64),
    "images/white.png": new Uint8Array(
      await (await loadSharp())({
        create: { width: 140, height: 140, channels: 3, background: "#fff" },
      }).png().toBuffer(),
    ),
    "train.jsonl": lines(
      vlm("images/0.png"), // 1
      "{ no json", // 2
      vlm("images/none.png"), // 3: no such file
      vlm("../outside.png"), // 4
      vlm("images/cut.png"), // 5
      vlm("images/1.png", { conversations: [{ from: "human", value: "no marker at all" }] }), // 6
      vlm("images/0.png"), // 7: as 1
      vlm("images/copy.png"), // 8: pixels of 0.png
      vlm("images/small.png"), // 9
      vlm("images/white.png"), // 10
      vlm("images/2.png", { // 11
        conversations: [{ from: "human", value: "<image>?" }, { from: "gpt", value: "yes" }],
      }),
      vlm("images/cut.png"), // 12: as 5
    ),
  };
  await inWorld(files, async (dir) => {
    const { findings, report } = await check(dir, { workers: 1 });
    const found = findings.map(({ kind, where, field, level }) => [
      kind,
      level,
      Number(where.replace(`${dir}/train.jsonl line `, "")),
      field,
    ]);
    assert.deepEqual(found, [
      ["record", "error", 2, undefined],
      ["record", "error", 3, undefined],
      ["record", "error", 4, undefined],
      ["image", "error", 5, "image"],
      ["record", "error", 6, undefined],
      ["repeated", "warning", 7, undefined],
      ["duplicate", "warning", 8, "image"],
      ["small", "warning", 9, "image"],
      ["flat", "warning", 10, "image"],
      ["text", "warning", 11, "conversations"],
      ["image", "error", 12, "image"],
    ]);
    const of = (line: number) => findings.find(({ where }) => where.endsWith(` line ${line}`))!;
    assert.match(of(2).message, /train\.jsonl line 2: it is not JSON/);
    assert.match(of(3).message, /line 3, "image" 1: "images\/none\.png" does not exist/);
    assert.match(of(4).message, /leads out of the data folder/);
    assert.match(
      of(5).message,
      /images\/cut\.png of .*line 5, "image" 1: it is damaged or cut off/,
    );
    assert.match(of(6).message, /"image" has 1 images, "conversations" 0 <image>/);
    assert.equal(of(7).other, `${dir}/train.jsonl line 1`);
    assert.match(of(8).message, /^images\/copy\.png has the pixels of an image of .* line 1$/);
    assert.match(of(9).message, /images\/small\.png is 64x64, expected at least 128 a side/);
    assert.equal(of(11).message, "4 characters, expected 10 to 1024");
    assert.ok(findings.every(({ help }) => help.length > 10));
    assert.deepEqual([report.bad, report.tally.unread], [6, 4]);
    assert.deepEqual((await check(dir)).findings, findings, "with and without workers");
  });
});

Deno.test("checkData() finds missing parts that a reader lets through, and samples that are too long", async () => {
  const texts = (...list: [role: "input" | "output", text: string][]) =>
    list.map(([role, text]) => ({ role, text }));
  const long = "long enough for the paper";
  const made: Pick<InspectedRecord, "task" | "texts" | "images">[] = [
    { task: "text", texts: texts(["output", long]), images: [] },
    { task: "text", texts: texts(["input", long]), images: [] },
    { task: "i2t", texts: texts(["input", " \n"], ["output", long]), images: [] },
    { task: "t2i", texts: [], images: [] },
    { task: "interleaved", texts: texts(["input", long]), images: [] },
  ];
  const source = memorySource("made", made.length);
  source.read = (index) => {
    const { task, texts } = made[index];
    const parts = texts.map(({ role, text }) => ({
      type: "text" as const,
      text,
      loss: role === "output",
      dropout: false,
    }));
    return Promise.resolve({ where: source.where(index), task, parts });
  };
  const { findings, report } = await check(source);
  assert.deepEqual(
    findings.filter(({ kind }) => kind === "missing").map((f) => [f.index, f.message]),
    [
      [1, "text without text that is to be learned"],
      [2, "text 1 (input) is empty"],
      [2, "i2t without image that is given"],
      [3, "t2i without text that is given"],
      [3, "t2i without image that is to be learned"],
      [4, "interleaved without image that is to be learned"],
      [4, "interleaved without image that is given"],
    ],
  );
  assert.equal(report.bad, 4);
  const tokens = Math.ceil(long.length / 4) + 2;
  const limits = { minSide: 0, minText: 0, maxText: 1e9, maxTokens: tokens - 1 };
  assert.deepEqual(
    (await check(source, { limits })).findings.filter(({ kind }) => kind === "long")
      .map(({ index }) => index),
    [0, 1, 2, 4],
  );
  limits.maxTokens = tokens;
  assert.deepEqual(
    (await check(source, { limits })).findings.filter(({ kind }) => kind === "long")
      .map(({ index, message }) => [index, message]),
    [[2, `${tokens + 3} tokens, at most ${tokens} are taken`]],
  );
});

Deno.test("checkData() finds images and texts in two splits, by content and by looks", async () => {
  const sharp = await loadSharp();
  const jpeg = new Uint8Array(await sharp(PNGS[2]).jpeg({ quality: 60 }).toBuffer());
  const crop = new Uint8Array(
    await sharp(PNGS[4]).extract({ left: 1, top: 1, width: 158, height: 158 }).png().toBuffer(),
  );
  const said = {
    image: undefined,
    conversations: [{ from: "gpt", value: "Nothing but words here." }],
  };
  const files = {
    ...IMAGES,
    "images/copy.png": PNGS[1],
    "images/2.jpg": jpeg,
    "images/4cut.png": crop,
    "images/5cut.jpg": new Uint8Array(await sharp(PNGS[5]).jpeg({ quality: 80 }).toBuffer()),
    "test.jsonl": lines(vlm("images/copy.png"), vlm("images/2.jpg"), vlm("", said)),
    "train.jsonl": lines(
      vlm("images/0.png"), // 1
      vlm("images/1.png"), // 2: pixels of a test image
      vlm("images/1.png", { conversations: JSON.parse(vlm("x")).conversations }), // 3: likewise
      vlm("images/2.png"), // 4: looks like a test image
      vlm("", said), // 5: a text of the test set
      vlm("images/4.png"), // 6
      vlm("images/4cut.png"), // 7: looks like 6, in the same split
    ),
    "val.jsonl": lines(vlm("images/5.png"), vlm("images/0.png")),
  };
  await inWorld(files, async (dir) => {
    const { findings, report } = await check(dir);
    const about = (kind: string) =>
      findings.filter((f) => f.kind === kind)
        .map(({ where, other }) => [where, other].map((text) => text!.slice(dir.length + 1)));
    assert.deepEqual(about("leak").sort(), [
      ["train.jsonl line 1", "val.jsonl line 2"],
      ["train.jsonl line 2", "test.jsonl line 1"],
      ["train.jsonl line 3", "test.jsonl line 1"],
    ]);
    assert.deepEqual(about("text-leak"), [["train.jsonl line 5", "test.jsonl line 3"]]);
    assert.deepEqual(about("near-leak"), [["train.jsonl line 4", "test.jsonl line 2"]]);
    assert.deepEqual(about("near-duplicate"), [["train.jsonl line 7", "train.jsonl line 6"]]);
    assert.equal(findings.length, 6);
    assert.equal(report.bad, 4);
    assert.deepEqual(report.leaks, [
      { splits: ["train", "test"], same: true, images: 1, records: [2, 1] },
      { splits: ["train", "val"], same: true, images: 1, records: [1, 1] },
      { splits: ["train", "test"], same: false, images: 1, records: [1, 1] },
    ]);
    assert.deepEqual((await check(dir, { near: 0 })).kinds.sort(), [
      "leak",
      "leak",
      "leak",
      "text-leak",
    ]);
    await Deno.mkdir(`${dir}/other/images`, { recursive: true });
    await Deno.writeFile(`${dir}/other/images/a.png`, PNGS[0]);
    await Deno.copyFile(`${dir}/images/5cut.jpg`, `${dir}/other/images/b.jpg`);
    await Deno.writeTextFile(
      `${dir}/other/train.jsonl`,
      lines(vlm("images/a.png"), vlm("images/b.jpg")),
    );
    const against = await openSource(`${dir}/other`);
    const held = (await check(`${dir}/val.jsonl`, { against: [against] })).findings;
    assert.deepEqual(
      held.map(({ kind, index, other }) => [kind, index, other]),
      [["leak", 1, against.where(0)], ["near-leak", 0, against.where(1)]],
      "whatever split the other data says it is",
    );
    assert.deepEqual((await check(`${dir}/train.jsonl`, { against: [against] })).kinds.sort(), [
      "leak",
      "near-duplicate",
    ]);
  });
});

Deno.test("checkData() tells nothing of a DICOM header", async () => {
  const planted: Part[] = [
    [0x00080020, "DA", "19010203"],
    [0x00080050, "SH", "PLANTED-ACC"],
    [0x00100010, "PN", "PLANTED^PATIENT"],
    [0x00100020, "LO", "PLANTED-ID"],
  ];
  const pixels = words(Array.from({ length: 64 }, (_, i) => 10 * i));
  const scan = (more: Record<number, number[] | string> = {}) =>
    dicomFile([...planted, ...imageParts(8, 8, pixels, more)].sort(([a], [b]) => a - b));
  const files = {
    "images/a.dcm": scan(),
    "images/b.dcm": scan({ 0x00280008: "PLANTED" }),
    "images/c.dcm": scan().subarray(0, 300),
    "images/d.dcm": scan(),
    "train.jsonl": lines(...["a", "b", "c", "d"].map((name) => vlm(`images/${name}.dcm`))),
    "test.jsonl": lines(vlm("images/a.dcm")),
  };
  await inWorld(files, async (dir) => {
    const { findings, kinds, report } = await check(dir);
    assert.deepEqual(kinds.toSorted(), [
      "duplicate",
      "image",
      "image",
      "leak",
      "leak",
      "small",
      "small",
    ]);
    assert.doesNotMatch(JSON.stringify([findings, report]), /PLANTED|1901/);
  });
});

Deno.test("checkData() confuses no two of 400 phantoms, and stops when it is asked to", async () => {
  const limits = { minSide: 0, minText: 0, maxText: 1e9 };
  const train = openPhantoms("phantoms?count=400&size=96");
  const test = openPhantoms("phantoms?count=200&size=96", { split: "test" });
  const { findings, report } = await check(train, { against: [test], limits });
  // Masks of an organ are few shapes, which do look alike.
  const alike = findings.filter(({ kind, message }) =>
    kind.startsWith("near") && !/ organ target /.test(message)
  );
  assert.deepEqual(alike, []);
  assert.ok(report.tally.images > 390, `${report.tally.images} images`);
  const stop = new AbortController();
  const onProgress = (_: string, done: number) => done === 40 && stop.abort(new Error("asked to"));
  await assert.rejects(
    check(train, { limits, signal: stop.signal, onProgress }),
    /asked to/,
  );
});

Deno.test({
  name: "checkData() finds what VQA-RAD and medpack have (needs ../shared/data)",
  ignore: !HAS_DATA,
  fn: async () => {
    const tokenizer = await openTokenizer(`${SHARED}qwen2-tokenizer`);
    const tokens = { ...DEFAULT_TOKEN_RULES, tokenizer };
    const { report, findings } = await check(`${SHARED}vqa-rad`, { tokens });
    assert.deepEqual(report.leaks, [
      { splits: ["train", "test"], same: true, images: 128, records: [1210, 293] },
    ]);
    const counts = Map.groupBy(findings, ({ kind }) => kind);
    assert.deepEqual(
      Object.fromEntries([...counts].map(([kind, list]) => [kind, list.length])),
      { repeated: 367, small: 1, leak: 1210 },
    );
    const medpack = (await check(`${SHARED}medpack`, { tokens })).findings
      .filter(({ kind }) => kind !== "small").map((
        { kind, message },
      ) => [kind, message.split(" ")[0]]);
    assert.deepEqual(medpack, [
      ["flat", "images/his/his_kather_test_img_20.jpg"],
      ["near-duplicate", "images/us/us_busi_normal_61.png"],
    ]);
  },
});
