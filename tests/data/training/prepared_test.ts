import assert from "node:assert/strict";
import { tokenCount } from "../../../lib/data/sample.ts";
import { makeBatch } from "../../../lib/data/training/loaded_batch.ts";
import { openPreparePool } from "../../../lib/data/training/prepare_pool.ts";
import { type PrepareContext, prepareSlot } from "../../../lib/data/training/prepared.ts";
import { openStreams } from "../../../lib/data/training/slots.ts";
import { loaderOptions, memorySource } from "./memory_source.ts";

const { images, tokenizer, pack, dropout, seed } = loaderOptions([]);

async function contextOf(more: Partial<PrepareContext>, bad = (_: number) => false) {
  const source = memorySource("a", 40, { bad });
  return {
    streams: openStreams([{ source }], seed),
    pool: await openPreparePool(0, { images, tokenizer }),
    seed,
    grid: pack,
    dropout,
    maxTokensPerSample: Infinity,
    substitutes: 3,
    ...more,
  };
}

Deno.test("prepareSlot() foretells the tokens that packing leaves after dropout", async () => {
  const context = await contextOf({});
  let dropped = 0;
  for (let slot = 0; slot < 40; slot++) {
    const stream = slot % 2 ? "a/interleaved" : "a/t2i";
    const { ready } = await prepareSlot({ slot, stream, ordinal: slot, attempt: 0 }, context);
    const { packed } = makeBatch([ready!], { seed, pack, dropout });
    assert.equal(ready!.tokens, tokenCount(ready!.sample, pack));
    assert.equal(ready!.length, packed.sequenceLength);
    if (ready!.length < ready!.tokens) dropped++;
  }
  assert.ok(dropped > 10 && dropped < 40, `${dropped} with something dropped`);
});

Deno.test("prepareSlot() tries other records of the stream, and starts at the attempt it is told", async () => {
  const good = new Set<number>();
  const ref = { slot: 5, stream: "a/text", ordinal: 2, attempt: 0 };
  const wanted = await contextOf({});
  const tries: number[] = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    const { ready } = await prepareSlot({ ...ref, attempt }, wanted);
    assert.equal(ready!.ref.attempt, attempt);
    assert.equal(ready!.index % 4, 3); // a text
    tries.push(ready!.index);
  }
  good.add(tries[2]);
  const context = await contextOf({}, (i) => !good.has(i));
  const { ready, read, refused } = await prepareSlot(ref, context);
  assert.equal(ready!.index, tries[2]);
  assert.deepEqual([ready!.ref.attempt, read, refused.length], [2, 3, 2]);
  assert.match(refused[0].message, new RegExp(`a.jsonl line ${tries[0] + 1}:`));
  const none = await prepareSlot(ref, await contextOf({}, () => true));
  assert.deepEqual([none.ready, none.read, none.refused.length], [undefined, 4, 4]);
});
