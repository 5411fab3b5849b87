// How long steps of the tiny model wait for their batches: training on phantoms and on a folder of pictures, with
// none to two workers. Run with `deno task bench:loader [medpack or VQA-RAD folder]`.

import { openLoader } from "../../../lib/data/training/loader.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import type { RecordSource } from "../../../lib/data/training/source.ts";
import { PHANTOM_WORDS } from "../../../lib/data/phantoms/factors.ts";
import { splitWords, WORD_IDS, WordTokenizer } from "../../../lib/data/words.ts";
import { openDevice } from "../../../lib/gpu/device.ts";
import { shiftTimesteps } from "../../../lib/model/batch.ts";
import { latentSize, PRESETS } from "../../../lib/model/config.ts";
import { initModel } from "../../../lib/model/init.ts";
import { readAll } from "../../../lib/tensor.ts";
import { AdamW } from "../../../lib/train/adamw.ts";
import { latentsOf } from "../../../lib/train/latents.ts";
import { trainStep } from "../../../lib/train/step.ts";

const WARM = 5;
const STEPS = 25;
const SAMPLES = 16;

async function measure(source: RecordSource, words: readonly string[], workers: number) {
  const gpu = await openDevice({ budgetBytes: 2 ** 30 });
  const config = {
    ...PRESETS.tiny,
    language: { ...PRESETS.tiny.language, vocabSize: new WordTokenizer(words).size },
  };
  const model = initModel(gpu, config, 0);
  const optimizer = new AdamW(model.parameters);
  const rule = { max: 32, min: 32, stride: 8 };
  const has = (code: number) => source.tasks.includes(code) ? 1 : 0;
  const loader = await openLoader({
    sources: [{ source }],
    mix: { t2i: 25 * has(0), i2t: 75 * has(1), interleaved: 25 * has(2), text: 5 * has(3) },
    batch: { samples: SAMPLES },
    images: { vae: rule, vit: rule },
    tokenizer: { kind: "words", words },
    pack: { special: WORD_IDS, vitPatch: 8, latentPixels: 8, vitSide: 4, latentSide: 4 },
    dropout: { text: 0.1, vit: 0.1, vae: 0.1 },
    seed: 0,
    workers,
  });
  let [began, waited, tokens] = [0, 0, 0];
  for (let step = 0; step < WARM + STEPS; step++) {
    if (step === WARM) [began, waited, tokens] = [performance.now(), loader.waitedMs, 0];
    const batch = await loader.next();
    const { packed } = batch;
    const metrics = trainStep(model, optimizer, [{
      name: "all",
      inputs: {
        packed,
        latents: await latentsOf(model, undefined, packed),
        noise: batch.noise(latentSize(config)),
        timesteps: shiftTimesteps(packed.timesteps, 1),
      },
    }], { learningRate: 1e-4 });
    await readAll([...metrics.values()]);
    for (const metric of metrics.values()) metric.dispose();
    tokens += packed.sequenceLength;
  }
  const total = performance.now() - began;
  const wait = loader.waitedMs - waited;
  console.log(
    `${source.name}, ${workers} workers: ${(total / STEPS).toFixed(0)} ms a step of ` +
      `${(tokens / STEPS).toFixed(0)} tokens, ${(wait / STEPS).toFixed(1)} ms waiting ` +
      `(${(100 * wait / total).toFixed(1)} %)`,
  );
  await loader.close();
  model.dispose();
}

const [folder] = Deno.args;
for (const workers of [0, 1, 2]) {
  await measure(await openSource("phantoms"), PHANTOM_WORDS, workers);
}
if (folder !== undefined) {
  const source = await openSource(folder, { split: "train" });
  const texts: string[] = [];
  for (let i = 0; i < source.count; i++) {
    texts.push(...(await source.inspect(i)).texts.map(({ text }) => text));
  }
  const words = WordTokenizer.fromTexts(texts).words;
  console.log(`${source.count} records, ${texts.flatMap(splitWords).length} words`);
  for (const workers of [0, 1, 2]) await measure(source, words, workers);
}
