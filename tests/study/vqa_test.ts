import assert from "node:assert/strict";
import { Draws } from "../../lib/data/draws.ts";
import { packBatch } from "../../lib/data/pack.ts";
import type { Pixels } from "../../lib/data/transforms.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { depthSites, imageFeatures, pooled } from "../../lib/study/features.ts";
import { answerAll, questionSample, type VqaItem } from "../../lib/study/vqa.ts";
import { AdamW } from "../../lib/train/adamw.ts";
import { trainLoop } from "../../lib/train/loop.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import { PACK, picture, smallModel } from "../model/small.ts";

const tokenizer = new WordTokenizer(["what", "where", "?", "red", "left", "lung", "lobe", "none"]);

/** Pictures of four kinds, told apart by their mean: answers of one word and of two. */
const KINDS = [["red", "left lobe"], ["lung", "none"], ["lobe", "left lung"], ["none", "red lobe"]];

function pictureOf(kind: number, seed: number): Pixels {
  const image = picture(seed);
  return { ...image, data: image.data.map((v) => 0.3 * v + 0.5 * kind - 0.75) };
}

function itemsOf(count: number, seed: number): VqaItem[] {
  return Array.from({ length: count }, (_, i) => {
    const kind = i % KINDS.length;
    const [what, where] = KINDS[kind];
    const questions = [
      { name: "what", question: "what?", answer: what },
      { name: "where", question: "where?", answer: where },
    ];
    return { image: pictureOf(kind, seed + i), questions: i === 3 ? [] : questions };
  });
}

/** A model that has learned the answers, so that they differ between pictures and questions. */
async function taughtModel(): Promise<UniMedVL> {
  const model = smallModel(await testGpu());
  const optimizer = new AdamW(model.parameters);
  const loop = trainLoop(model, optimizer, {
    steps: 60,
    learningRate: () => 4e-3,
    clip: { maxNorm: 1, over: "objective" },
    objectives: (step) => {
      const draws = new Draws("vqa test", step);
      const samples = itemsOf(8, 1000 + draws.below(1000)).map(({ image, questions }) =>
        questionSample(
          image,
          questions.map(({ question, answer }) => ({
            question: tokenizer.encode(question),
            answer: tokenizer.encode(answer),
          })),
        )
      );
      return [{ name: "text", inputs: { packed: packBatch(samples, PACK) } }];
    },
  });
  for await (const _ of loop);
  optimizer.dispose();
  return model;
}

const taught = { model: undefined as Promise<UniMedVL> | undefined };
const model = () => taught.model ??= taughtModel();

Deno.test("answerAll() reads answers of several words to their end", GPU_TEST, async () => {
  const answers = await answerAll(await model(), tokenizer, itemsOf(12, 5), PACK, { maxWords: 3 });
  assert.equal(answers.length, 22, "the item without questions has no answer");
  const right = answers.filter(({ correct }) => correct);
  assert.ok(right.length >= 20, `${right.length} of 22 right`);
  for (const { answer, target, correct } of answers) assert.equal(correct, answer === target);
  assert.ok(right.some(({ answer }) => answer.includes(" ")), "answers of two words among them");
  assert.ok(right.some(({ answer, name }) => name === "where" && !answer.includes(" ")));
});

Deno.test("answerAll() answers alike in batches of any size", GPU_TEST, async () => {
  const items = itemsOf(11, 5);
  const progress: [number, number][] = [];
  const all = await answerAll(await model(), tokenizer, items, PACK, { maxWords: 3 });
  const few = await answerAll(await model(), tokenizer, items, PACK, {
    maxWords: 3,
    batch: 4,
    onProgress: (done, total) => progress.push([done, total]),
  });
  assert.deepEqual(few, all);
  assert.deepEqual(progress, [[4, 11], [8, 11], [11, 11]]);
  assert.deepEqual([...new Set(all.map(({ item }) => item))], [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]);
  const one = await answerAll(await model(), tokenizer, items, PACK, { maxWords: 3, batch: 1 });
  assert.deepEqual(one, all);
});

Deno.test(
  "answerAll() with one word does not ask for the end, and one word is not two",
  GPU_TEST,
  async () => {
    const items = itemsOf(12, 5);
    const answers = await answerAll(await model(), tokenizer, items, PACK);
    const whole = await answerAll(await model(), tokenizer, items, PACK, { maxWords: 3 });
    answers.forEach(({ answer, target, correct }, i) => {
      assert.equal(answer, whole[i].answer.split(" ")[0]);
      assert.equal(correct, answer === target);
    });
    assert.ok(answers.some(({ target, correct }) => target.includes(" ") && !correct));
    // Two words of an answer that needs its end as a third reading are not an answer yet.
    const cut = await answerAll(await model(), tokenizer, items, PACK, { maxWords: 2 });
    const long = cut.filter(({ answer }) => answer.includes(" "));
    assert.ok(long.length > 0 && long.every(({ correct }) => !correct));
  },
);

Deno.test("answerAll() stops when it is told to", GPU_TEST, async () => {
  const stop = new AbortController();
  const asked: number[] = [];
  await assert.rejects(
    answerAll(await model(), tokenizer, itemsOf(12, 5), PACK, {
      batch: 4,
      signal: stop.signal,
      onProgress: (done) => {
        asked.push(done);
        stop.abort();
      },
    }),
    { name: "AbortError" },
  );
  assert.deepEqual(asked, [4]);
});

Deno.test(
  "imageFeatures() reads image tokens at every depth, whatever the batch",
  GPU_TEST,
  async () => {
    const unit = await model();
    const images = Array.from({ length: 5 }, (_, i) => pictureOf(i % 4, 40 + i));
    const sites = depthSites(unit);
    assert.deepEqual(sites, ["vit.out", "connector.out", "und.layers.0.out", "und.layers.1.out"]);
    const live = unit.gpu.buffers.liveCount;
    const all = await imageFeatures(unit, images, sites, PACK);
    const pairs = await imageFeatures(unit, images, sites, PACK, { batch: 2 });
    assert.equal(unit.gpu.buffers.liveCount, live);
    all.forEach((at, i) => {
      assert.deepEqual([at.site, at.images, at.patches], [sites[i], 5, 4]);
      assert.equal(at.width, i === 0 ? 24 : 32);
      assert.equal(at.data.length, 5 * 4 * at.width);
      assertClose(pairs[i].data, at.data, 2e-5, at.site);
      const mean = pooled(at);
      const of = (c: number) => [0, 1, 2, 3].map((p) => at.data[(2 * 4 + p) * at.width + c]);
      assertClose([mean[2 * at.width + 7]], [of(7).reduce((a, b) => a + b) / 4], 1e-5, "mean");
    });
    await assert.rejects(imageFeatures(unit, images, ["und.layers.9.out"], PACK), {
      name: "TypeError",
      message: "Cannot read features: no site und.layers.9.out in this model",
    });
    assert.equal(unit.gpu.buffers.liveCount, live);
    const mixed = [picture(1), picture(2, 16, 24)];
    await assert.rejects(imageFeatures(unit, mixed, ["vit.out"], PACK), {
      name: "TypeError",
      message: "Cannot read features: image 1 has 6 patches, image 0 has 4",
    });
  },
);
