// Data that users bring: every format trains, bad records are skipped and counted or stop the run, lists of records to
// leave out count.

import assert from "node:assert/strict";
import { Draws } from "../../lib/data/draws.ts";
import { openSource } from "../../lib/data/training/open_source.ts";
import { TASKS } from "../../lib/data/training/record.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { InputError } from "../../lib/errors.ts";
import { closeSources, dataDigest, openSources } from "../../lib/session/data.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { placeOf } from "../../lib/data/training/exclusions.ts";
import { SOURCE_DEFAULTS } from "../../lib/train/config/defaults.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { startTraining } from "./processes.ts";
import { inFolder, SHORT, shortSettings, trainUntil } from "./small_runs.ts";

const FORMATS = new URL("../../experiments/formats/", import.meta.url).pathname;

/** A source's words in a file, and a mix of the tasks it has. */
async function wordsAndMix(path: string, dir: string) {
  const source = await openSource(path);
  const texts: string[] = [];
  for (let i = 0; i < source.count; i++) {
    texts.push(...(await source.inspect(i)).texts.map(({ text }) => text));
  }
  const mix = Object.fromEntries(
    TASKS.map((task, i) => [task, source.tasks.includes(i) ? 1 : 0]),
  );
  source.close();
  const file = `${dir}/words-${source.format}.json`;
  await Deno.writeTextFile(file, JSON.stringify(WordTokenizer.fromTexts(texts)));
  return { file, mix };
}

for (const format of ["unimedvl", "vlm", "t2i", "edit", "folder"]) {
  Deno.test(`the sample of ${format} trains`, GPU_TEST, async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const path = FORMATS + format;
      const { file, mix } = await wordsAndMix(path, dir);
      const settings = shortSettings(
        `data.sources=[{"path":${JSON.stringify(path)}}]`,
        `tokenizer.words=${file}`,
        `stages=[{"name":"first","steps":2,"warmup":0,"mix":${JSON.stringify(mix)}}]`,
        "accumulate=1",
      );
      const steps = await trainUntil(gpu, settings, { run: `${dir}/study/${format}/seed-0` });
      assert.equal(steps.length, 2);
      for (const { text, flow, norm, tokens } of steps) {
        assert.ok(norm > 0 && tokens > 0 && (text ?? 0) + (flow ?? 0) > 0);
      }
      const { metrics } = readRun(`${dir}/study/${format}/seed-0`);
      const drawn = TASKS.reduce((n, task) => n + metrics[`drawn/${task}`].values.at(-1)!, 0);
      assert.equal(drawn, 4, "two samples a step");
    });
  });
}

/** Questions about one picture; line 3 names one that is not there, line 5 is cut off. */
async function badData(dir: string): Promise<string> {
  const turn = (from: string, value: string) => ({ from, value });
  const line = (image: string, i: number) =>
    JSON.stringify({
      image,
      conversations: [turn("human", `<image> organ ${i}`), turn("gpt", "lesion")],
    });
  await Deno.mkdir(`${dir}/data`);
  await Deno.copyFile(`${FORMATS}vlm/images/single.png`, `${dir}/single.png`);
  const lines = Array.from({ length: 8 }, (_, i) => line("single.png", i));
  lines[2] = line("absent.png", 2);
  lines[4] = lines[4].slice(0, 20);
  await Deno.writeTextFile(`${dir}/data/train.jsonl`, lines.join("\n") + "\n");
  return `${dir}/data`;
}

const I2T = { t2i: 0, i2t: 1, interleaved: 0, text: 0 };

Deno.test(
  "bad records are skipped and counted below data.mostBad; above it a training ends with 3, naming file and line",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    await inFolder(async (dir) => {
      const data = await badData(dir);
      const source = { path: data, images: dir };
      const some = shortSettings(
        `data.sources=[${JSON.stringify(source)}]`,
        "data.mostBad=0.5",
        "data.checkUpTo=0",
        `stages=[{"name":"first","steps":4,"mix":${JSON.stringify(I2T)}}]`,
      );
      const run = `${dir}/study/some/seed-0`;
      const notes: string[] = [];
      const steps = await trainUntil(gpu, some, { run, onNote: (text) => void notes.push(text) });
      assert.equal(steps.length, 4);
      const told = readRun(run).events.filter(({ kind }) => kind === "bad record")
        .map(({ detail }) => (detail as { message: string }).message);
      assert.equal(told.length, 2, "each is told once");
      const { "left-out": leftOut } = readRun(run).metrics;
      assert.ok(leftOut.values.at(-1)! >= 4, "two passes over two bad lines are counted");
      assert.equal(steps.at(-1)!.leftOut, leftOut.values.at(-1));
      for (const line of [3, 5]) {
        assert.ok(
          told.some((text) => text.includes(`${data}/train.jsonl line ${line}`)),
          `${told}`,
        );
        assert.ok(notes.some((text) => text.includes(`line ${line}`)));
      }

      const config = `${dir}/none.json`;
      const stages = [{ ...SHORT.stages[0], mix: I2T }];
      await Deno.writeTextFile(
        config,
        JSON.stringify({ ...SHORT, stages, data: { sources: [source], workers: 0 } }),
      );
      const none = `${dir}/study/none/seed-0`;
      const { code, events } = await (await startTraining(["--config", config, "--run", none]))
        .ended;
      assert.equal(code, 3);
      const { message = "", help = "" } = events.find(({ event }) => event === "error") ?? {};
      assert.match(message, /data\/train\.jsonl line [35]\b/);
      assert.match(help, /data\.mostBad/);
      await assert.rejects(Deno.stat(none), Deno.errors.NotFound, "a run was begun");
    });
  },
);

Deno.test("openSources() leaves out what a list names, and the data's digest says so", async () => {
  await inFolder(async (dir) => {
    const path = await badData(dir);
    const config = { ...SOURCE_DEFAULTS, name: "data", path, images: dir };
    const all = await openSources([config]);
    const { source } = all[0];
    const list = [2, 4].map((index) =>
      JSON.stringify({
        record: placeOf(source, index),
        kind: "record",
        why: "bad",
        index,
        records: source.count,
        fingerprint: source.fingerprint,
      })
    );
    const exclude = `${dir}/bad.jsonl`;
    await Deno.writeTextFile(exclude, list.join("\n") + "\n");
    const good = await openSources([{ ...config, exclude }]);
    assert.deepEqual([source.count, good[0].source.count], [8, 6]);
    for (let i = 0; i < 6; i++) {
      const { parts } = await good[0].source.read(i, new Draws("test", i));
      assert.equal(parts.length, 3);
    }
    assert.notEqual(dataDigest(good), dataDigest(all));
    await Deno.writeTextFile(exclude, "no list\n");
    await assert.rejects(openSources([{ ...config, exclude }]), InputError);
    closeSources([...all, ...good]);
  });
});
