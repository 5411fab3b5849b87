import assert from "node:assert/strict";
import {
  type LoadedBatch,
  type LoaderOptions,
  type LoaderState,
  openLoader,
} from "../../../lib/data/training/loader.ts";
import { digestOf, loaderOptions, memorySource } from "./memory_source.ts";

const sources = () => [memorySource("a", 40, { bad: (i) => i % 8 === 5 }), memorySource("b", 17)];

/** The batches of each of some ranks. */
async function ranksTake(
  options: LoaderOptions,
  ranks: number,
  count: number,
  state?: LoaderState,
): Promise<LoadedBatch[][]> {
  const all: LoadedBatch[][] = [];
  for (let rank = 0; rank < ranks; rank++) {
    const loader = await openLoader({ ...options, rank, ranks }, state);
    const batches: LoadedBatch[] = [];
    for (let i = 0; i < count; i++) batches.push(await loader.next());
    await loader.close();
    all.push(batches);
  }
  return all;
}

const options = loaderOptions(sources(), { batch: { samples: 3 }, mostBad: 1 });

Deno.test("micro-batches of one rank are dealt out to many ranks in turn, unchanged", async () => {
  const [alone] = await ranksTake(options, 1, 12);
  for (const ranks of [2, 3, 4]) {
    const all = await ranksTake(options, ranks, 12 / ranks);
    const dealt = Array.from({ length: 12 }, (_, m) => all[m % ranks][Math.floor(m / ranks)]);
    assert.deepEqual(dealt.map(digestOf), alone.map(digestOf), `${ranks} ranks`);
  }
});

Deno.test("after each round all ranks stand at the same slot, and other numbers of ranks go on from it", async () => {
  const [alone] = await ranksTake(options, 1, 12);
  const [first, second] = await ranksTake(options, 2, 3);
  assert.deepEqual(first.map((b) => b.after.position), second.map((b) => b.after.position));
  assert.deepEqual(first[2].after.position, alone[5].after.position);
  const three = await ranksTake(options, 3, 2, first[2].after);
  const dealt = [0, 1].flatMap((round) => three.map((rank) => digestOf(rank[round])));
  assert.deepEqual(dealt, alone.slice(6).map(digestOf));
});

Deno.test("token batches of several ranks share no slot, and no record within a pass", async () => {
  const batch = {
    expectedTokens: 50,
    maxTokens: 64,
    maxTokensPerSample: 60,
    preferBufferBefore: 20,
    buffer: 4,
    mandatory: ["text"] as const,
  };
  const all = await ranksTake(
    { ...options, sources: [{ source: memorySource("a", 400) }], batch },
    3,
    10,
  );
  const samples = all.flat().flatMap((b) => b.samples);
  assert.equal(new Set(samples.map(({ slot }) => slot)).size, samples.length);
  all.forEach((batches, rank) => {
    const slots = batches.flatMap((b) => b.samples).map(({ slot }) => slot);
    assert.ok(slots.filter((slot) => slot < 2 ** 44).every((slot) => slot % 3 === rank));
    assert.ok(batches.every((b) => b.samples.some(({ task }) => task === "text")));
  });
  const ordinary = samples.filter(({ slot, epoch }) => slot < 2 ** 44 && epoch === 0);
  assert.ok(ordinary.length > 80);
  assert.equal(new Set(ordinary.map(({ index }) => index)).size, ordinary.length);
});

Deno.test("a sample is the same in whatever batch and rank it lands", async () => {
  // No record in another's stead here, as token batches have their own places in the streams.
  const clean = { ...options, sources: [{ source: memorySource("a", 400) }] };
  const tokens = {
    expectedTokens: 40,
    maxTokens: 64,
    maxTokensPerSample: 60,
    preferBufferBefore: 20,
    buffer: 4,
  };
  const seen = new Map<number, string>();
  let twice = 0;
  for (const batch of [{ samples: 3 }, { samples: 5 }, tokens]) {
    const [batches] = await ranksTake({ ...clean, batch }, 1, 8);
    for (const each of batches) {
      const noise = each.noise(2);
      each.samples.forEach((sample, i) => {
        const { packed } = each;
        const rows = [...packed.vaeTokenIndexes.keys()]
          .filter((row) => packed.sample[packed.vaeTokenIndexes[row]] === i);
        const facts = JSON.stringify([
          sample,
          rows.map((row) => [packed.timesteps[row], noise[2 * row], noise[2 * row + 1]]),
          each.imageKeys.filter(([, slot]) => slot === sample.slot),
          [...packed.textIds].filter((_, t) => packed.sample[packed.textIndexes[t]] === i),
        ]);
        if (seen.has(sample.slot)) twice++;
        assert.equal(seen.get(sample.slot) ?? facts, facts);
        seen.set(sample.slot, facts);
      });
    }
  }
  assert.ok(twice > 30, `${twice} samples seen again`);
});

Deno.test("a record that comes again in another pass makes its choices anew", async () => {
  const source = memorySource("a", 6, { tasks: () => "text", words: () => 5 });
  const [batches] = await ranksTake(
    { ...options, sources: [{ source }], mix: { text: 1 }, batch: { samples: 6 } },
    1,
    2,
  );
  const texts = batches.flatMap(({ packed, samples }) =>
    samples.map((_, i) => [...packed.textIds].filter((_, t) => packed.sample[t] === i).join(" "))
  );
  assert.equal(new Set(texts).size, 12, "each of six records twice, of five words drawn from 43");
});
