import assert from "node:assert/strict";
import { InputError } from "../../../lib/errors.ts";
import { encodePng } from "../../../lib/data/image.ts";
import type { Sample } from "../../../lib/data/sample.ts";
import { resizeBicubic } from "../../../lib/data/resize.ts";
import { normalize } from "../../../lib/data/transforms.ts";
import { Planner } from "../../../lib/data/training/plan.ts";
import { openPreparePool, type PrepareSettings } from "../../../lib/data/training/prepare_pool.ts";
import type { ImageRef, Part, TrainingRecord } from "../../../lib/data/training/record.ts";
import { WordTokenizer } from "../../../lib/data/words.ts";

const SETTINGS: PrepareSettings = {
  tokenizer: { kind: "words", words: ["a", "b", "<", "bos", ">"] },
  images: { vae: { max: 48, min: 32, stride: 16 }, vit: { max: 42, min: 14, stride: 14 } },
};
const planner = new Planner(new WordTokenizer(["a", "b", "<", "bos", ">"]), SETTINGS.images);

const text = (words: string, loss = true): Part => ({
  type: "text",
  text: words,
  loss,
  dropout: false,
});
const show = (image: ImageRef, use: "noisy" | "clean" | "vit"): Part => {
  return { type: "image", image, use, dropout: use === "clean" };
};
const record = (parts: Part[], more: Partial<TrainingRecord> = {}): TrainingRecord => {
  return { where: "x.jsonl line 7", task: "interleaved", parts, ...more };
};

/** 60 × 30 bytes of a slope. */
const bytes = {
  width: 60,
  height: 30,
  data: Uint8Array.from({ length: 60 * 30 * 3 }, (_, i) => (i * 7) % 256),
};
const png = { name: "slope.png", bytes: await encodePng(bytes) };

Deno.test("Planner.sample() keeps the order of parts, sizes images by their side's rule and shares pixels", async () => {
  const { plan } = await planner.sample(
    record([show(png, "noisy"), show(png, "clean"), show(png, "vit"), text("a b", false)]),
  );
  assert.deepEqual(plan.map(({ type, loss, dropout }) => [type, loss, dropout]), [
    ["vae_image", true, false],
    ["vae_image", false, true],
    ["vit_image", false, false],
    ["text", false, false],
  ]);
  const [noisy, clean, vit, words] = plan;
  assert.ok(noisy.type !== "text" && clean.type !== "text" && vit.type !== "text");
  assert.equal(noisy.image, clean.image);
  // 60 × 30: the VAE's rule shrinks to 48 × 32 (0.8, then multiples of 16), the ViT's to 42 × 28.
  assert.deepEqual(noisy.image, normalize(resizeBicubic(bytes, 48, 32)));
  assert.deepEqual(vit.image, normalize(resizeBicubic(bytes, 42, 28)));
  assert.ok(words.type === "text");
  assert.deepEqual(Array.from(words.ids), [6, 7]);
});

Deno.test("Planner.sample() reads text as text, leaves out what has no token and refuses records that teach nothing", async () => {
  const { plan } = await planner.sample(record([text("  ", false), text("<bos> a")]));
  assert.equal(plan.length, 1);
  assert.ok(plan[0].type === "text");
  assert.deepEqual(Array.from(plan[0].ids), [8, 9, 10, 6]); // four words, not the special token
  for (const parts of [[text("a", false)], [text(" ")], [show(png, "vit")]]) {
    await assert.rejects(
      planner.sample(record(parts)),
      (error) =>
        error instanceof InputError &&
        error.message === "Cannot train on x.jsonl line 7: it has nothing to predict",
    );
  }
});

Deno.test("images of a question share the ViT's area, as the reference has it; those of an edit do not", async () => {
  const rule = { max: 56, min: 14, stride: 14, maxPixels: 56 * 28 };
  const wide = new Planner(new WordTokenizer(["a"]), { ...SETTINGS.images, vit: rule });
  const parts = [show(png, "vit"), show({ ...png }, "vit"), text("a")];
  const sizes = async (task: "i2t" | "interleaved") => {
    const { plan } = await wide.sample(record(parts, { task }));
    return plan.flatMap((item) =>
      item.type === "text" ? [] : [[item.image.width, item.image.height]]
    );
  };
  assert.deepEqual(await sizes("interleaved"), [[56, 28], [56, 28]]);
  // Half the area each: the edges times ½ (a ratio of areas; reference-model.md §4.3).
  assert.deepEqual(await sizes("i2t"), [[28, 14], [28, 14]]);
});

Deno.test("a file is decoded once while its pixels are kept, and gives equal pixels that may be given away", async () => {
  const path = await Deno.makeTempFile({ suffix: ".png" });
  await Deno.writeFile(path, png.bytes);
  const ask = async (planner: Planner) => {
    const { plan } = await planner.sample(
      record([show({ name: "x", path }, "vit"), show({ name: "x", path }, "noisy")]),
    );
    return plan.map((item) => {
      assert.ok(item.type !== "text");
      return item.image.data as Float32Array<ArrayBuffer>;
    });
  };
  const words = new WordTokenizer(["a"]);
  const keeps = new Planner(words, SETTINGS.images);
  const forgets = new Planner(words, SETTINGS.images, 4 * 3 * 48 * 32 - 1); // room for the smaller one
  const first = await ask(keeps);
  assert.deepEqual(await ask(forgets), first);
  const expected = first.map((data) => data.slice());
  for (const data of first) structuredClone(data, { transfer: [data.buffer] });
  await Deno.remove(path);
  assert.deepEqual(await ask(keeps), expected);
  await assert.rejects(ask(forgets), /Cannot read/);
});

Deno.test("workers give the samples of no workers, in the order asked, and the faults with their place", async () => {
  const records = Array.from({ length: 12 }, (_, i) => {
    const image = { ...png, name: `slope ${i}` };
    const shown = i % 2 ? [show(image, "noisy"), show(image, "clean")] : [show(image, "vit")];
    return record([...shown, text("a b ".repeat(i + 1))], { where: `x.jsonl line ${i}` });
  });
  const broken = { name: "broken.png", bytes: png.bytes.slice(0, 60) };
  records[5] = record([show(broken, "noisy")], { where: "x.jsonl line 5" });
  const prepared = async (workers: number) => {
    const pool = await openPreparePool(workers, SETTINGS);
    const settled = await Promise.allSettled(records.map((each) => pool.prepare(each)));
    pool.close();
    return settled;
  };
  const alone = await prepared(0);
  for (const workers of [1, 2]) {
    const many = await prepared(workers);
    many.forEach((result, i) => {
      const own = alone[i];
      assert.equal(result.status, own.status);
      if (result.status === "fulfilled") {
        assert.deepEqual(result.value, (own as PromiseFulfilledResult<Sample>).value);
        const [first, second] = result.value.plan;
        if (i % 2) assert.ok("image" in first && "image" in second && first.image === second.image);
      } else {
        assert.equal(i, 5);
        const { reason } = own as PromiseRejectedResult;
        assert.ok(result.reason instanceof InputError);
        assert.equal(result.reason.message, reason.message);
        assert.equal(result.reason.help, reason.help);
        assert.match(reason.message, /broken\.png/);
      }
    });
  }
});

Deno.test("a pool that cannot open its tokenizer says why, and a closed one refuses what it had in hand", async () => {
  const lost = { ...SETTINGS, tokenizer: { kind: "qwen2", dir: "/nowhere" } as const };
  for (const workers of [0, 1]) {
    await assert.rejects(
      openPreparePool(workers, lost),
      (error) => error instanceof InputError && /tokenizer in \/nowhere/.test(error.message),
    );
  }
  const pool = await openPreparePool(1, SETTINGS);
  const waiting = [1, 2, 3, 4].map(() => pool.prepare(record([show(png, "noisy")])));
  pool.close();
  for (const { status } of await Promise.allSettled(waiting)) assert.equal(status, "rejected");
  await assert.rejects(pool.prepare(record([text("a")])), /the loader is closed/);
});
