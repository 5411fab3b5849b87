import assert from "node:assert/strict";
import { auroc } from "../../lib/study/auroc.ts";
import { seededRandom } from "../../lib/study/random.ts";
import { gaussian, near } from "./helpers.ts";

const Z = 1.959963984540054;

Deno.test("auroc() and DeLong's variance match four scores worked by hand", () => {
  // Positives 3 and 2, negatives 1 and 2.5: three of four pairs in order; both placements vary by 1/8.
  const { value, low, high } = auroc([3, 2, 1, 2.5], [1, 1, 0, 0]);
  assert.equal(value, 0.75);
  near(low, 0.75 - Z * Math.sqrt(0.125), 1e-12);
  assert.equal(high, 1);
});

Deno.test("auroc() with groups uses Obuchowski's variance, worked by hand", () => {
  // Image 0 holds 3 and 1, image 1 holds 2 and 2.5: 1/16 + 1/16 + 2 · 1/16 = 1/4.
  const scores = [3, 2, 1, 2.5];
  const result = auroc(scores, [1, 1, 0, 0], { groups: ["i0", "i1", "i0", "i1"], level: 0.5 });
  const z75 = 0.6744897501960817;
  near(result.low, 0.75 - z75 * 0.5, 1e-12);
  assert.equal(result.groups, 2);
});

Deno.test("auroc() equals the share of ordered pairs, ties counted half", () => {
  const random = seededRandom(2);
  const scores = Array.from({ length: 120 }, () => random.below(9));
  const labels = Array.from({ length: 120 }, () => random.below(2));
  let [good, pairs] = [0, 0];
  for (let i = 0; i < 120; i++) {
    for (let j = 0; j < 120; j++) {
      if (labels[i] !== 1 || labels[j] !== 0) continue;
      pairs += 1;
      good += scores[i] > scores[j] ? 1 : scores[i] === scores[j] ? 0.5 : 0;
    }
  }
  near(auroc(scores, labels).value, good / pairs, 1e-12);
  near(auroc(scores.map((s) => -s), labels).value, 1 - good / pairs, 1e-12);
  assert.equal(auroc([1, 1, 1, 1], [1, 0, 1, 0]).value, 0.5);
});

Deno.test("auroc() covers the true area in about 95 of 100 samples", () => {
  // Normals one apart: the true area is Φ(1/√2).
  const truth = 0.7602499389065233;
  const random = seededRandom(8);
  let covered = 0;
  for (let trial = 0; trial < 400; trial++) {
    const labels = Array.from({ length: 100 }, (_, i) => i % 3 === 0 ? 1 : 0);
    const { low, high } = auroc(labels.map((y) => y + gaussian(random)), labels);
    if (low <= truth && truth <= high) covered += 1;
  }
  assert.ok(covered >= 364 && covered <= 396, `${covered} of 400 covered`); // ±4 SD, less DeLong's bias
});

Deno.test("auroc() of perfectly separated scores keeps an interval as wide as the sample is small", () => {
  const { value, low, high } = auroc([5, 4, 3, 2, 1, 0], [1, 1, 1, 0, 0, 0]);
  assert.deepEqual([value, high], [1, 1]);
  near(low, 3 / (3 + Z * Z), 1e-12); // Wilson for 3 of 3
});

Deno.test("auroc() of a single group knows nothing, and refuses one kind only", () => {
  const one = auroc([1, 2, 3, 2], [0, 1, 1, 0], { groups: [7, 7, 7, 7] });
  assert.deepEqual([one.low, one.high], [0, 1]);
  assert.throws(
    () => auroc([1, 2], [1, 1]),
    /Cannot take the AUROC of 2 positives and 0 negatives/,
  );
  assert.throws(() => auroc([1, NaN], [1, 0]), /item 1 has score NaN and label 0/);
  assert.throws(() => auroc([1], [1, 0]), /Cannot take the AUROC of 1 scores: 2 labels/);
});
