import assert from "node:assert/strict";
import { allowed, packBatch, type PackOptions } from "../../lib/data/pack.ts";
import { tokensOfSplits } from "../../lib/data/packed_batch.ts";
import { groupSamples, type PlanItem, type Sample, tokenCount } from "../../lib/data/sample.ts";

const OPTIONS: PackOptions = {
  special: { bos: 1, eos: 2, soi: 3, eoi: 4 },
  vitPatch: 14,
  latentPixels: 16,
  vitSide: 4,
  latentSide: 4,
  drawTimestep: () => 0.25,
};

const pixels = (height: number, width: number) => ({
  height,
  width,
  data: Float32Array.from({ length: 3 * height * width }, (_, i) => i),
});
const text = (n: number, more: Partial<PlanItem> = {}) =>
  ({
    type: "text",
    loss: false,
    ids: Array.from({ length: n }, (_, i) => 10 + i),
    ...more,
  }) as PlanItem;
const vit = (more: Partial<PlanItem> = {}) =>
  ({ type: "vit_image", loss: false, image: pixels(28, 28), ...more }) as PlanItem;
const vae = (loss: boolean, more: Partial<PlanItem> = {}) =>
  ({ type: "vae_image", loss, image: pixels(32, 32), ...more }) as PlanItem;

/** The mask as rows of 0 and 1. */
function mask(batch: Parameters<typeof allowed>[0]): string[] {
  const ids = Array.from(batch.sample, (_, i) => i);
  return ids.map((q) => ids.map((k) => allowed(batch, q, k) ? "1" : "0").join(""));
}

Deno.test("packBatch() lays out a two-turn edit as the specification's worked example", () => {
  const sample = {
    plan: [vae(false), vit(), text(3), vae(true), vae(false), vit(), text(2), vae(true)],
  };
  const batch = packBatch([sample], OPTIONS);
  assert.deepEqual(batch.splitLens, [6, 6, 5, 6, 6, 6, 4, 6]);
  assert.deepEqual(batch.splitModes, [
    ...["full", "full", "causal", "noise"],
    ...["full", "full", "causal", "noise"],
  ]);
  const runs = [[0, 6], [1, 6], [2, 1], [3, 1], [4, 1], [5, 1], [6, 1], [7, 12], [8, 6]];
  const expected = [...runs, [9, 1], [10, 1], [11, 1], [12, 1], [13, 6]];
  assert.deepEqual(
    [...batch.positionIds],
    expected.flatMap(([position, count]) => Array(count).fill(position)),
  );
  assert.equal(batch.sequenceLength, 45);
  assert.deepEqual([...batch.mseRows], [4, 5, 6, 7, 12, 13, 14, 15]);
  assert.deepEqual([...batch.mseRows].map((r) => batch.vaeTokenIndexes[r]), [
    ...batch.mseLossIndexes,
  ]);
  assert.deepEqual([...batch.timesteps].map((t) => t === -Infinity), [
    ...Array(4).fill(true),
    ...Array(4).fill(false),
    ...Array(4).fill(true),
    ...Array(4).fill(false),
  ]);
});

Deno.test("packBatch() starts every sample at position 0 and keeps samples apart", () => {
  const batch = packBatch([{ plan: [text(2)] }, { plan: [text(1, { loss: true })] }], OPTIONS);
  assert.deepEqual([...batch.positionIds], [0, 1, 2, 3, 0, 1, 2]);
  assert.deepEqual([...batch.sample], [0, 0, 0, 0, 1, 1, 1]);
  assert.deepEqual([...batch.textIds], [1, 10, 11, 2, 1, 10, 2]);
  assert.deepEqual([...batch.ceLossIndexes], [4, 5]);
  assert.deepEqual([...batch.labelIds], [10, 2]);
  assert.deepEqual([...batch.ceLossWeights], [
    Math.fround(Math.SQRT1_2),
    Math.fround(Math.SQRT1_2),
  ]);
  assert.deepEqual(mask(batch), [
    ...["1000000", "1100000", "1110000", "1111000"],
    ...["0000100", "0000110", "0000111"],
  ]);
});

Deno.test("packBatch() draws dropout once per condition, in order, and never for other items", () => {
  let draws = 0;
  const plan = [
    text(1, { dropout: true }),
    vit({ dropout: true }),
    vae(false, { dropout: true }),
    text(1),
    vae(true),
  ];
  const batch = packBatch([{ plan }], {
    ...OPTIONS,
    dropout: { text: 0.5, vit: 0.5, vae: 0.5 },
    drawDropout: () => [0.4, 0.5, 0.49][draws++],
  });
  assert.equal(draws, 3);
  assert.deepEqual(batch.splitModes, ["full", "causal", "noise"]);
  // The dropped text leaves no gap, the dropped VAE image one position: ViT 0, text from 2.
  assert.deepEqual([...new Set(batch.positionIds)], [0, 2, 3, 4, 5]);
});

Deno.test("packBatch() lets branches share a trunk without seeing each other", () => {
  const plan = [
    vit({ image: pixels(14, 14) }),
    text(1, { branch: 1 }),
    text(0, { branch: 1, loss: true }),
    text(1, { branch: 2 }),
  ];
  const batch = packBatch([{ plan } as Sample], OPTIONS);
  assert.deepEqual([...batch.positionIds], [0, 0, 0, 1, 2, 3, 4, 5, 1, 2, 3]);
  assert.deepEqual([...batch.branch], [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]);
  assert.deepEqual(mask(batch), [
    ...Array(3).fill("11100000000"),
    "11110000000",
    "11111000000",
    "11111100000",
    "11111110000",
    "11111111000",
    "11100000100",
    "11100000110",
    "11100000111",
  ]);
});

Deno.test("packBatch() gives a branch the mask and positions it would have alone", () => {
  const trunk = [text(2), vit()];
  const questions = [[text(3), text(1, { loss: true })], [text(2), text(2, { loss: true })]];
  const shared = packBatch([{
    plan: [...trunk, ...questions.flatMap((q, i) => q.map((t) => ({ ...t, branch: i + 1 })))],
  }], OPTIONS);
  const all = Array.from(shared.branch, (_, i) => i);
  questions.forEach((question, i) => {
    const alone = packBatch([{ plan: [...trunk, ...question] }], OPTIONS);
    const mine = all.filter((t) => shared.branch[t] === 0 || shared.branch[t] === i + 1);
    assert.deepEqual(mine.map((t) => shared.positionIds[t]), [...alone.positionIds]);
    const seen = mine.map((q) => mine.map((k) => allowed(shared, q, k) ? "1" : "0").join(""));
    assert.deepEqual(seen, mask(alone));
  });
});

Deno.test("allowed() hides a hidden split from noise splits only", () => {
  const plan = [vit({ image: pixels(14, 14), hidden: true }), text(0), vae(true)];
  const batch = packBatch([{ plan }], OPTIONS);
  assert.deepEqual([...batch.hidden], [1, 1, 1, ...Array(8).fill(0)]);
  const rows = mask(batch);
  assert.equal(rows[0], "11100000000");
  assert.equal(rows[4], "11111000000"); // text still reads the image
  for (let q = 5; q < 11; q++) assert.equal(rows[q], "00011111111");
  const open = packBatch([{ plan: plan.map((item) => ({ ...item, hidden: false })) }], OPTIONS);
  assert.equal(mask(open)[5], "11111111111");
});

Deno.test("allowed() shows a hidden noise split to itself, and no noise split to others", () => {
  const batch = packBatch([{ plan: [vae(true, { hidden: true }), vae(true), text(0)] }], OPTIONS);
  const rows = mask(batch);
  assert.equal(rows[0], "111111" + "000000" + "00");
  assert.equal(rows[6], "000000" + "111111" + "00");
  assert.equal(rows[13], "000000" + "000000" + "11");
});

Deno.test("tokensOfSplits() yields the mask packing yields", () => {
  const batch = packBatch(
    [{ plan: [text(1), vae(true), vit(), text(2)] }, { plan: [vit()] }],
    OPTIONS,
  );
  const tokens = tokensOfSplits([[3, 6, 6, 4], [6]], [["causal", "noise", "full", "causal"], [
    "full",
  ]]);
  assert.deepEqual(mask(tokens), mask(batch));
});

Deno.test("packBatch() says what it cannot pack", () => {
  const pack = (plan: PlanItem[], more: Partial<PackOptions> = {}) =>
    packBatch([{ plan }], { ...OPTIONS, ...more });
  assert.throws(() => pack([vit({ image: pixels(13, 28) })]), {
    name: "RangeError",
    message: "Cannot pack a vit_image of 13x28: one token covers 14x14 pixels",
  });
  assert.throws(
    () => pack([vae(true, { image: { ...pixels(32, 32), data: new Float32Array(5) } })]),
    /TypeError: Cannot pack a vae_image of 32x32: it has 5 values, not 3 planes/,
  );
  assert.throws(() => pack([vit({ image: pixels(28, 70) })]), /table of 4x4/);
  assert.throws(() => pack([text(1, { branch: 1 }), text(1)]), /trunk item after a branch/);
  assert.throws(() => pack([vae(true, { splitStart: false })]), /none is open/);
  assert.throws(() => pack([text(9)], { padTo: 5 }), /Cannot pad 11 tokens to 5/);
  assert.throws(
    () => pack([text(1, { dropout: true })], { dropout: { text: 1, vit: 1, vae: 1 } }),
    /give drawDropout/,
  );
});

Deno.test("groupSamples() keeps the sample that did not fit and reports those that never can", () => {
  const sized = (n: number): Sample => ({ plan: [text(n - 2)] });
  const samples = [5, 4, 6, 30, 9, 2].map(sized);
  const skipped: number[] = [];
  const groups = [
    ...groupSamples(samples, OPTIONS, { expected: 9, max: 10 }, (_, n) => skipped.push(n)),
  ];
  const sizes = groups.map((group) => group.map((s) => tokenCount(s, OPTIONS)));
  assert.deepEqual(sizes, [[5, 4], [6], [9], [2]]);
  assert.deepEqual(skipped, [30]);
  for (const sample of [{ plan: [vae(true), vit(), text(3)] }]) {
    assert.equal(tokenCount(sample, OPTIONS), packBatch([sample], OPTIONS).sequenceLength);
  }
});
