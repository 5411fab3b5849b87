import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Dataset, openDataset, type ReadOptions } from "../../lib/data/dataset.ts";
import { InputError } from "../../lib/errors.ts";

const SHARED = fileURLToPath(new URL("../../../shared/data", import.meta.url));
const hasShared = existsSync(`${SHARED}/medpack`) && existsSync(`${SHARED}/vqa-rad`);
const named = (fact: string) => hasShared ? fact : `${fact} (skipped: ../shared/data is absent)`;

/** Writes files (by relative path) to a folder and runs `body` there. */
async function withFolder(
  files: Record<string, string | Uint8Array>,
  body: (dir: string) => Promise<void>,
) {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${dir}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${dir}/${name}`, bytes);
    }
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const LINE = { id: "a", file: "images/a.png", split: "train", modality: "ct", label: "Chest (x)" };
const medpack = (...lines: (object | string)[]) => ({
  "images/a.png": "x",
  "images/b.png": "x",
  "manifest.jsonl": lines.map((l) => typeof l === "string" ? l : JSON.stringify(l)).join("\n"),
});

async function openFiles(files: Record<string, string | Uint8Array>, options: ReadOptions = {}) {
  let set: Dataset | undefined;
  await withFolder(files, async (dir) => {
    set = await openDataset(dir, options);
  });
  return set!;
}

async function refusal(files: Record<string, string | Uint8Array>): Promise<string> {
  try {
    await openFiles(files);
  } catch (error) {
    assert.ok(error instanceof InputError, `${error}`);
    assert.ok(error.help, `no help with: ${error.message}`);
    assert.doesNotMatch(error.message, /\n|os error|at position/);
    return error.message;
  }
  return "accepted";
}

Deno.test({
  name: named("openDataset() reads all 695 images of medpack, no group across splits"),
  ignore: !hasShared,
  fn: async () => {
    const { kind, records, skipped } = await openDataset(`${SHARED}/medpack`);
    assert.deepEqual([kind, records.length, skipped.length], ["medpack", 695, 0]);
    assert.equal(records.filter((r) => r.split === "train").length, 546);
    assert.equal(new Set(records.map((r) => r.modality)).size, 8);
    assert.equal(
      records.filter((r) => r.caption).length,
      records.filter((r) => r.modality === "cxr" && r.caption).length,
    );
    assert.equal(records.flatMap((r) => r.questions).filter((q) => q.kind === "label").length, 694);
    const splitOf = new Map<string, string>();
    for (const { group, split } of records) {
      assert.ok(group);
      assert.equal(splitOf.get(group) ?? split, split, group);
      splitOf.set(group, split);
    }
    assert.ok(records.every((r) => existsSync(r.imagePath)));
  },
});

Deno.test({
  name: named("openDataset() reads all questions of VQA-RAD, trimmed and in lower case"),
  ignore: !hasShared,
  fn: async () => {
    const { kind, records } = await openDataset(`${SHARED}/vqa-rad`);
    assert.equal(kind, "vqa-rad");
    const questions = (split: string) =>
      records.filter((r) => r.split === split).flatMap((r) => r.questions);
    assert.deepEqual([questions("train").length, questions("test").length], [2362, 293]);
    assert.equal(new Set(records.map((r) => r.imagePath)).size, 239);
    assert.equal(questions("train").filter((q) => q.kind === "closed").length, 1395);
    const all = [...questions("train"), ...questions("test")];
    assert.ok(all.every(({ answer: a, question: q }) => a === a.trim().toLowerCase() && q !== ""));
    assert.ok(all.some(({ answer }) => /^\d+$/.test(answer)));
  },
});

Deno.test("openDataset() makes medpack questions from modality and label, and keeps own ones", async () => {
  const qa = [{ question: "Left or right? ", answer: "LEFT" }];
  const { records } = await openFiles(medpack({ ...LINE, qa, caption: null }, {
    id: "b",
    file: "images/b.png",
    split: "val",
    modality: "pet",
    label: null,
    group: "g",
  }));
  assert.deepEqual(records[0].questions, [
    { question: "what is the imaging modality?", answer: "ct", kind: "modality" },
    { question: "what does the image show?", answer: "chest", kind: "label" },
    { question: "Left or right?", answer: "left", kind: "own" },
  ]);
  assert.equal(records[0].label, "Chest (x)");
  assert.ok(!("caption" in records[0]));
  assert.deepEqual(records[1].questions.map((q) => q.answer), ["pet"]);
  assert.equal(records[1].group, "g");
});

Deno.test("openDataset() ignores a byte order mark, CRLF and blank lines", async () => {
  const text = `\ufeff${JSON.stringify(LINE)}\r\n\r\n${JSON.stringify({ ...LINE, id: "b" })}\r\n`;
  const { records } = await openFiles({ ...medpack(), "manifest.jsonl": text });
  assert.deepEqual(records.map((r) => r.id), ["a", "b"]);
});

Deno.test("openDataset() names the line and the field of a bad medpack line", async () => {
  const cases: [object | string, RegExp][] = [
    ['{"id": "b', /manifest\.jsonl line 2: it is not JSON: Unterminated string$/],
    ["{not json", /manifest\.jsonl line 2: it is not JSON/],
    ["[]", /line 2: expected an object/],
    [{ ...LINE, id: 5 }, /line 2: "id" is 5, expected a text/],
    [{ ...LINE, id: "b", split: "dev" }, /line 2: "split" is "dev", expected train, val or test/],
    [{ ...LINE, id: "b", modality: " " }, /line 2: "modality" is " ", expected a text/],
    [{ ...LINE, id: "b", label: 3 }, /line 2: "label" is 3, expected a text or null/],
    [{ ...LINE, id: "b", file: ["x", "y"] }, /line 2: "file" lists 2 images, expected one path/],
    [{ ...LINE, id: "b", file: undefined }, /line 2: "file" is missing/],
    [{ ...LINE, id: "b", qa: [{ question: "q" }] }, /line 2, "qa" 1: "answer" is missing/],
    [{ ...LINE, id: "b", file: "images/none.png" }, /line 2: "images\/none\.png" does not exist/],
    [{ ...LINE, id: "b", file: "images" }, /line 2: "images" cannot be read: it is not a file/],
    [LINE, /line 2: id "a" is used by .*line 1/],
  ];
  for (const [line, message] of cases) assert.match(await refusal(medpack(LINE, line)), message);
  assert.match(await refusal(medpack("", " ")), /has no usable line/);
  const bad = new Uint8Array([...new TextEncoder().encode(`${JSON.stringify(LINE)}\n{"a":"`), 255]);
  assert.match(await refusal({ ...medpack(), "manifest.jsonl": bad }), /line 2: it is not UTF-8/);
  const long = `${JSON.stringify(LINE)}\n${"x".repeat(1_200_000)}`;
  assert.match(
    await refusal({ ...medpack(), "manifest.jsonl": long }),
    /line 2: it has more than 1000000 bytes/,
  );
});

Deno.test("openDataset() names a manifest or a list of questions that is a folder", async () => {
  assert.match(
    await refusal({ "manifest.jsonl/x": "" }),
    /^Cannot read [^:]*\/manifest\.jsonl: Is a directory$/,
  );
  assert.match(
    await refusal({ "trainset.json/x": "" }),
    /^Cannot read [^:]*\/trainset\.json: Is a directory$/,
  );
});

Deno.test("openDataset() says what a field of a bad line must be", async () => {
  const cases: [object, string][] = [
    [{ modality: 5 }, 'Set "modality" to a text in quotes that is not empty'],
    [{ split: "dev" }, 'Set "split" to train, val or test'],
    [{ label: 3 }, 'Set "label" to a text in quotes, or leave it out'],
  ];
  for (const [fields, help] of cases) {
    await assert.rejects(
      openFiles(medpack({ ...LINE, ...fields })),
      (e) => e instanceof InputError && e.help === help,
    );
  }
});

Deno.test("openDataset() refuses image paths that lead out of the folder", async () => {
  const names = [
    ...["../a.png", "images/../../x.png", "/etc/hostname", "file:///etc/hostname"],
    ...["http://localhost/a.png", "images\\a.png", "C:\\a.png", "images/a.png\0.jpg"],
  ];
  for (const file of names) {
    const message = await refusal(medpack({ ...LINE, file }));
    assert.match(message, /line 1: .*(leads out|is a URL|NUL or a backslash)/, file);
  }
});

Deno.test("openDataset() follows symbolic links inside the folder, and refuses those out of it", async () => {
  // Two links kept in the repository: making one here would need unlimited permissions.
  const dir = fileURLToPath(new URL("../fixtures/medpack_links", import.meta.url));
  await assert.rejects(
    openDataset(dir),
    /line 2: "images\/outside\.png" leads out of the data folder/,
  );
  const { records } = await openDataset(dir, { skipBad: 1 });
  assert.deepEqual(records.map((r) => r.id), ["inside"]);
});

Deno.test("openDataset() leaves out as many bad lines as allowed, and lists them", async () => {
  const files = medpack(LINE, "oops", { ...LINE, id: "b", file: "none" }, { ...LINE, id: "c" });
  const { records, skipped } = await openFiles(files, { skipBad: 2 });
  assert.deepEqual(records.map((r) => r.id), ["a", "c"]);
  assert.equal(skipped.length, 2);
  assert.match(skipped[0], /line 2/);
  assert.match(skipped[1], /line 3/);
  await assert.rejects(openFiles(files, { skipBad: 1 }), /line 3: "none" does not exist/);
});

Deno.test("openDataset() names the question of a bad VQA-RAD record", async () => {
  const good = {
    image_name: "a.jpg",
    image_organ: "HEAD",
    question: " Is it? ",
    answer: 3,
    answer_type: "CLOSED ",
  };
  const folder = (...questions: unknown[]) => ({
    "images/a.jpg": "x",
    "trainset.json": JSON.stringify(questions),
  });
  const { records } = await openFiles(folder(good, { ...good, answer: " Yes" }));
  assert.equal(records.length, 1);
  assert.deepEqual(records[0].questions, [
    { question: "is it?", answer: "3", kind: "closed" },
    { question: "is it?", answer: "yes", kind: "closed" },
  ]);
  assert.equal(records[0].label, "head");
  const cases: [unknown, RegExp][] = [
    [7, /trainset\.json question 2: expected an object/],
    [{ ...good, answer: null }, /question 2: "answer" is null/],
    [{ ...good, answer_type: "maybe" }, /question 2: "answer_type" is "maybe"/],
    [{ ...good, image_name: "b.jpg" }, /question 2: "images\/b\.jpg" does not exist/],
    [{ ...good, image_name: "../../b.jpg" }, /question 2: .*leads out/],
  ];
  for (const [record, message] of cases) assert.match(await refusal(folder(good, record)), message);
  assert.match(await refusal(folder()), /have no question/);
  assert.match(
    await refusal({ "testset.json": "[\n{,}]" }),
    /testset\.json: it is not JSON.*line 2/,
  );
  assert.match(await refusal({ "testset.json": "{}" }), /testset\.json: expected a list/);
  assert.equal((await openFiles(folder(good, 7), { skipBad: 1 })).skipped.length, 1);
});

Deno.test("openDataset() says what it looked for in a folder it does not know", async () => {
  assert.match(
    await refusal({ "notes.txt": "x" }),
    /has neither manifest\.jsonl \(medpack\) nor trainset\.json or testset\.json \(VQA-RAD\)/,
  );
  await assert.rejects(
    openDataset("no/such/folder"),
    (e) => e instanceof InputError && /Cannot read data folder no\/such\/folder/.test(e.message),
  );
});
