import assert from "node:assert/strict";
import { type FinetuneData, splitHeads } from "../../experiments/finetune/data.ts";
import { spreadOf } from "../../experiments/finetune/measure.ts";

/** As many images as wanted; every third has no train question. */
function heads(count: number): FinetuneData {
  const all = Array.from({ length: count }, (_, i) => {
    const questions = [1, 2, 3].map((k) => ({
      name: "closed",
      question: `${i} ${k} ?`,
      answer: "yes",
    }));
    const record = { imagePath: `${i}.png` };
    return { all: { record, questions }, train: i % 3 === 0 ? [] : questions.slice(0, 2) };
  });
  return { heads: all } as unknown as FinetuneData;
}

Deno.test("splitHeads() puts no image in two parts and tunes on train questions only", () => {
  for (const seed of [0, 1, 2]) {
    const data = heads(31);
    const { tune, validation, test } = splitHeads(data, 10, seed);
    const paths = [tune, validation, test].map((part) => part.map((i) => i.record.imagePath));
    assert.deepEqual(paths.map(({ length }) => length), [10, 10, 11]);
    assert.equal(new Set(paths.flat()).size, 31);
    assert.ok(tune.every(({ questions }) => questions.length === 2));
    assert.ok([...validation, ...test].every(({ questions }) => questions.length === 3));
    assert.deepEqual(splitHeads(data, 10, seed).tune.map((i) => i.record.imagePath), paths[0]);
  }
  const [a, b] = [0, 1].map((seed) => splitHeads(heads(31), 10, seed).tune[0].record.imagePath);
  assert.notEqual(a, b);
});

Deno.test("splitHeads() leaves images to validate and test on", () => {
  for (const images of [0, 28, 40]) {
    assert.throws(() => splitHeads(heads(31), images, 0), {
      name: "UsageError",
      message: `Cannot tune on ${images} of 31 images of heads`,
    });
  }
});

Deno.test("spreadOf() gives the commonest answer, its share and the entropy in bits", () => {
  assert.deepEqual(spreadOf(["no", "yes", "yes", "left"]), {
    most: 0.5,
    answer: "yes",
    entropy: 1.5,
  });
  assert.deepEqual(spreadOf(["no", "no"]), { most: 1, answer: "no", entropy: 0 });
});
