import assert from "node:assert/strict";
import { InputError, UsageError } from "../../../lib/errors.ts";
import { Draws } from "../../../lib/data/draws.ts";
import { phantom, planesOf } from "../../../lib/data/phantoms/phantom.ts";
import { picturePair } from "../../../lib/data/phantoms/pictures.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { PhantomRenderer } from "../../../lib/data/training/phantom_picture.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { type Part, TASKS } from "../../../lib/data/training/record.ts";
import { openTokenizerSpec } from "../../../lib/data/training/tokenizer_spec.ts";
import { WORD_IDS } from "../../../lib/data/words.ts";

const draws = () => new Draws("test");
const renderer = new PhantomRenderer();

/** A record in short: texts, and uses of images with the view they show. */
function short(parts: Part[]): string[] {
  return parts.map((part) => {
    if (part.type === "text") return `${part.loss ? "say" : "hear"} ${part.text}`;
    return `${part.use}${part.dropout ? "?" : ""} ${part.image.phantom!.view}`;
  });
}

Deno.test("phantom records have four tasks, with words and pictures of one case", async () => {
  const source = openPhantoms("phantoms?count=80&seed=5", { split: "val" });
  assert.equal(source.count, 80);
  assert.deepEqual([...source.tasks.subarray(0, 5)], [0, 1, 2, 3, 0]);
  const at = async (i: number) => (await source.read(i, draws())).parts;
  const made = (i: number) => phantom(5, "val", i);
  assert.deepEqual(short(await at(0)), [`hear ${made(0).caption}`, "noisy image"]);
  assert.deepEqual(short(await at(3)), [`say ${made(3).caption}`]);
  const turns = short(await at(1));
  assert.equal(turns[0], "vit image");
  assert.equal(turns.length, 7);
  const known = made(1).questions.map(({ question, answer }) => `${question} ${answer}`);
  for (let i = 1; i < 7; i += 2) {
    const asked = `${turns[i].replace("hear ", "")} ${turns[i + 1].replace("say ", "")}`;
    assert.ok(known.includes(asked), asked);
  }
  const texts = new Set<string>();
  for (let i = 2; i < 80; i += 4) {
    const parts = await at(i);
    const pair = parts.at(-1)!;
    assert.ok(pair.type === "image");
    const [task] = pair.image.phantom!.view.split(" ");
    const whole = picturePair(made(i), task as "organ");
    assert.deepEqual(short(parts), [
      `clean? ${task} source`,
      `vit? ${task} source`,
      `hear ${whole.text}`,
      `noisy ${task} target`,
    ]);
    assert.deepEqual(renderer.draw(pair.image.phantom!).data, planesOf(whole.target));
    texts.add(task);
  }
  assert.deepEqual([...texts].sort(), ["denoise", "organ", "remove", "translate"]);
});

Deno.test("the words of all phantom records are in the default vocabulary", async () => {
  const tokenizer = await openTokenizerSpec({ kind: "words" });
  const source = openPhantoms("phantoms?count=200");
  for (let i = 0; i < source.count; i++) {
    for (const { text } of (await source.inspect(i)).texts) {
      assert.ok(!tokenizer.encode(text).includes(WORD_IDS.unk), text);
    }
  }
});

Deno.test("inspect() shows everything a phantom record can give, with its pixels", async () => {
  const source = openPhantoms("phantoms?count=8");
  const [drawing, asking, editing, saying] = await Promise.all(
    [0, 1, 2, 3].map((i) => source.inspect(i)),
  );
  assert.deepEqual([drawing, asking, editing, saying].map(({ task }) => task), [...TASKS]);
  assert.deepEqual(drawing.texts, [{ role: "input", text: phantom(0, "train", 0).caption }]);
  assert.deepEqual(
    drawing.images[0].image.pixels!.data,
    planesOf(phantom(0, "train", 0).image),
  );
  assert.equal(asking.texts.length, 2 * phantom(0, "train", 1).questions.length);
  assert.deepEqual(editing.images.map(({ role }) => role), ["input", "output"]);
  assert.deepEqual(saying.images, []);
});

Deno.test("splits of phantoms share no picture, and the fingerprint tells them apart", async () => {
  const open = (split: "train" | "val") => openPhantoms("phantoms?count=40", { split });
  const seen = { train: new Set<string>(), val: new Set<string>() };
  for (const split of ["train", "val"] as const) {
    for (let i = 0; i < 40; i++) {
      const { images } = await open(split).inspect(i);
      for (const { image } of images) seen[split].add(image.pixels!.data.join());
    }
  }
  assert.ok(seen.train.size >= 30 && seen.val.size >= 30); // one at least of every record with images
  assert.ok(seen.train.isDisjointFrom(seen.val));
  assert.notEqual(open("train").fingerprint, open("val").fingerprint);
  assert.equal(open("train").fingerprint, open("train").fingerprint);
});

Deno.test("openPhantoms() refuses settings it does not know, and read() records that are not there", async () => {
  for (
    const [path, says] of [
      ["phantom", /expected "phantoms"/],
      ["phantoms?sise=3", /no setting "sise"/],
      ["phantoms?size=x", /size is "x"/],
      ["phantoms?size=8", /size is 8, below 16/],
      ["phantoms?count=2", /count is 2, below 4/],
    ] as const
  ) {
    assert.throws(() => openPhantoms(path), (e) => e instanceof UsageError && says.test(e.message));
  }
  await assert.rejects(openPhantoms("phantoms?count=8").read(8, draws()), RangeError);
});

Deno.test("openSource() opens phantoms by name, with split and settings", async () => {
  const named = await openSource("phantoms?count=12", { split: "test", name: "cases" });
  assert.deepEqual([named.format, named.name, named.count], ["phantoms", "cases", 12]);
  assert.equal((await named.read(0, draws())).split, "test");
  assert.equal((await openSource("phantoms", { format: "phantoms" })).format, "phantoms");
  await assert.rejects(openSource("phantoms/none"), InputError); // a folder, and there is none
  await assert.rejects(openSource("data", { format: "phantoms" }), UsageError);
});

Deno.test("openTokenizerSpec() takes words from a list and refuses a file that is none", async () => {
  const own = await openTokenizerSpec({ kind: "words", words: ["red", "blue"] });
  assert.deepEqual(own.encode("blue red"), [7, 6]);
  await assert.rejects(
    openTokenizerSpec({ kind: "words", words: "/nowhere/words.json" }),
    InputError,
  );
  await assert.rejects(openTokenizerSpec({ kind: "qwen2", dir: "/nowhere" }), InputError);
});
