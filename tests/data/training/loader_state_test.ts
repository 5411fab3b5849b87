import assert from "node:assert/strict";
import { InputError, UsageError } from "../../../lib/errors.ts";
import {
  checkLoaderState,
  type LoadedBatch,
  type LoaderOptions,
  type LoaderState,
  openLoader,
} from "../../../lib/data/training/loader.ts";
import { digestOf, loaderOptions, memorySource } from "./memory_source.ts";

const TOKENS = {
  expectedTokens: 60,
  maxTokens: 62,
  maxTokensPerSample: 40,
  preferBufferBefore: 30,
  buffer: 1,
};

/** Two small sources, so that a dozen batches go over their ends; a tenth of one is bad. */
function sources() {
  return [
    memorySource("a", 24, { bad: (i) => i % 10 === 7, blocks: [0, 5, 6, 17] }),
    memorySource("b", 13, { tasks: (i) => i % 3 === 0 ? "text" : "i2t", words: (i) => 5 * i }),
  ];
}

const KINDS: Record<string, Partial<LoaderOptions>> = {
  samples: { batch: { samples: 5 }, maxTokensPerSample: 40 },
  tokens: { batch: TOKENS },
  mandatory: { batch: { ...TOKENS, mandatory: ["t2i", "text"] } },
  reference: { batch: { ...TOKENS, mandatory: ["t2i"] }, reference: true },
};
const BATCHES = 14;

async function take(options: LoaderOptions, count: number, state?: LoaderState) {
  const loader = await openLoader(options, state);
  try {
    const batches: LoadedBatch[] = [];
    for (let i = 0; i < count; i++) batches.push(await loader.next());
    assert.deepEqual(loader.drawn, batches.at(-1)!.after.drawn);
    return batches;
  } finally {
    await loader.close();
  }
}

const json = (state: LoaderState) => checkLoaderState(JSON.parse(JSON.stringify(state)));

for (const [kind, more] of Object.entries(KINDS)) {
  Deno.test(`openLoader() goes on bit for bit after any number of batches (${kind})`, async () => {
    const options = loaderOptions(sources(), { ...more, mostBad: 0.5, prefetch: 3 });
    const whole = await take(options, BATCHES);
    const digests = whole.map(digestOf);
    assert.equal(new Set(digests).size, BATCHES);
    const last = whole.at(-1)!.after;
    assert.ok(last.bad.count > 0 && last.long.count > 0, "nothing was left out");
    assert.ok(whole.some(({ samples }) => samples.some(({ epoch }) => epoch > 0)), "one pass only");
    if (kind !== "samples") {
      assert.ok(whole.some(({ after }) => after.buffer.length > 0), "nothing ever waited");
      assert.equal(whole.some(({ after }) => after.hand !== null), kind !== "reference");
    }
    for (let cut = 1; cut < BATCHES; cut++) {
      const rest = await take(options, Math.min(3, BATCHES - cut), json(whole[cut - 1].after));
      const expected = whole.slice(cut, cut + 3);
      assert.deepEqual(rest.map(digestOf), expected.map(digestOf), `after ${cut}`);
      assert.deepEqual(rest.map(({ after }) => after), expected.map(({ after }) => after));
    }
  });
}

for (const kind of ["samples", "tokens"]) {
  Deno.test(`workers give the batches of no workers, and go on bit for bit (${kind})`, async () => {
    const options = loaderOptions(sources(), { ...KINDS[kind], mostBad: 0.5 });
    const whole = await take(options, BATCHES);
    const digests = whole.map(digestOf);
    const before = await take({ ...options, workers: 2, prefetch: 4 }, 6);
    assert.deepEqual(before.map(digestOf), digests.slice(0, 6));
    const state = json(before.at(-1)!.after);
    const after = await take({ ...options, workers: 1 }, BATCHES - 6, state);
    assert.deepEqual(after.map(digestOf), digests.slice(6));
    assert.deepEqual(after.at(-1)!.after, whole.at(-1)!.after);
  });
}

Deno.test("a state says how many samples and tokens of each task were drawn, from the first batch on", async () => {
  const options = loaderOptions(sources(), { batch: TOKENS, mostBad: 1 });
  const batches = await take(options, 6);
  const state = batches[2].after;
  const more = await take(options, 3, json(state));
  const samples = [...batches.slice(0, 3), ...more].flatMap((batch) => batch.samples);
  for (const task of ["t2i", "i2t", "interleaved", "text"] as const) {
    const mine = samples.filter((sample) => sample.task === task);
    assert.deepEqual(more[2].after.drawn[task], {
      samples: mine.length,
      tokens: mine.reduce((sum, { tokens }) => sum + tokens, 0),
    });
  }
  for (const { packed, samples } of batches) {
    assert.deepEqual(samples.map(({ tokens }) => tokens), packed.sampleLens);
    assert.ok(packed.sequenceLength <= TOKENS.maxTokens);
  }
});

Deno.test("a stage with another mix, other sizes and less room goes on from the state of the one before", async () => {
  const options = loaderOptions(sources(), { batch: TOKENS, mostBad: 1 });
  const state = (await take(options, 5)).find(({ after }) => after.buffer.length > 0)!.after;
  const next = loaderOptions(sources(), {
    batch: { ...TOKENS, maxTokensPerSample: 12 },
    mix: { t2i: 1 },
    images: { vae: { max: 16, min: 8, stride: 8 }, vit: { max: 8, min: 8, stride: 8 } },
    mostBad: 1,
  });
  const batches = await take(next, 4, json(state));
  const samples = batches.flatMap((batch) => batch.samples);
  assert.ok(samples.every(({ tokens }) => tokens <= 12));
  const waiting = new Set(
    [...state.buffer, ...(state.hand ? [state.hand] : [])].map((r) => r.slot),
  );
  const fresh = samples.filter(({ slot }) => !waiting.has(slot));
  assert.ok(fresh.length > 4 && fresh.every(({ task }) => task === "t2i"));
  assert.ok(fresh.every(({ slot }) => slot >= state.position.slot));
});

Deno.test("openLoader() refuses a state of another seed, kind or division, and checkLoaderState() a broken one", async () => {
  const options = loaderOptions(sources(), { batch: TOKENS, mostBad: 1 });
  const { after } = (await take(options, 1))[0];
  const refuses = async (state: LoaderState, more: Partial<LoaderOptions>, says: RegExp) => {
    await assert.rejects(
      openLoader({ ...options, ...more }, state),
      (error) => error instanceof UsageError && says.test(error.message),
    );
  };
  await refuses(after, { seed: 4 }, /the state is of seed 3, the loader of 4/);
  await refuses(after, { batch: { samples: 2 } }, /counted in tokens, the loader's in samples/);
  await refuses(after, { ranks: 2 }, /rank 0 of 1, the loader of 0 of 2/);
  const gone = await openLoader(
    { ...options, sources: [{ source: memorySource("c", 20) }] },
    { ...after, buffer: [{ slot: 0, stream: "a/t2i", ordinal: 0, attempt: 0 }] },
  );
  await assert.rejects(gone.next(), /a sample of a\/t2i waits to be packed/);
  await gone.close();
  for (const field of Object.keys(after)) {
    const broken = { ...after, [field]: "x" };
    assert.throws(
      () => checkLoaderState(broken, "state.json"),
      (error) =>
        error instanceof InputError &&
        error.message.startsWith(`Cannot continue from state.json: "${field}`),
    );
  }
});
