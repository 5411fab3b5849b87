import assert from "node:assert/strict";
import { InputError, UsageError } from "../../../lib/errors.ts";
import { type LoaderOptions, openLoader } from "../../../lib/data/training/loader.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { type Task, TASKS } from "../../../lib/data/training/record.ts";
import { digestOf, loaderOptions, memorySource } from "./memory_source.ts";

Deno.test("the tasks drawn approach the mix, and sources their weights", async () => {
  const source = memorySource("a", 400);
  const few = memorySource("b", 8);
  const options = loaderOptions([], {
    sources: [{ source, weight: 1 }, { source: few, weight: 3 }],
    mix: { t2i: 25, i2t: 75, text: 0 },
    batch: { samples: 100 },
  });
  const loader = await openLoader(options);
  const samples = [];
  for (let i = 0; i < 8; i++) samples.push(...(await loader.next()).samples);
  const share = (task: Task) => loader.drawn[task].samples / 800;
  // Three standard deviations of 800 draws: 3 √(¼ · ¾ / 800) = 0.046.
  assert.ok(Math.abs(share("t2i") - 0.25) < 0.046, `${share("t2i")}`);
  assert.equal(share("t2i") + share("i2t"), 1);
  const fromFew = samples.filter((sample) => sample.source === "b").length / 800;
  assert.ok(Math.abs(fromFew - 0.75) < 0.046, `${fromFew}`);
  await loader.close();
});

Deno.test("each pass reads every record once, in an order of its own; the reference's passes are alike", async () => {
  const passes = async (more: Partial<LoaderOptions>) => {
    const read: number[] = [];
    const source = memorySource("a", 20, { tasks: () => "text", onRead: (i) => read.push(i) });
    const loader = await openLoader(loaderOptions([source], { mix: { text: 1 }, ...more }));
    while (read.length < 60) await loader.next();
    await loader.close();
    return [0, 20, 40].map((from) => read.slice(from, from + 20));
  };
  const all = Array.from({ length: 20 }, (_, i) => i);
  const [first, second, third] = await passes({});
  for (const pass of [first, second, third]) {
    assert.deepEqual(pass.toSorted((a, b) => a - b), all);
  }
  assert.notDeepEqual(first, second);
  assert.notDeepEqual(second, third);
  const batch = {
    expectedTokens: 20,
    maxTokens: 30,
    maxTokensPerSample: 30,
    preferBufferBefore: 0,
    buffer: 2,
  };
  const [one, two] = await passes({ batch, reference: true });
  assert.deepEqual(one, two);
});

Deno.test("a loader's loss counts are those of its packed batch", async () => {
  const loader = await openLoader(
    loaderOptions([openPhantoms("phantoms")], { batch: { samples: 12 } }),
  );
  const { packed, textTokens, textWeight, flowTokens, samples } = await loader.next();
  // Answers and captions of n words have n + 1 predicted tokens of weight 1/√(n+1) each.
  const lengths = packed.splitLens
    .map((length, split) => ({ length, split }))
    .filter(({ split }) => [...packed.ceLossIndexes].some((i) => packed.split[i] === split))
    .map(({ length }) => length - 1);
  assert.equal(textTokens, lengths.reduce((a, b) => a + b, 0));
  assert.ok(Math.abs(textWeight - lengths.reduce((sum, n) => sum + Math.sqrt(n), 0)) < 1e-4);
  const drawn = samples.filter(({ task }) => task === "t2i" || task === "interleaved").length;
  assert.ok(drawn > 0);
  assert.equal(flowTokens, 16 * drawn); // 32 × 32 pixels in tokens of 8 × 8
  await loader.close();
});

Deno.test("bad records below the share are left out and counted, above it loading stops", async () => {
  const said: string[] = [];
  const open = (mostBad: number) =>
    openLoader(loaderOptions(
      [memorySource("a", 60, { tasks: () => "text", bad: (i) => i % 20 === 3 })],
      { mix: { text: 1 }, mostBad, onBad: (message) => said.push(message), prefetch: 1 },
    ));
  const stops = async (mostBad: number, says: RegExp) => {
    const loader = await open(mostBad);
    const read = async () => {
      for (let i = 0; i < 60; i++) await loader.next();
    };
    await assert.rejects(
      read(),
      (error) => error instanceof InputError && says.test(error.message),
    );
    await assert.rejects(loader.next(), InputError); // and stays stopped
    await loader.close();
  };
  await stops(0, /^Cannot read a\.jsonl line \d+: "text" is missing$/);
  await stops(
    0.03,
    /^Cannot go on loading: \d+ of \d+ records read are bad, more than 3 %; the last: Cannot/,
  );
  const loader = await open(0.1);
  said.length = 0;
  let samples = 0;
  for (let i = 0; i < 60; i++) samples += (await loader.next()).samples.length;
  assert.equal(samples, 240); // each bad one is replaced
  const { bad } = loader;
  assert.ok(bad.count >= 9, `${bad.count}`);
  assert.match(bad.listed[0], /a\.jsonl line (4|24|44):/);
  assert.ok(bad.listed.length <= 20 && said.length >= bad.count);
  await loader.close();
});

Deno.test("samples that are too long are left out without counting as bad", async () => {
  const source = memorySource("a", 40, { tasks: () => "text", words: (i) => 1 + i % 20 });
  const options = loaderOptions([source], { mix: { text: 1 }, maxTokensPerSample: 12 });
  const loader = await openLoader(options);
  for (let i = 0; i < 10; i++) {
    for (const { tokens } of (await loader.next()).samples) assert.ok(tokens <= 12);
  }
  assert.equal(loader.bad.count, 0);
  assert.match(
    loader.long.listed[0],
    /^Cannot use a\.jsonl line \d+: it has \d+ tokens, more than 12 per sample$/,
  );
  await loader.close();
  const none = await openLoader({ ...options, maxTokensPerSample: 2 });
  await assert.rejects(
    none.next(),
    /Cannot fill a batch: hardly a record can be used; 0 are bad, 17 too long/,
  );
  await none.close();
});

Deno.test("next() counts the time it waits, and only that", async () => {
  let time = 0;
  const slow = memorySource("a", 40);
  const read = slow.read;
  const releases: (() => void)[] = [];
  slow.read = async (index, draws) => {
    await new Promise<void>((resolve) => releases.push(resolve));
    return await read(index, draws);
  };
  const options = loaderOptions([slow], { batch: { samples: 1 }, prefetch: 1, now: () => time });
  const loader = await openLoader(options);
  const asked = loader.next();
  time = 7;
  let given = false;
  asked.then(() => given = true);
  for (let turn = 0; !given && turn < 1000; turn++) {
    for (const release of releases.splice(0)) release();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assert.equal(loader.waitedMs, 7);
  time = 100; // the caller's own time
  assert.equal(loader.waitedMs, 7);
  await loader.close();
});

Deno.test("batches are made ahead, no more than asked for", async () => {
  let read = 0;
  const source = memorySource("a", 400, { onRead: () => read++ });
  const loader = await openLoader(loaderOptions([source], { batch: { samples: 10 }, prefetch: 3 }));
  const rest = () => new Promise((resolve) => setTimeout(resolve, 30));
  await rest();
  assert.ok(read >= 30 && read <= 40, `${read}`); // three batches, and the samples of one
  await loader.next();
  await rest();
  assert.ok(read >= 40 && read <= 50, `${read}`);
  await loader.close();
});

Deno.test("openLoader() names the setting that is wrong", async () => {
  const source = memorySource("a", 8, { tasks: () => "text" });
  const refuses = async (more: Partial<LoaderOptions>, says: RegExp) => {
    await assert.rejects(
      openLoader(loaderOptions([source], { mix: { text: 1 }, ...more })),
      (error) => error instanceof UsageError && says.test(error.message) && !!error.help,
    );
  };
  const { images } = loaderOptions([]);
  const tokens = {
    expectedTokens: 8,
    maxTokens: 9,
    maxTokensPerSample: 9,
    preferBufferBefore: 1,
    buffer: 1,
  };
  await refuses({ mix: {} }, /the mix gives no task a share/);
  await refuses({ mix: { text: 1, t2i: 1 } }, /the mix has t2i, but no source has a record of it/);
  await refuses({ mix: { image: 1 } as Record<string, number> }, /the mix has "image"/);
  await refuses({ mix: { text: -1 } }, /the mix has -1 of text/);
  await refuses({ sources: [] }, /there is no source/);
  await refuses({ sources: [{ source }, { source }] }, /two sources named "a"/);
  await refuses({ sources: [{ source, weight: NaN }] }, /the weight of a is NaN/);
  await refuses({ seed: -1 }, /seed is -1/);
  await refuses({ workers: 0.5 }, /workers is 0.5/);
  await refuses({ rank: 2, ranks: 2 }, /rank is 2 of 2/);
  await refuses({ batch: { samples: 0 } }, /batch.samples is 0/);
  await refuses({ batch: { ...tokens, expectedTokens: 10 } }, /expectedTokens 10 is above/);
  await refuses({ batch: { ...tokens, maxTokensPerSample: 10 } }, /maxTokensPerSample 10 is above/);
  await refuses({ batch: { ...tokens, mandatory: ["t2i"] } }, /the mix has t2i, but no source/);
  await refuses({ reference: true }, /reference packing counts tokens/);
  await refuses({ dropout: { text: 2, vit: 0, vae: 0 } }, /dropout of text is 2/);
  await refuses({ mostBad: 2 }, /mostBad is 2/);
  const all = memorySource("all", 8, { tasks: () => "interleaved" });
  const both = { sources: [{ source: all }], mix: { interleaved: 1 } };
  const large = { ...images, vit: { max: 40, min: 8, stride: 8 } };
  await refuses({ ...both, images: large }, /images.vit.max is 40/);
  const fine = { ...images, vae: { max: 32, min: 8, stride: 4 } };
  await refuses({ ...both, images: fine }, /images.vae.stride is 4/);
  const drawn = memorySource("drawn", 8, { tasks: () => "t2i" });
  const options = loaderOptions([drawn], { mix: { t2i: 1 }, images: large });
  await (await openLoader(options)).close(); // no image is read by the ViT
});

Deno.test("phantoms make batches of all four tasks, the same with a worker", async () => {
  const digests = [];
  for (const workers of [0, 1]) {
    const source = openPhantoms("phantoms?count=400");
    const loader = await openLoader(loaderOptions([source], { batch: { samples: 16 }, workers }));
    const batches = [await loader.next(), await loader.next(), await loader.next()];
    const tasks = new Set(batches.flatMap(({ samples }) => samples.map(({ task }) => task)));
    assert.deepEqual([...tasks].sort(), [...TASKS].sort());
    digests.push(batches.map(digestOf).join());
    await loader.close();
  }
  assert.equal(digests[0], digests[1]);
});
