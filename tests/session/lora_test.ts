// Adapters by command: over an int4 folder, on VQA-RAD, stopped and resumed, asked with, merged.

import assert from "node:assert/strict";
import { withVocabulary } from "../../experiments/demo/config.ts";
import { widerTiny } from "../../experiments/finetune/base.ts";
import { checkpointCommand } from "../../lib/cli/checkpoint.ts";
import { openDataset } from "../../lib/data/dataset.ts";
import { readPicture } from "../../lib/data/picture.ts";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import { PHANTOM_WORDS } from "../../lib/data/phantoms/factors.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { askAll } from "../../lib/infer/ask.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { saveModelFolder } from "../../lib/infer/save_folder.ts";
import { PRESETS } from "../../lib/model/config.ts";
import { readRun } from "../../lib/study/read_run.ts";
import { givenNames } from "../../lib/train/checkpoint/names.ts";
import { runShell } from "../cli/shell.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { bytesOf } from "../model/made_folders.ts";
import { startTraining } from "./processes.ts";
import { inFolder, leftBehind } from "./small_runs.ts";

const DATA = new URL("../../../shared/data/vqa-rad", import.meta.url).pathname;
const present = await Deno.stat(DATA).then(() => true, () => false);
const STEPS = 24;
const CUT = 9;

/** experiments/tiny with the words of VQA-RAD, at a folder. */
async function makeBase(dir: string, texts: string[]): Promise<void> {
  const gpu = await testGpu();
  const words = WordTokenizer.fromTexts(texts, 1000).words;
  const tokenizer = new WordTokenizer([...new Set([...PHANTOM_WORDS, ...words])]);
  const known = new WordTokenizer(PHANTOM_WORDS).size;
  const config = withVocabulary(PRESETS.tiny, tokenizer.size);
  const model = await widerTiny(gpu, config, known, 0);
  await saveModelFolder(dir, model, tokenizer);
  model.dispose();
}

/** `finetune-small` at the size of tiny. */
const configOver = (base: string) => ({
  extends: "finetune-small",
  name: "lora",
  model: { checkpoint: base },
  tokenizer: { kind: "words" },
  data: {
    sources: [
      { path: DATA, format: "vqa-rad", weight: 3 },
      { path: "phantoms", format: "phantoms", weight: 1 },
    ],
    validation: [{ path: DATA, format: "vqa-rad", split: "test" }],
    leaks: "tell", // the published splits share 128 images
    workers: 0,
  },
  batch: { samples: 8 },
  accumulate: 1,
  stages: [{
    name: "finetune",
    steps: STEPS,
    learningRate: 3e-3,
    vit: { min: 32, max: 32, stride: 8, maxPixels: 4096 },
    vae: { min: 32, max: 32, stride: 8, maxPixels: 4096 },
    maxTokensPerSample: 256,
  }],
  lora: {
    targets: ["und.layers.*.{attn,mlp}", "vit.layers.*.{attn,mlp}", "connector", "text.head"],
  },
  validate: { every: 8, samples: 16, ask: 0 },
  save: { every: 8, keep: 1 },
});

Deno.test({
  name:
    "train: adapters over an int4 folder learn VQA-RAD, resume to the bit, and answer merged as apart" +
    (present ? "" : " (skipped: no ../shared/data/vqa-rad)"),
  ignore: !present,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await testGpu();
    const dataset = await openDataset(DATA);
    const train = dataset.records.filter(({ split }) => split === "train");
    const texts = train.flatMap(({ questions }) =>
      questions.flatMap(({ question, answer }) => [question, answer])
    );
    await inFolder(async (dir) => {
      await makeBase(`${dir}/wide`, texts);
      const base = `${dir}/base`;
      const checkpoint = async (...args: string[]) => {
        const { code, stderr } = await runShell(checkpointCommand, [...args, "--quiet"]);
        assert.equal(code, 0, stderr);
      };
      await checkpoint("quantize", `${dir}/wide`, "--to", "int4", "--out", base);
      const before = await bytesOf(base);
      const config = `${dir}/config.json`;
      await Deno.writeTextFile(config, JSON.stringify(configOver(base)));
      const end = async (run: string, ...more: string[]) => {
        const { ended } = await startTraining(["--config", config, "--run", run, ...more]);
        const { code, stderr } = await ended;
        assert.equal(code, 0, stderr);
      };

      const run = `${dir}/study/whole/seed-0`;
      await end(run);
      const { metrics } = readRun(run);
      const losses = metrics.text.values;
      assert.equal(losses.length, STEPS);
      const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
      const [first, last] = [mean(losses.slice(0, 6)), mean(losses.slice(-6))];
      assert.ok(last < 0.7 * first, `text loss ${first} → ${last}`);
      const heldOut = metrics["held-out/text"].values;
      assert.ok(heldOut.at(-1)! < heldOut[0], `held out ${heldOut}`);
      const best = (await givenNames(run)).get("best");
      assert.equal(best, `step-00000${8 * (1 + heldOut.indexOf(Math.min(...heldOut)))}`.slice(-12));

      const folder = `${run}/checkpoints/step-00000${STEPS}`;
      const files = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
      assert.deepEqual(files.filter((name) => name.endsWith(".safetensors")), [
        "adapter.safetensors",
        "optimizer.safetensors",
      ]);
      const saved = await openSafetensors(`${folder}/adapter.safetensors`);
      assert.ok([...saved.tensors.keys()].every((name) => name.startsWith("lora.")));
      saved.close();

      const cut = `${dir}/study/cut/seed-0`;
      const process = await startTraining(["--config", config, "--run", cut]);
      await process.step(CUT);
      process.child.kill("SIGTERM");
      assert.equal((await process.ended).code, 143);
      await end(cut, "--resume");
      const [got, want] = [await leftBehind(cut, STEPS), await leftBehind(run, STEPS)];
      assert.equal(readRun(cut).sessions.length, 2);
      assert.deepEqual(got, want);
      assert.deepEqual(await bytesOf(base), before, "the base is only read");

      const questions = await Promise.all(
        train.slice(0, 6).map(async (record) => ({
          images: [await readPicture(record.imagePath)],
          question: record.questions[0].question,
        })),
      );
      const answers = async (folder: string, lora?: string) => {
        const open = await openModel(gpu, folder, lora === undefined ? {} : { lora });
        const said = await askAll(open, questions, { maxTokens: 4 });
        open.dispose();
        return said.map(({ text }) => text);
      };
      const adapter = `${run}/adapter.safetensors`;
      const adapted = await answers(base, adapter);
      assert.notDeepEqual(adapted, await answers(base), "the adapter counts");
      assert.deepEqual(await answers(base, `${folder}/adapter.safetensors`), adapted);
      await checkpoint("merge", base, adapter, "--out", `${dir}/merged`, "--dtype", "f32");
      assert.deepEqual(await answers(`${dir}/merged`), adapted);
    });
  },
});
