import assert from "node:assert/strict";
import { compareArms } from "../../lib/study/effect.ts";
import { effectText, gate } from "../../lib/study/gate.ts";

const MODALITY = { chance: 0.125, threshold: 0.25, learnedWhat: "modality" };

Deno.test("gate() passes a clear match and says it with its interval", () => {
  const judged = gate({ ...MODALITY, score: 0.75, shuffled: 0.125, n: 64 });
  assert.equal(judged.learned, true);
  assert.equal(
    judged.text,
    "generation learned: modality of generated images matches the prompt in 75.0 % " +
      "[63.2 %, 84.0 %] of 64 held-out prompts (chance 12.5 %, shuffled prompts 12.5 %)",
  );
});

Deno.test("gate() fails a share above the threshold whose lower bound is not", () => {
  // 5 of 16: Wilson's lower bound is 14.2 %.
  const judged = gate({ ...MODALITY, score: 5 / 16, shuffled: 0, n: 16 });
  assert.equal(judged.learned, false);
  assert.match(
    judged.text,
    /^generation not learned: .*lower bound not above the threshold 25.0 %/,
  );
  assert.equal(gate({ ...MODALITY, score: 5 / 16, shuffled: 0, n: 1600 }).learned, true);
});

Deno.test("gate() fails a match that shuffled prompts reach as well", () => {
  const judged = gate({ ...MODALITY, score: 0.6, shuffled: 0.55, n: 100 });
  assert.equal(judged.learned, false);
  assert.match(judged.text, /; not above shuffled prompts \(55.0 %\)$/);
});

Deno.test("effectText() withholds the verdict unless generation was learned", () => {
  const [effect] = compareArms([
    { arm: "und", seed: 0, metrics: { vqa: 0.5 } },
    { arm: "joint", seed: 0, metrics: { vqa: 0.9 } },
  ], { metric: "vqa", baseline: "und", pair: "seed" });
  const failed = gate({ ...MODALITY, score: 0.125, shuffled: 0.125, n: 64 });
  const passed = gate({ ...MODALITY, score: 1, shuffled: 0.125, n: 64 });
  assert.equal(effectText(effect, failed), "inconclusive: generation not learned");
  assert.equal(effectText(effect, passed), effect.verdict);
});

Deno.test("gate() refuses shares outside [0, 1], no prompts, and a threshold below chance", () => {
  const input = { ...MODALITY, score: 0.5, shuffled: 0.1, n: 64 };
  assert.throws(() => gate({ ...input, score: 1.5 }), /generation of modality: score is 1.5/);
  assert.throws(() => gate({ ...input, shuffled: NaN }), /shuffled is NaN/);
  assert.throws(() => gate({ ...input, n: 0 }), /generation of modality on 0 prompts/);
  assert.throws(() => gate({ ...input, threshold: 0.1 }), /threshold 0.1 is below chance 0.125/);
});
