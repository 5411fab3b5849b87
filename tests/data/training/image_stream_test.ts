import assert from "node:assert/strict";
import { InputError } from "../../../lib/errors.ts";
import { ImageStream, squareOf } from "../../../lib/data/training/image_stream.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import type { TrainingRecord } from "../../../lib/data/training/record.ts";
import { ListSource } from "../../../lib/data/training/list_source.ts";

const OPTIONS = { size: 16, seed: 3, texts: false };
const phantoms = () => openPhantoms("phantoms?count=400");

Deno.test("ImageStream gives the same image at a place, whatever was read before", async () => {
  const once = new ImageStream(phantoms(), OPTIONS);
  const again = new ImageStream(phantoms(), OPTIONS);
  const [first, , third] = [await once.at(0), await once.at(1), await once.at(2)];
  assert.deepEqual(await again.at(2), third);
  assert.deepEqual(await again.at(0), first);
  assert.notDeepEqual(first.image.data, third.image.data);
  const other = new ImageStream(phantoms(), { ...OPTIONS, seed: 4 });
  assert.notEqual((await other.at(0)).where, first.where);
});

Deno.test("ImageStream never gives what it holds out, and holds the same out for every seed", async () => {
  const stream = new ImageStream(phantoms(), OPTIONS);
  const held = await stream.heldOut(30);
  assert.equal(held.length, 30);
  const cases = new Set(held.map(({ where }) => where));
  for (let place = 0; place < 600; place++) {
    const { where } = await stream.at(place);
    assert.ok(!cases.has(where), `${where} is held out and given at ${place}`);
  }
  const other = await new ImageStream(phantoms(), { ...OPTIONS, seed: 9 }).heldOut(30);
  assert.deepEqual(other.map(({ where }) => where), held.map(({ where }) => where));
});

Deno.test("ImageStream with texts takes captions only, and holds no text out twice", async () => {
  const stream = new ImageStream(phantoms(), { ...OPTIONS, texts: true });
  for (let place = 0; place < 20; place++) {
    const { text, image } = await stream.at(place);
    assert.match(text, /^(cfp|cxr|ct|his|mri|oct|us|endo) (disc|ellipse|bean|wedge) /);
    assert.deepEqual([image.height, image.width, image.data.length], [16, 16, 768]);
  }
  const texts = (await stream.heldOut(100)).map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length);
});

/** Records with one image each, all of the same picture. */
function records(images: readonly (string | undefined)[], bad: readonly number[] = []) {
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
    tasks: new Uint8Array(images.length),
    bad: { count: 0, listed: [] },
    readAt: (index) => Promise.resolve(read(index)),
    whereAt: (index) => `record ${index}`,
  }, {});
}

Deno.test("ImageStream holds records of one image out together, and passes over those without any", async () => {
  const names = Array.from({ length: 200 }, (_, i) => i % 5 === 0 ? undefined : `image ${i % 40}`);
  const stream = new ImageStream(records(names), OPTIONS);
  const nameOf = ({ where }: { where: string }) => names[Number(where.split(" ")[1])];
  const held = (await stream.heldOut(200)).map(nameOf);
  assert.ok(held.length >= 1 && !held.includes(undefined), `${held}`);
  assert.equal(new Set(held).size, held.length, "each image once");
  for (let place = 0; place < 100; place++) {
    const name = nameOf(await stream.at(place));
    assert.ok(name !== undefined && !held.includes(name), `${name} at ${place}`);
  }
});

Deno.test("ImageStream leaves bad images out and counts them, up to a share", async () => {
  const names = Array.from({ length: 200 }, (_, i) => `image ${i}`);
  const bad = [3, 30, 131];
  const strict = new ImageStream(records(names, bad), OPTIONS);
  const readAll = async (stream: ImageStream) => {
    const seen: string[] = [];
    for (let place = 0; place < 200; place++) seen.push((await stream.at(place)).where);
    return seen;
  };
  await assert.rejects(readAll(strict), (error) => {
    assert.ok(error instanceof InputError);
    assert.match(error.message, /^Cannot read record (3|30|131)$/);
    return /data check .* a share of bad ones with mostBad$/.test(error.help!);
  });
  const lenient = new ImageStream(records(names, bad), { ...OPTIONS, mostBad: 0.05 });
  const seen = await readAll(lenient);
  assert.deepEqual(seen, await readAll(lenient), "the same instead of the bad ones");
  assert.ok(bad.every((index) => !seen.includes(`record ${index}`)));
  const told = lenient.takeBad();
  assert.ok(told.length >= 2 && told.every((message) => /record (3|30|131)$/.test(message)));
  assert.deepEqual(lenient.takeBad(), []);

  const many = Array.from({ length: 30 }, (_, i) => 3 * i);
  const stream = new ImageStream(records(names, many), { ...OPTIONS, mostBad: 0.05 });
  await assert.rejects(readAll(stream), /^InputError: Cannot go on loading: 6 of \d+ .* than 5 %/);
});

Deno.test("ImageStream says so when there is nothing to read", async () => {
  const none = records([undefined, undefined]);
  const stream = new ImageStream(none, OPTIONS);
  await assert.rejects(stream.at(0), {
    name: "InputError",
    message:
      "Cannot find an image to train on in made: 100 records were held out, had none or were bad",
  });
  await assert.rejects(stream.heldOut(3), {
    name: "InputError",
    message: "Cannot hold images of made out: it has too few",
  });
  assert.throws(() => new ImageStream(records([]), { ...OPTIONS, texts: true }), {
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
