import assert from "node:assert/strict";
import { cacheBytesPerToken, CachePool, type Context } from "../../lib/infer/cache.ts";
import { type Block, runPass } from "../../lib/infer/pass.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { PRESETS } from "../../lib/model/config.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { PAGE } from "../../lib/ops/cached_attention.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { picture, SMALL, smallModel, words } from "../model/small.ts";
import { WORD_IDS } from "../../lib/data/words.ts";

const text = (...ids: number[]): Block => ({ kind: "text", ids: words(...ids) });
const many = (n: number, from = 0): Block =>
  text(...Array.from({ length: n }, (_, i) => (from + i) % 18));

const read = (model: UniMedVL, context: Context, ...blocks: Block[]) =>
  runPass(model, WORD_IDS, [{ context, blocks }]);

/** The last hidden row that a token read behind a context gets: it depends on all that was read. */
async function trace(model: UniMedVL, context: Context): Promise<Float32Array> {
  const blocks = [text(3)];
  const { und } = await runPass(model, WORD_IDS, [{ context, blocks }], {
    keep: false,
    wanted: ["und"],
  });
  const values = await und!.floats();
  und!.dispose();
  return values;
}

const close = (a: Float32Array, b: Float32Array) =>
  a.length === b.length && a.every((v, i) => Math.abs(v - b[i]) < 1e-5);

Deno.test(
  "a fork shares its parent's pages, and each goes on alone after it",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const pool = new CachePool(model.gpu, SMALL.language, 8 * PAGE);
    const main = pool.context();
    await read(model, main, many(PAGE + 5));
    const fork = main.fork();
    assert.ok(fork.equals(main));
    assert.deepEqual(fork.pages, main.pages);
    const before = await trace(model, fork);
    await read(model, main, many(4, 9));
    assert.ok(!fork.equals(main));
    assert.equal(fork.length, PAGE + 5);
    assert.equal(fork.pages[0], main.pages[0], "the full page is still shared");
    assert.notEqual(fork.pages[1], main.pages[1], "the begun page is not");
    assert.deepEqual(
      await trace(model, fork),
      before,
      "the fork sees nothing of what its parent read",
    );

    // What either holds is what a context that read the same from the start holds.
    const fresh = pool.context();
    await read(model, fresh, many(PAGE + 5), many(4, 9));
    assert.ok(close(await trace(model, fresh), await trace(model, main)));
    pool.dispose();
    model.dispose();
  },
);

Deno.test(
  "only the one begun page is copied when a shared context goes on, however long it is",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const pool = new CachePool(model.gpu, SMALL.language, 12 * PAGE);
    const main = pool.context();
    await read(model, main, many(5 * PAGE + 1));
    for (let i = 0; i < 3 * PAGE; i += 7) await read(model, main, many(7, i));
    assert.equal(pool.copiedPages, 0, "a context alone copies nothing as it grows");
    const fork = main.fork();
    await read(model, fork, text(1));
    await read(model, main, text(1));
    await read(model, fork, text(2));
    assert.equal(pool.copiedPages, 1);
    pool.dispose();
    model.dispose();
  },
);

Deno.test("a pass that is not kept leaves its context as it was", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const pool = new CachePool(model.gpu, SMALL.language, 4 * PAGE);
  const context = pool.context();
  await read(model, context, many(9));
  const before = await trace(model, context);
  const latents = {
    kind: "latents" as const,
    tokens: new Float32Array(16 * 18),
    rows: 4,
    columns: 4,
    t: 1,
  };
  for (let i = 0; i < 2; i++) {
    const { gen } = await runPass(model, WORD_IDS, [{ context, blocks: [latents] }], {
      keep: false,
      wanted: ["gen"],
    });
    gen!.dispose();
  }
  assert.deepEqual([context.length, context.rope], [9, 9]);
  assert.deepEqual(await trace(model, context), before);
  pool.dispose();
  model.dispose();
});

Deno.test("reading block by block leaves what reading all at once does", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const pool = new CachePool(model.gpu, SMALL.language, 8 * PAGE);
  const image: Block = { kind: "vit", image: picture(1) };
  const blocks = [text(1, 2, 3), image, text(4), text(5, 6)];
  const [once, apart] = [pool.context(), pool.context()];
  await read(model, once, ...blocks);
  for (const block of blocks) await read(model, apart, block);
  assert.deepEqual([once.length, once.rope], [apart.length, apart.rope]);
  assert.equal(once.rope, 3 + 1 + 1 + 2, "an image takes one position");
  assert.ok(close(await trace(model, once), await trace(model, apart)));
  pool.dispose();
  model.dispose();
});

Deno.test("pages come back, and a full cache says so", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const pool = new CachePool(model.gpu, SMALL.language, 2 * PAGE);
  const [a, b] = [pool.context(), pool.context()];
  await read(model, a, many(PAGE));
  await read(model, b, many(PAGE));
  await assert.rejects(read(model, a, text(1)), {
    name: "ResourceError",
    message: `Cannot read on: the cache holds ${2 * PAGE} tokens, all in use`,
  });
  b.dispose();
  b.dispose();
  await read(model, a, text(1));
  pool.dispose();
  model.dispose();
});

Deno.test(
  "a cache that exceeds the memory budget is refused and leaves nothing behind",
  GPU_TEST,
  async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 22 });
    assert.throws(() => new CachePool(gpu, SMALL.language, 2 ** 15), { name: "ResourceError" });
    assert.equal(gpu.buffers.liveCount, 0);
    gpu.close();
  },
);

Deno.test("cacheBytesPerToken() counts keys and values of every layer", () => {
  // 28 layers · 2 · 4 heads · 128 numbers · 4 bytes: twice the 57,344 bytes of reference-model §1.7, in f32
  assert.equal(cacheBytesPerToken(PRESETS["unimedvl-14b"].language), 2 * 57_344);
});

Deno.test("images beyond the position tables are refused by their size", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const pool = new CachePool(model.gpu, SMALL.language, PAGE);
  const context = pool.context();
  await assert.rejects(read(model, context, { kind: "vit", image: picture(1, 40, 16) }), {
    name: "InputError",
    message:
      "Cannot read a 16×40 image with the image encoder: its sides must be from 8 to 32 pixels",
  });
  const latents = {
    kind: "latents" as const,
    tokens: new Float32Array(9 * 18),
    rows: 9,
    columns: 1,
    t: 0,
  };
  await assert.rejects(read(model, context, latents), {
    message: /the latent position table: .* 4 to 32 pixels/,
  });
  assert.equal(context.length, 0);
  pool.dispose();
  model.dispose();
});
