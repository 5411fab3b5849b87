import assert from "node:assert/strict";
import {
  argmax,
  checkSampling,
  chooseToken,
  type SamplingOptions,
} from "../../lib/infer/sampling.ts";

const LOGITS = Float32Array.of(1, 3, 2, 3, -Infinity, 0);

/** How often each id comes in many draws. */
function frequencies(options: SamplingOptions, count = LOGITS.length, draws = 4000): number[] {
  const seen = new Array(LOGITS.length).fill(0);
  for (let step = 0; step < draws; step++) seen[chooseToken(LOGITS, count, options, step)]++;
  return seen.map((n) => n / draws);
}

/** softmax(logits / T) over some ids. */
function odds(ids: number[], temperature: number): number[] {
  const weights = Array.from(LOGITS, (v, i) => ids.includes(i) ? Math.exp(v / temperature) : 0);
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

function near(got: number[], want: number[]): void {
  got.forEach((g, i) => assert.ok(Math.abs(g - want[i]) < 0.03, `${i}: ${g}, not ${want[i]}`));
}

Deno.test("temperature 0 takes the most likely token, the first of equal ones", () => {
  assert.equal(argmax(LOGITS), 1);
  assert.equal(chooseToken(LOGITS, 6, {}, 0), 1);
  assert.equal(chooseToken(LOGITS, 6, { temperature: 0, topP: 0.1, seed: 9 }, 5), 1);
  assert.equal(
    chooseToken(LOGITS, 1, { temperature: 2 }, 5),
    0,
    "ids beyond the vocabulary are not said",
  );
});

Deno.test("draws follow softmax(logits / T), topK and topP cut it and the rest keeps its odds", () => {
  near(frequencies({ temperature: 1 }), odds([0, 1, 2, 3, 5], 1));
  near(frequencies({ temperature: 0.5 }), odds([0, 1, 2, 3, 5], 0.5));
  near(frequencies({ temperature: 1, topK: 3 }), odds([1, 2, 3], 1));
  near(frequencies({ temperature: 1, topP: 0.5 }), odds([1, 3], 1)); // 0.38 is not enough, 0.76 is
  near(frequencies({ temperature: 1, topK: 3, topP: 0.9 }), odds([1, 2, 3], 1)); // 0.42, 0.84, then 1
  near(frequencies({ temperature: 1 }, 3), odds([0, 1, 2], 1));
});

Deno.test("a draw depends on seed, step and sequence alone", () => {
  const options = { temperature: 1, seed: 4 };
  const draw = (seed: number, step: number, sequence = 0) =>
    chooseToken(LOGITS, 6, { ...options, seed }, step, sequence);
  const run = (seed: number, sequence = 0) =>
    Array.from({ length: 40 }, (_, step) => draw(seed, step, sequence));
  assert.deepEqual(run(4), run(4));
  assert.notDeepEqual(run(4), run(5));
  assert.notDeepEqual(run(4, 0), run(4, 1));
});

Deno.test("checkSampling() names the option that makes no sense", () => {
  const refused: [SamplingOptions, string][] = [
    [{ temperature: -1 }, "Cannot sample with temperature -1"],
    [{ temperature: NaN }, "Cannot sample with temperature NaN"],
    [{ topK: 1.5 }, "Cannot sample with topK 1.5"],
    [{ topP: 0 }, "Cannot sample with topP 0"],
    [{ topP: 1.1 }, "Cannot sample with topP 1.1"],
  ];
  for (const [options, message] of refused) {
    assert.throws(() => checkSampling(options), { name: "UsageError", message });
  }
});
