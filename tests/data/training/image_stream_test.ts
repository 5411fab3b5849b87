import assert from "node:assert/strict";
import { InputError } from "../../../lib/errors.ts";
import { ImageStream, squareOf } from "../../../lib/data/training/image_stream.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { TASKS, type TrainingRecord } from "../../../lib/data/training/record.ts";
import { ListSource } from "../../../lib/data/training/list_source.ts";

const OPTIONS = { size: 16, seed: 3, texts: false, heldOut: 30 };
const phantoms = () => openPhantoms("phantoms?count=400");

Deno.test("ImageStream gives the same image at a place, whatever was read before", async () => {
  const once = await ImageStream.open(phantoms(), OPTIONS);
  const again = await ImageStream.open(phantoms(), OPTIONS);
  const [first, , third] = [await once.at(0), await once.at(1), await once.at(2)];
  assert.deepEqual(await again.at(2), third);
  assert.deepEqual(await again.at(0), first);
  assert.notDeepEqual(first.image.data, third.image.data);
  const other = await ImageStream.open(phantoms(), { ...OPTIONS, seed: 4 });
  assert.notEqual((await other.at(0)).where, first.where);
});

Deno.test("ImageStream never gives what it holds out, and holds the same out for every seed", async () => {
  const stream = await ImageStream.open(phantoms(), OPTIONS);
  const held = stream.heldOut;
  assert.equal(held.length, 30);
  const cases = new Set(held.map(({ where }) => where));
  for (let place = 0; place < 600; place++) {
    const { where } = await stream.at(place);
    assert.ok(!cases.has(where), `${where} is held out and given at ${place}`);
  }
  const other = await ImageStream.open(phantoms(), { ...OPTIONS, seed: 9 });
  assert.deepEqual(other.heldOut.map(({ where }) => where), held.map(({ where }) => where));
});

Deno.test("ImageStream with texts takes captions only, and holds no text out twice", async () => {
  const stream = await ImageStream.open(phantoms(), { ...OPTIONS, texts: true, heldOut: 100 });
  for (let place = 0; place < 20; place++) {
    const { text, image } = await stream.at(place);
    assert.match(text, /^(cfp|cxr|ct|his|mri|oct|us|endo) (disc|ellipse|bean|wedge) /);
    assert.deepEqual([image.height, image.width, image.data.length], [16, 16, 768]);
  }
  const texts = stream.heldOut.map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length);
});

/** Records with one image each, all of the same picture. */
function records(
  images: readonly (string | undefined)[],
  bad: readonly number[] = [],
  tasks = new Uint8Array(images.length),
) {
  const read = (index: number): TrainingRecord => {
    if (bad.includes(index)) throw new InputError(`Cannot read record ${index}`);
    const name = images[index];
    const pixels = { height: 16, width: 16, data: new Float32Array(768).fill(0.5) };
    const image = { type: "image" as const, image: { name: name ?? "", pixels } };
    return {
      where: `record ${index}`,
      task: "t2i",
      parts: [
        { type: "text", text: "a picture", loss: false, dropout: true },
        ...(name === undefined ? [] : [{ ...image, use: "noisy" as const, dropout: false }]),
      ],
    };
  };
  return new ListSource({
    path: "made",
    format: "folder",
    fingerprint: "0",
    tasks,
    bad: { count: 0, listed: [] },
    readAt: (index) => Promise.resolve(read(index)),
    whereAt: (index) => `record ${index}`,
  }, {});
}

Deno.test("ImageStream holds records of one image out together, and passes over those without any", async () => {
  const names = Array.from({ length: 200 }, (_, i) => i % 5 === 0 ? undefined : `image ${i % 40}`);
  const stream = await ImageStream.open(records(names), { ...OPTIONS, heldOut: 200 });
  const nameOf = ({ where }: { where: string }) => names[Number(where.split(" ")[1])];
  const held = stream.heldOut.map(nameOf);
  const { given, heldOut } = stream.split;
  assert.deepEqual([given! + heldOut!, heldOut], [new Set(names).size - 1, held.length]);
  assert.ok(held.length >= 1 && !held.includes(undefined), `${held}`);
  assert.equal(new Set(held).size, held.length, "each image once");
  for (let place = 0; place < 100; place++) {
    const name = nameOf(await stream.at(place));
    assert.ok(name !== undefined && !held.includes(name), `${name} at ${place}`);
  }
});

Deno.test("ImageStream holds at least 8 images of few out, at most a quarter, however many are looked at", async () => {
  const cases = [[400, 58], [40, 8], [32, 8], [30, 7], [9, 2], [4, 1]];
  for (const [count, heldOut] of cases) {
    const names = Array.from({ length: count }, (_, i) => `image ${i}`);
    const stream = await ImageStream.open(records(names), OPTIONS);
    const given = count - heldOut;
    const looked = Math.min(30, heldOut);
    assert.deepEqual(stream.split, { unit: "images", given, heldOut, looked });
    const held = new Set(stream.heldOut.map(({ where }) => where));
    assert.equal(held.size, looked);
    const one = await ImageStream.open(records(names), { ...OPTIONS, heldOut: 1 });
    assert.equal(one.heldOut.length, 1);
    for (let place = 0; place < 2 * count; place++) {
      const { where } = await stream.at(place);
      assert.ok(!held.has(where), `${where} is held out and given at ${place} of ${count}`);
      assert.equal((await one.at(place)).where, where);
    }
  }
});

Deno.test("ImageStream counts pairs, and looks at one of each text", async () => {
  const names = Array.from({ length: 24 }, (_, i) => `image ${i % 12}`);
  const pairs = await ImageStream.open(records(names), { ...OPTIONS, texts: true });
  const { given, heldOut, ...rest } = pairs.split;
  assert.deepEqual(rest, { unit: "pairs", looked: 1 });
  assert.equal(given! + heldOut!, 24);
  const many = Array.from({ length: 1001 }, (_, i) => `image ${i}`);
  const large = await ImageStream.open(records(many), OPTIONS);
  assert.deepEqual(large.split, { unit: "images", given: null, heldOut: null, looked: 30 });
});

Deno.test("ImageStream with texts takes captions, unless questions are far more", async () => {
  const pairs = async (captions: number, questions: number) => {
    const names = Array.from({ length: captions + questions }, (_, i) => `image ${i}`);
    const tasks = new Uint8Array(names.length).fill(TASKS.indexOf("i2t"), captions);
    const stream = await ImageStream.open(records(names, [], tasks), { ...OPTIONS, texts: true });
    return stream.split.given! + stream.split.heldOut!;
  };
  assert.equal(await pairs(8, 80), 8);
  assert.equal(await pairs(8, 81), 81);
  assert.equal(await pairs(0, 20), 20);
});

Deno.test("ImageStream leaves bad images out and counts them, up to a share", async () => {
  const names = Array.from({ length: 200 }, (_, i) => `image ${i}`);
  const bad = [3, 30, 131];
  const readAll = async (stream: ImageStream, passes = 1) => {
    const seen: string[] = [];
    for (let at = 0; at < 200 * passes; at++) seen.push((await stream.at(at)).where);
    return seen;
  };
  await assert.rejects(ImageStream.open(records(names, bad), OPTIONS), (error) => {
    assert.ok(error instanceof InputError);
    assert.deepEqual(
      error.message.split("; ").toSorted(),
      [131, 3, 30].map((index) => `Cannot read record ${index}`),
      "small data names all that is bad at once",
    );
    return /data check .* a share of bad ones with mostBad /.test(error.help!);
  });
  const options = { ...OPTIONS, mostBad: 0.05 };
  const lenient = await ImageStream.open(records(names, bad), options);
  const { given, heldOut } = lenient.split;
  assert.equal(given! + heldOut!, 197);
  const seen = await readAll(lenient, 3);
  assert.deepEqual(seen, await readAll(lenient, 3), "the same instead of the bad ones");
  assert.ok(bad.every((index) => !seen.includes(`record ${index}`)));
  const told = lenient.takeBad();
  assert.deepEqual(told.toSorted(), [131, 3, 30].map((index) => `Cannot read record ${index}`));
  await readAll(lenient);
  assert.deepEqual(lenient.takeBad(), [], "each is told once");

  const many = Array.from({ length: 30 }, (_, i) => 3 * i);
  await assert.rejects(
    ImageStream.open(records(names, many), options),
    /^InputError: Cannot go on loading: 6 of \d+ .* than 5 %/,
  );
});

Deno.test("ImageStream of large data finds what is bad when it comes to it", async () => {
  const names = Array.from({ length: 1001 }, (_, i) => `image ${i}`);
  const bad = Array.from({ length: 250 }, (_, i) => 4 * i);
  const options = { ...OPTIONS, mostBad: 0.2, heldOut: 1 };
  const stream = await ImageStream.open(records(names, bad), options);
  const some = async () => {
    for (let place = 0; place < 1001; place++) await stream.at(place);
  };
  await assert.rejects(some, /^InputError: Cannot go on loading: \d+ of \d+ .* than 20 %/);
});

Deno.test("ImageStream says so when there is nothing to read", async () => {
  await assert.rejects(ImageStream.open(records([undefined, undefined]), OPTIONS), {
    name: "InputError",
    message: "Cannot hold images of made out: it has 0 that can be read",
    help: "one in 8 is held out, of fewer than 32 a quarter; give at least 4",
  });
  await assert.rejects(ImageStream.open(records(["a", "b", "c"]), OPTIONS), /it has 3 that can/);
  await assert.rejects(ImageStream.open(records([]), { ...OPTIONS, texts: true }), {
    name: "InputError",
    message: "Cannot use made: it has no records of i2t",
  });
});

Deno.test("squareOf() keeps the middle of the longer edge", () => {
  // Three columns of four pixels each: the middle column is white.
  const data = new Uint8Array(4 * 12 * 3);
  for (let y = 0; y < 4; y++) data.fill(255, (y * 12 + 4) * 3, (y * 12 + 8) * 3);
  const square = squareOf({ width: 12, height: 4, data }, 4);
  assert.deepEqual([square.width, square.height], [4, 4]);
  assert.ok(square.data.every((v) => v === 255));
  const tall = squareOf({ width: 4, height: 9, data: new Uint8Array(108).fill(9) }, 8);
  assert.deepEqual([tall.width, tall.height, tall.data[0]], [8, 8, 9]);
});
