import assert from "node:assert/strict";
import { dataCommand } from "../../lib/cli/data.ts";
import { BadList } from "../../lib/cli/data_bad_list.ts";
import { plain } from "../../lib/cli/data_check_text.ts";
import { excludeRecords, readExclusions } from "../../lib/data/training/exclusions.ts";
import { openSource } from "../../lib/data/training/open_source.ts";
import { check, inWorld, phantomPng, vlm } from "../data/training/check_world.ts";
import { memorySource } from "../data/training/memory_source.ts";
import { runShell } from "./shell.ts";

const run = (...args: string[]) => runShell(dataCommand, args);
const runCheck = (...args: string[]) => run("check", "--workers", "0", ...args);

const FILES = {
  "data/a.png": await phantomPng(0),
  "data/b.png": await phantomPng(1),
  "data/train.jsonl": [vlm("a.png"), vlm("none.png"), vlm("b.png")].join("\n"),
  "data/test.jsonl": vlm("b.png"),
};

/** Names and bytes of all files of a folder. */
async function contents(dir: string) {
  const found: Record<string, string> = {};
  for await (const { name, isFile } of Deno.readDir(dir)) {
    if (isFile) found[name] = (await Deno.readFile(`${dir}/${name}`)).toHex();
  }
  return found;
}

Deno.test("data --help lists its subcommand, which has help, and a wrong one is corrected", async () => {
  const help = await run("--help");
  assert.deepEqual([help.code, /^ {2}check /m.test(help.stdout)], [0, true]);
  const one = await run("check", "--help");
  assert.equal(one.code, 0);
  assert.match(one.stdout, /^usage: deno task data check PATH \[flags\]$/m);
  assert.match(one.stdout, /^ {2}3 +there are errors/m);
  const wrong = await run("chek");
  assert.deepEqual([wrong.code, wrong.stderr.split("\n")[0]], [
    2,
    "error: Cannot run data: no subcommand chek",
  ]);
  assert.equal((await run("check")).code, 2);
});

Deno.test("data check ends with 0 for clean data and 3 for errors, each with place and repair", async () => {
  await inWorld(FILES, async (dir) => {
    const clean = await runCheck(`${dir}/data/test.jsonl`);
    assert.deepEqual([clean.code, clean.stderr], [0, ""]);
    assert.match(clean.stdout, /1 record, 1 use of 1 image file, 1 different$/m);
    assert.match(clean.stdout, /^nothing found$/m);
    const bad = await runCheck(`${dir}/data`);
    assert.equal(bad.code, 3);
    assert.match(bad.stdout, /^split +train 3, test 1$/m);
    assert.match(bad.stdout, /^error: cannot be read \(record\): 1$/m);
    assert.match(
      bad.stdout,
      /^ {2}Cannot read .*train\.jsonl line 2, "image" 1: "none\.png" does not exist$/m,
    );
    assert.match(bad.stdout, /^ {2}help: Give the path of an image file/m);
    assert.match(
      bad.stdout,
      /^ {2}.*train\.jsonl line 3, image: b\.png is in train and test: also in .*test\.jsonl line 1$/m,
    );
    assert.match(bad.stdout, /^1 image of train also in test: 1 record of train, 1 of test$/m);
    assert.match(bad.stdout, /^2 errors in 2 records, 0 warnings$/m);
    const more = [FILES["data/train.jsonl"], vlm("none.png"), vlm("b.png", { modality: "ct" })];
    await Deno.writeTextFile(`${dir}/data/train.jsonl`, more.join("\n"));
    const shown = (await runCheck(`${dir}/data`)).stdout;
    assert.match(shown, /in two splits \(leak\): 2$/m);
    assert.equal(shown.match(/b\.png is in train and test/g)?.length, 1, "one image is shown once");
    assert.match(shown, /^ {2}and 1 more$/m);
    await Deno.writeTextFile(`${dir}/data/train.jsonl`, FILES["data/train.jsonl"]);
    const short = await runCheck(`${dir}/data`, "--list", "0");
    assert.doesNotMatch(short.stdout, /none\.png/);
    const train = `${dir}/data/train.jsonl`;
    const against = await runCheck(train, "--against", `${dir}/data/test.jsonl`);
    assert.match(against.stdout, /line 3, image: b\.png is in train and held out/);
    assert.equal((await runCheck(`${dir}/nothing`)).code, 3);
  });
});

Deno.test("data check --json gives one object per finding and a summary", async () => {
  await inWorld(FILES, async (dir) => {
    const { stdout, code } = await runCheck(`${dir}/data`, "--json");
    const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(events.map(({ event, kind }) => kind ?? event), [
      "record",
      "leak",
      "summary",
      "done",
    ]);
    assert.deepEqual([code, events.at(-1).exitCode], [3, 3]);
    assert.deepEqual([events[0].index, events[0].where], [2, `${dir}/data/train.jsonl line 2`]);
    const { records, bad, split, images, findings, tokens } = events[2];
    assert.deepEqual([records, bad, split], [4, 2, { test: 1, train: 3 }]);
    assert.deepEqual(images, { uses: 3, files: 2, different: 2 });
    assert.deepEqual(findings, { record: 1, leak: 1 });
    assert.equal(tokens.total, 3);
  });
});

Deno.test("data check --fix lists the bad records, which training can leave out, and changes nothing else", async () => {
  await inWorld(FILES, async (dir) => {
    const before = await contents(`${dir}/data`);
    const out = `${dir}/bad.jsonl`;
    const { code, stdout } = await runCheck(`${dir}/data`, "--fix", "--out", out);
    assert.equal(code, 3);
    assert.match(stdout, /bad\.jsonl lists 2 records$/m);
    assert.deepEqual(await contents(`${dir}/data`), before);
    assert.deepEqual(Object.keys(await contents(dir)), ["bad.jsonl"]);
    const list = await readExclusions(out);
    assert.deepEqual(list.map(({ record, kind, index }) => [record, kind, index]), [
      ["train.jsonl line 2", "record", 2],
      ["train.jsonl line 3", "leak", 3],
    ]);
    const left = excludeRecords(await openSource(`${dir}/data`), list);
    assert.deepEqual((await check(left)).findings, []);
    const refused = await runCheck(`${dir}/data`, "--fix", "--out", `${dir}/none/bad.jsonl`);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /Cannot write .*none\/bad\.jsonl: No such file or directory/);
  });
});

Deno.test("a list that is left before its end is removed, and the one before it stays", async () => {
  await inWorld({ "bad.jsonl": "before" }, async (dir) => {
    const source = memorySource("made", 3);
    const path = `${dir}/bad.jsonl`;
    const add = (list: BadList) =>
      list.add({
        kind: "image",
        level: "error",
        index: 1,
        where: "",
        message: "x".repeat(70_000),
        help: "",
      });
    {
      await using list = await BadList.open(path, source);
      add(list);
      assert.ok((await Deno.stat(`${path}.part.tmp`)).size > 70_000);
    }
    assert.deepEqual(await contents(dir), {
      "bad.jsonl": new TextEncoder().encode("before").toHex(),
    });
    await using list = await BadList.open(path, source);
    add(list);
    list.add({ kind: "small", level: "warning", index: 2, where: "", message: "", help: "" });
    assert.equal(await list.finish(), 1);
    assert.equal((await readExclusions(path))[0].record, "made.jsonl line 2");
  });
});

Deno.test("data check that is interrupted ends with 130 and leaves no file", async () => {
  await inWorld({ "bad.jsonl": "before" }, async (dir) => {
    const args = [
      "check",
      "phantoms?count=40",
      "--workers",
      "0",
      "--fix",
      "--out",
      `${dir}/bad.jsonl`,
    ];
    const seen = await runShell(
      (shell) => dataCommand({ ...shell, onSignal: (listener) => listener("SIGINT") }),
      args,
    );
    assert.deepEqual([seen.code, seen.stdout], [130, ""]);
    assert.deepEqual(await contents(dir), {
      "bad.jsonl": new TextEncoder().encode("before").toHex(),
    });
  });
});

Deno.test("data check refuses impossible flags by name", async () => {
  const refusals: [string[], RegExp][] = [
    [["--near", "65"], /Cannot compare images up to 65 bits/],
    [["--vae", "512"], /Cannot read --vae 512: expected MIN-MAX\/TOKEN/],
    [["--vit", "980-378/14"], /Cannot read --vit 980-378\/14/],
    [["--vit", "0-0/0"], /Cannot read --vit 0-0\/0: sizes are above 0/],
    [["--text-length", "many"], /Cannot read --text-length many: expected MIN-MAX/],
  ];
  for (const [flags, message] of refusals) {
    const { code, stderr } = await runCheck("phantoms?count=4", ...flags);
    assert.match(stderr, message);
    assert.equal(code, 2);
  }
});

Deno.test("data check counts tokens at the sizes it is told", async () => {
  const sized = await runCheck(
    "phantoms?count=4",
    "--vae",
    "32-32/8",
    "--vit",
    "32-32/8",
    "--json",
  );
  const { tokens } = JSON.parse(sized.stdout.split("\n").find((line) => line.includes("summary"))!);
  // Text alone is shortest; an edit has two images for the autoencoder and one for the ViT, 16 tokens each.
  assert.ok(tokens.least < 18 && tokens.most >= 3 * 18, JSON.stringify(tokens));
  assert.ok(tokens.most < 200, JSON.stringify(tokens));
});

Deno.test("plain() writes out what would move a terminal's cursor or turn its text", () => {
  assert.equal(plain("a\x1b[2Jb\nc\u202ed\x9b é 中"), "a\\u001b[2Jb\\u000ac\\u202ed\\u009b é 中");
});
