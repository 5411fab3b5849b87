import assert from "node:assert/strict";
import type { Gpu } from "../../lib/gpu/device.ts";
import {
  attendCached,
  type CacheLayer,
  type CacheSpan,
  cacheView,
  PAGE,
} from "../../lib/ops/cached_attention.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";
import { variantsOf } from "../../lib/parity/family_check.ts";

interface Heads {
  H: number;
  K: number;
  D: number;
}

/** Every slot starts as NaN: what no token wrote must not be read into a result. */
function cacheOf(gpu: Gpu, pages: number, { K, D }: Heads): CacheLayer {
  const size = 4 * Math.ceil(D / 4);
  const make = () =>
    Tensor.from(gpu, new Float32Array(pages * PAGE * K * size).fill(NaN), [pages * PAGE, K, size]);
  return { keys: make(), values: make() };
}

/** Attention of a sequence's tokens to all its earlier ones, in f64; `seen[i]` keys for token i. */
function reference(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  seen: number[],
  { H, K, D }: Heads,
): Float64Array {
  const y = new Float64Array(seen.length * H * D);
  seen.forEach((keys, i) => {
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h * K / H);
      const scores = Array.from({ length: keys }, (_, j) => {
        let dot = 0;
        for (let d = 0; d < D; d++) dot += q[(i * H + h) * D + d] * k[(j * K + g) * D + d];
        return dot / Math.sqrt(D);
      });
      const most = Math.max(...scores);
      const weights = scores.map((s) => Math.exp(s - most));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let d = 0; d < D; d++) {
        let sum = 0;
        for (let j = 0; j < keys; j++) sum += weights[j] * v[(j * K + g) * D + d];
        y[(i * H + h) * D + d] = sum / total;
      }
    }
  });
  return y;
}

/** A sequence that grows by chunks through the cache, compared with the reference chunk by chunk. */
async function checkGrowth(
  gpu: Gpu,
  heads: Heads,
  pages: number[],
  chunks: { tokens: number; causal: boolean }[],
): Promise<void> {
  const { H, K, D } = heads;
  const cache = cacheOf(gpu, Math.max(...pages) + 1, heads);
  const total = chunks.reduce((n, c) => n + c.tokens, 0);
  const [k, v] = [normals(total * K * D, 2), normals(total * K * D, 3)];
  let length = 0;
  for (const { tokens, causal } of chunks) {
    const q = normals(tokens * H * D, 10 + length);
    const rows = (x: Float32Array) => x.subarray(length * K * D, (length + tokens) * K * D);
    const y = tidy(() => {
      const view = cacheView([cache], [{ pages, length, tokens, causal }]);
      return attendCached(
        Tensor.from(gpu, q, [tokens, H, D]),
        Tensor.from(gpu, rows(k).slice(), [tokens, K, D]),
        Tensor.from(gpu, rows(v).slice(), [tokens, K, D]),
        view,
        0,
      );
    });
    const got = await y.floats();
    y.dispose();
    const seen = Array.from(
      { length: tokens },
      (_, i) => causal ? length + i + 1 : length + tokens,
    );
    const want = reference(q, k, v, seen, heads);
    want.forEach((w, i) => {
      assert.ok(Math.abs(got[i] - w) < 2e-5, `at ${i} of chunk ${tokens}: ${got[i]}, not ${w}`);
    });
    length += tokens;
  }
  cache.keys.dispose();
  cache.values.dispose();
}

Deno.test(
  "attendCached() equals plain attention as a sequence grows over scattered pages, text and images",
  GPU_TEST,
  async () => {
    for (const [, gpu] of variantsOf(await testGpu())) {
      for (const heads of [{ H: 4, K: 2, D: 16 }, { H: 7, K: 1, D: 8 }, { H: 3, K: 3, D: 6 }]) {
        await checkGrowth(gpu, heads, [5, 0, 3, 1], [
          { tokens: 1, causal: true },
          { tokens: PAGE + 1, causal: true },
          { tokens: 1, causal: true },
          { tokens: 37, causal: false },
          { tokens: PAGE - 2, causal: true },
        ]);
      }
    }
  },
);

Deno.test("attendCached() works at the published model's heads", GPU_TEST, async () => {
  const chunks = [{ tokens: 70, causal: false }, { tokens: 5, causal: true }, {
    tokens: 1,
    causal: true,
  }];
  await checkGrowth(await testGpu(), { H: 28, K: 4, D: 128 }, [2, 0, 1], chunks);
});

Deno.test(
  "attendCached() keeps sequences of one pass apart, shared pages included",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const heads = { H: 2, K: 1, D: 8 };
    const cache = cacheOf(gpu, 4, heads);
    const size = 8;
    const random = (tokens: number, H: number, seed: number) =>
      Tensor.from(gpu, normals(tokens * H * size, seed), [tokens, H, size]);
    const run = async (spans: CacheSpan[], tokens: number, seed: number) => {
      const y = tidy(() =>
        attendCached(
          random(tokens, 2, seed),
          random(tokens, 1, seed + 1),
          random(tokens, 1, seed + 2),
          cacheView([cache], spans),
          0,
        )
      );
      const values = await y.floats();
      y.dispose();
      return values;
    };
    await run([{ pages: [0], length: 0, tokens: PAGE, causal: true }], PAGE, 20); // a whole page, shared
    for (const n of [3, 12]) {
      const one: CacheSpan = { pages: [0, 1], length: PAGE, tokens: n, causal: true };
      const two: CacheSpan = { pages: [0, 2], length: PAGE, tokens: n, causal: false };
      const both = await run([one, two], 2 * n, 30);
      // Alone, with the same rows: the second sequence's rows are the second half of what both had.
      const half = (H: number, seed: number, part: number) => {
        const all = normals(2 * n * H * size, seed);
        const rows = all.slice(part * n * H * size, (part + 1) * n * H * size);
        return Tensor.from(gpu, rows, [n, H, size]);
      };
      for (const [part, span] of [one, two].entries()) {
        const alone = tidy(() =>
          attendCached(
            half(2, 30, part),
            half(1, 31, part),
            half(1, 32, part),
            cacheView([cache], [span]),
            0,
          )
        );
        const rows = both.slice(part * n * 2 * size, (part + 1) * n * 2 * size);
        assert.ok(rows.every((x) => Number.isFinite(x) && x !== 0));
        assert.deepEqual(await alone.floats(), rows, `${n} tokens, part ${part}`);
        alone.dispose();
      }
    }
    cache.keys.dispose();
    cache.values.dispose();
  },
);

Deno.test("attendCached() refuses what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  const cache = cacheOf(gpu, 1, { H: 2, K: 1, D: 8 });
  tidy(() => {
    assert.throws(
      () => cacheView([cache], [{ pages: [0], length: PAGE, tokens: 1, causal: true }]),
      {
        name: "RangeError",
        message: `Cannot cache 1 tokens behind ${PAGE}: there are 1 pages of ${PAGE}`,
      },
    );
    const view = cacheView([cache], [{ pages: [0], length: 0, tokens: 2, causal: true }]);
    const x = (...shape: number[]) => Tensor.zeros(gpu, shape);
    const no = { name: "TypeError", message: /the pass has 2 tokens, the cache \(32, 1, 8\)/ };
    assert.throws(() => attendCached(x(3, 2, 8), x(3, 1, 8), x(3, 1, 8), view, 0), no);
    assert.throws(() => attendCached(x(2, 2, 16), x(2, 1, 16), x(2, 1, 16), view, 0), no);
    assert.throws(() => attendCached(x(2, 2, 8), x(2, 2, 8), x(2, 2, 8), view, 0), no);
    assert.throws(() => attendCached(x(2, 2, 8), x(2, 1, 8), x(2, 1, 8), view, 1), /no such layer/);
  });
  cache.keys.dispose();
  cache.values.dispose();
});
