import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Draws } from "../../../lib/data/draws.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { TASKS } from "../../../lib/data/training/record.ts";
import { brief, type Files, refusal, withFolder, withSource } from "./folders.ts";

const SHARED = fileURLToPath(new URL("../../../../shared/data", import.meta.url));
const hasShared = existsSync(`${SHARED}/medpack`) && existsSync(`${SHARED}/vqa-rad`);
const DRAWS = () => new Draws(0);

const PAIRS: Files = {
  "b.png": "x",
  "b.txt": "a text \n",
  "train/v.nii.gz": "x",
  "train/v.txt": "volume",
  "test/c.JPG": "x",
  "test/c.txt": "c",
  "README.md": "x",
};

Deno.test("a folder pairs images with texts of the same stem, and names splits by its folders", async () => {
  await withSource(PAIRS, async (source, dir) => {
    assert.deepEqual([source.format, source.count, source.bad.count], ["folder", 3, 0]);
    const { parts, where, split } = await source.read(0, DRAWS());
    assert.deepEqual(brief(parts), ['"a text"?', "noisy b.png"]);
    assert.deepEqual([where, split], [`${dir}/b.txt`, undefined]);
    const splits = [1, 2].map(async (i) => (await source.read(i, DRAWS())).split);
    assert.deepEqual(await Promise.all(splits), ["test", "train"]);
  });
  await withSource(PAIRS, async (source) => {
    assert.deepEqual(brief((await source.read(1, DRAWS())).parts)[1], "noisy train/v.nii.gz");
    assert.equal(source.count, 2);
  }, { split: "train" });
});

Deno.test("folder.json, or the option before it, makes a folder teach texts about images", async () => {
  const settings = JSON.stringify({ task: "i2t", prompt: "What is it?", modality: "ct" });
  const files = { "a.png": "x", "a.txt": "it", "folder.json": settings };
  await withSource(files, async (source) => {
    const { parts, modality, task } = await source.read(0, DRAWS());
    assert.deepEqual(brief(parts), ["vit a.png", '"What is it?"', '"it"+']);
    assert.deepEqual([modality, task], ["ct", "i2t"]);
    assert.deepEqual([...source.tasks], [TASKS.indexOf("i2t")]);
  });
  await withSource(files, async (source) => {
    assert.deepEqual(brief((await source.read(0, DRAWS())).parts), ['"it"?', "noisy a.png"]);
  }, { task: "t2i" });
  const cases: [string, RegExp][] = [
    ["{", /folder\.json: /],
    ['{"task": "x"}', /folder\.json: "task" is "x", expected t2i or i2t/],
    ['{"tasks": "x"}', /folder\.json: "tasks" is no known field/],
  ];
  for (const [text, pattern] of cases) {
    await withFolder({ ...files, "folder.json": text }, async (dir) => {
      assert.match(await refusal(() => openSource(dir)), pattern);
    });
  }
});

Deno.test("images and texts that stand alone are bad records among the others", async () => {
  const files = {
    "a.png": "x",
    "a.txt": "ok",
    "b.png": "x",
    "c.txt": "x",
    "d.png": "x",
    "d.jpg": "x",
    "d.txt": "x",
    "e.png": "x",
    "e.txt": " ",
    "f.png": "x",
    "f.txt": new Uint8Array([255]),
  };
  await withSource(files, async (source, dir) => {
    assert.deepEqual([source.count, source.bad.count], [6, 5]);
    const expected = [
      [1, /b\.png: it has no text beside it/],
      [2, /c\.txt: it has no image beside it/],
      [3, /d\.txt: it has several images, d\.jpg and d\.png/],
      [4, /e\.txt: it is empty/],
      [5, /f\.txt: it is not UTF-8/],
    ] as const;
    for (const [n, [index, pattern]] of expected.entries()) {
      assert.equal(source.bad.listed[n].index, index);
      assert.match(source.bad.listed[n].message, pattern);
      assert.match(await refusal(() => source.read(index, DRAWS())), pattern);
      assert.ok(source.bad.listed[n].where.startsWith(dir));
    }
    assert.equal((await source.read(0, DRAWS())).parts.length, 2);
  });
  await withFolder(files, async (dir) => {
    assert.match(await refusal(() => openSource(dir, { skipBad: 1 })), /c\.txt/);
  });
});

Deno.test("where only images are wanted, a folder's images need no text, and texts no image", async () => {
  const files = {
    "a.png": "x",
    "a.txt": "it",
    "b.png": "x",
    "b.jpg": "x",
    "c.png": "x",
    "c.txt": " ",
    "README.txt": "what this is",
  };
  for (const task of ["t2i", "i2t"] as const) {
    await withSource(files, async (source, dir) => {
      assert.deepEqual([source.count, source.bad.count], [4, 0]);
      const read = async (i: number) => brief((await source.read(i, DRAWS())).parts);
      const use = task === "t2i" ? "noisy" : "vit";
      assert.equal((await read(0)).length, 2);
      assert.deepEqual(await read(1), [`${use} b.jpg`]);
      assert.deepEqual(await read(2), [`${use} b.png`]);
      assert.deepEqual(await read(3), [`${use} c.png`]);
      assert.equal(source.where(0), `${dir}/a.png`);
    }, { textless: true, task });
  }
  await withFolder({ "a.txt": "x" }, async (dir) => {
    assert.match(await refusal(() => openSource(dir, { textless: true })), /it has no image$/);
    assert.match(
      await refusal(() => openSource(dir, { split: "test", textless: true })),
      /no image$/,
    );
  });
});

Deno.test("medpack: a record per question, one per caption, bad lines last", async () => {
  const line = {
    id: "a",
    file: "a.png",
    split: "train",
    modality: "ct",
    label: "chest",
    caption: "A chest.",
  };
  const text = [line, "oops", { ...line, id: "b", caption: null, split: "test" }]
    .map((l) => typeof l === "string" ? l : JSON.stringify(l)).join("\n");
  const files = { "a.png": "x", "manifest.jsonl": text };
  await withSource(files, async (source, dir) => {
    assert.deepEqual([source.format, source.count, source.bad.count], ["medpack", 6, 1]);
    const of = async (i: number) => brief((await source.read(i, DRAWS())).parts);
    assert.deepEqual(await of(1), ["vit a.png", '"what does the image show?"', '"chest"+']);
    assert.deepEqual(await of(2), ['"A chest."?', "noisy a.png"]);
    assert.deepEqual([...source.tasks].map((t) => TASKS[t]), [
      "i2t",
      "i2t",
      "t2i",
      "i2t",
      "i2t",
      "i2t",
    ]);
    assert.equal((await source.read(2, DRAWS())).where, `${dir}/manifest.jsonl a, caption`);
    assert.deepEqual([source.bad.listed[0].index, source.bad.listed[0].where], [
      5,
      `${dir}/manifest.jsonl line 2`,
    ]);
    assert.match(await refusal(() => source.read(5, DRAWS())), /line 2: it is not JSON/);
  });
  await withSource(files, (source) => {
    assert.equal(source.count, 3); // two questions, and the line that cannot be read
    return Promise.resolve();
  }, { split: "test" });
});

Deno.test({
  name: "the shared data sets open as training data" +
    (hasShared ? "" : " (skipped: ../shared/data is absent)"),
  ignore: !hasShared,
  fn: async () => {
    const rad = await openSource(`${SHARED}/vqa-rad`, { split: "train" });
    assert.deepEqual([rad.format, rad.count, rad.bad.count], ["vqa-rad", 2362, 0]);
    const { parts, subTask } = await rad.read(0, DRAWS());
    assert.deepEqual(parts.map((p) => p.type), ["image", "text", "text"]);
    assert.ok(subTask === "open" || subTask === "closed");
    const pack = await openSource(`${SHARED}/medpack`);
    const count = (task: string) => pack.tasks.filter((t) => TASKS[t] === task).length;
    assert.deepEqual([count("i2t"), count("t2i"), pack.count], [1389, 4, 1393]);
  },
});
