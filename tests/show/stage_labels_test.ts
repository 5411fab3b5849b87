import assert from "node:assert/strict";
import { placeLabels, stageKey, stageLabels } from "../../lib/show/stage_labels.ts";

const spans = (...steps: [string, number][]) => {
  let from = 0;
  return steps.map(([name, count]) => {
    const span = { name, from, to: from + count };
    from = span.to;
    return span;
  });
};

Deno.test("stageLabels() writes names that have room, and numbers with a key where one has none", () => {
  const wide = spans(["foundation", 100], ["instruction", 100]);
  assert.deepEqual(stageLabels(wide, 1), ["foundation", "instruction"]);
  assert.equal(stageKey(wide, ["foundation", "instruction"]), "");
  const narrow = spans(["foundation", 20], ["instruction", 200], ["unified", 40]);
  const labels = stageLabels(narrow, 1);
  assert.deepEqual(labels, ["1", "2 instruction", "3"]);
  assert.equal(stageKey(narrow, labels), "1 foundation, 2 instruction, 3 unified");
  assert.deepEqual(stageLabels(spans(["alone", 5]), 1), ["alone"]);
});

Deno.test("placeLabels() puts labels in the middle of their stages, apart and within the plot", () => {
  assert.deepEqual(placeLabels([50, 150], [40, 20], 200), [30, 140]);
  const widths = [8, 8, 8, 60, 8];
  for (const middles of [[1, 2, 3, 4, 5], [195, 196, 197, 198, 199], [1, 2, 100, 198, 199]]) {
    const lefts = placeLabels(middles, widths, 200);
    lefts.forEach((left, i) => {
      const before = i === 0 ? 0 : lefts[i - 1] + widths[i - 1] + 5;
      assert.ok(left >= before, `${middles}: label ${i} at ${left}, free from ${before}`);
    });
    assert.ok(lefts.at(-1)! + 8 <= 200);
  }
});
