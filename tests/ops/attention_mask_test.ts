import assert from "node:assert/strict";
import {
  attentionMask,
  blockRanges,
  type Ranges,
  type TokenMask,
  visibleKeys,
  visibleQueries,
} from "../../lib/ops/attention_mask.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { allowed, mixedTokens, oneSplit, sliceTokens } from "./attention_reference.ts";

/** Tiles of `block` that block ranges make a kernel visit. */
function visits(ranges: Ranges, block: number): number {
  const { lo, hi } = blockRanges(ranges, block);
  return lo.reduce((sum, from, b) => sum + Math.ceil((hi[b] - from) / block), 0);
}

function samplesOf(count: number, length: number): TokenMask {
  const ids = Int32Array.from({ length: count * length }, (_, i) => Math.floor(i / length));
  return { sample: ids, split: ids, mode: new Int32Array(ids.length).fill(1) };
}

Deno.test("visibleKeys() and visibleQueries() hold every pair the rule allows", () => {
  for (let seed = 1; seed <= 12; seed++) {
    const keys = mixedTokens({ samples: [17, 1, 60, 40], branches: seed % 2 === 0, seed });
    for (const offset of [0, 30, 117]) {
      const queries = offset === 0 ? keys : sliceTokens(keys, offset, 118);
      const byQuery = visibleKeys(queries, keys, offset);
      const byKey = visibleQueries(queries, keys, offset);
      for (let i = 0; i < queries.sample.length; i++) {
        for (let j = 0; j < keys.sample.length; j++) {
          if (!allowed(queries, keys, offset, i, j)) continue;
          assert.ok(byQuery.lo[i] <= j && j < byQuery.hi[i], `seed ${seed}: query ${i}, key ${j}`);
          assert.ok(byKey.lo[j] <= i && i < byKey.hi[j], `seed ${seed}: key ${j}, query ${i}`);
        }
      }
    }
  }
});

Deno.test("blockRanges() of a causal sample visit half of the square", () => {
  const tokens = oneSplit(1024, 0);
  assert.equal(visits(visibleKeys(tokens, tokens), 32), 32 * 33 / 2);
  assert.equal(visits(visibleQueries(tokens, tokens), 32), 32 * 33 / 2);
});

Deno.test("blockRanges() visit tiles linear in the number of samples", () => {
  for (const block of [8, 32]) {
    const count = (samples: number) => {
      const tokens = samplesOf(samples, 64);
      const there = visits(visibleKeys(tokens, tokens), block);
      assert.equal(visits(visibleQueries(tokens, tokens), block), there);
      return there;
    };
    const [few, many] = [count(8), count(64)];
    assert.equal(few, 8 * (64 / block) ** 2);
    assert.equal(many, 8 * few);
  }
});

Deno.test("visibleQueries() of noise and branch keys end with their split and branch", () => {
  const tokens: TokenMask = {
    sample: new Int32Array(12),
    split: Int32Array.of(0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4),
    mode: Int32Array.of(0, 0, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0),
    branch: Int32Array.of(0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2),
  };
  const { lo, hi } = visibleQueries(tokens, tokens);
  assert.deepEqual([...lo], [0, 1, 2, 2, 2, 5, 5, 7, 8, 9, 10, 11]);
  assert.deepEqual([...hi], [12, 12, 5, 5, 5, 12, 12, 9, 9, 12, 12, 12]);
});

Deno.test("blockRanges() are empty where nothing is visible", () => {
  const none = { lo: new Int32Array(9), hi: new Int32Array(9) };
  assert.deepEqual(blockRanges(none, 8), { lo: Int32Array.of(0, 0), hi: Int32Array.of(0, 0) });
  none.hi[8] = 4;
  none.lo[8] = 2;
  assert.deepEqual(blockRanges(none, 8), { lo: Int32Array.of(0, 2), hi: Int32Array.of(0, 4) });
});

Deno.test("attentionMask() refuses arrays that do not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const good = oneSplit(3, 0);
  const bad = (change: Partial<TokenMask>) => () => attentionMask(gpu, { ...good, ...change });
  assert.throws(bad({ split: new Int32Array(2) }), {
    name: "TypeError",
    message: "Cannot mask attention: queries have 3 samples but 2 values of split",
  });
  assert.throws(bad({ branch: new Int32Array(4) }), /3 samples but 4 values of branch$/);
  assert.throws(bad({ mode: Int32Array.of(0, 3, 0) }), {
    name: "RangeError",
    message: "Cannot mask attention: mode 3 of token 1 is not 0, 1 or 2",
  });
  assert.throws(() => attentionMask(gpu, oneSplit(0, 0)), {
    message: "Cannot mask attention: there are no queries",
  });
  assert.throws(() => attentionMask(gpu, good, oneSplit(4, 0), { queryOffset: 2 }), {
    name: "RangeError",
    message: "Cannot mask 3 queries from index 2 on: there are 4 keys",
  });
});
