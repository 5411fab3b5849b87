import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Draws } from "../../../lib/data/draws.ts";
import { encodePng, loadSharp, readImage } from "../../../lib/data/image.ts";
import { differingBits, HASH_WORDS, perceptualHash } from "../../../lib/data/perceptual_hash.ts";
import type { Image } from "../../../lib/data/resize.ts";
import { NEAR_BITS } from "../../../lib/data/training/check.ts";
import { Histogram } from "../../../lib/data/training/check_tally.ts";
import { DigestTable } from "../../../lib/data/training/digest_table.ts";
import { COARSE_BITS, NearIndex } from "../../../lib/data/training/near_index.ts";
import { phantomImage } from "./check_world.ts";

/** Bits that differ: of those to search by, of those to confirm. */
function distance(a: Uint32Array, b: Uint32Array): [number, number] {
  const sum = [0, 0] as [number, number];
  a.forEach((word, i) => sum[i < HASH_WORDS.coarse ? 0 : 1] += differingBits(word, b[i]));
  return sum;
}

const isNear = (a: Uint32Array, b: Uint32Array) => {
  const [coarse, fine] = distance(a, b);
  return coarse <= COARSE_BITS && fine <= NEAR_BITS;
};

function cut({ width, height, data }: Image, pixels: number): Image {
  const [w, h] = [width - 2 * pixels, height - 2 * pixels];
  const out = new Uint8Array(3 * w * h);
  for (let y = 0; y < h; y++) {
    const from = 3 * ((y + pixels) * width + pixels);
    out.set(data.subarray(from, from + 3 * w), 3 * w * y);
  }
  return { width: w, height: h, data: out };
}

async function asJpeg(image: Image, quality: number): Promise<Image> {
  const sharp = await loadSharp();
  return await readImage(
    new Uint8Array(await sharp(await encodePng(image)).jpeg({ quality }).toBuffer()),
  );
}

Deno.test("differingBits() counts as the digits do", () => {
  const draws = new Draws("bits");
  for (let i = 0; i < 200; i++) {
    const [a, b] = [draws.bits(), draws.bits()];
    assert.equal(
      differingBits(a, b),
      [...((a ^ b) >>> 0).toString(2)].filter((c) => c === "1").length,
    );
  }
  assert.equal(differingBits(0xffffffff, 0), 32);
});

Deno.test("perceptualHash() has half of its bits set, and none for a flat picture", async () => {
  const hash = perceptualHash(await phantomImage(3, 128))!;
  assert.deepEqual(distance(hash, new Uint32Array(HASH_WORDS.all)), [32, 128]);
  const flat = { width: 50, height: 40, data: new Uint8Array(6000).fill(77) };
  assert.equal(perceptualHash(flat), undefined);
});

Deno.test("perceptualHash() is that of the cosine transform of cell means, computed plainly", () => {
  const draws = new Draws("plain");
  const [width, height] = [45, 70];
  const data = Uint8Array.from({ length: 3 * width * height }, () => draws.below(256));
  const grey = (x: number, y: number) => {
    const i = 3 * (y * width + x);
    return 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
  };
  const overlap = (cell: number, pixel: number, n: number) =>
    Math.max(0, Math.min((cell + 1) * n / 32, pixel + 1) - Math.max(cell * n / 32, pixel));
  const cells = Array.from({ length: 32 * 32 }, (_, at) => {
    let sum = 0;
    for (let y = 0; y < height; y++) {
      const down = overlap(Math.floor(at / 32), y, height);
      if (down === 0) continue;
      for (let x = 0; x < width; x++) sum += down * overlap(at % 32, x, width) * grey(x, y);
    }
    return sum;
  });
  const wave = (k: number, i: number) => Math.cos(Math.PI * k * (i + 0.5) / 32);
  const low: number[] = [];
  for (let sum = 1; low.length < 64; sum++) {
    for (let row = 0; row <= sum; row++) {
      low.push(cells.reduce(
        (total, v, at) => total + v * wave(row, Math.floor(at / 32)) * wave(sum - row, at % 32),
        0,
      ));
    }
  }
  const first = low.slice(0, 64);
  const sorted = first.toSorted((a, b) => a - b);
  const median = (sorted[31] + sorted[32]) / 2;
  const hash = perceptualHash({ width, height, data })!;
  first.forEach((value, i) => {
    assert.equal((hash[i % 2] >>> Math.floor(i / 2)) & 1, value > median ? 1 : 0, `bit ${i}`);
  });
});

Deno.test("perceptualHash() keeps a phantom's copies near and other phantoms far", async () => {
  const images = await Promise.all(Array.from({ length: 240 }, (_, i) => phantomImage(i, 64)));
  const hashes = images.map((image) => perceptualHash(image)!);
  let pairs = 0;
  hashes.forEach((a, i) => {
    for (let j = 0; j < i; j++) pairs += isNear(a, hashes[j]) ? 1 : 0;
  });
  assert.equal(pairs, 0, `${pairs} of 28680 pairs of different phantoms look the same`);
  for (const index of [0, 1, 2, 3, 4, 5, 6, 7]) {
    const image = await phantomImage(index, 192);
    const hash = perceptualHash(image)!;
    assert.ok(isNear(hash, perceptualHash(await asJpeg(image, 60))!), `phantom ${index} as JPEG`);
    assert.ok(isNear(hash, perceptualHash(cut(image, 1))!), `phantom ${index} cut by a pixel`);
  }
});

Deno.test("NearIndex finds what comparing all pairs finds, with a fraction of the comparisons", () => {
  const draws = new Draws("near");
  const hashes: Uint32Array[] = [];
  for (let i = 0; i < 3000; i++) {
    const hash = Uint32Array.from({ length: HASH_WORDS.all }, () => draws.bits());
    hashes.push(hash);
    if (i % 10 > 0) continue;
    // A copy with up to 7 bits to search by flipped, and up to 29 of the others.
    const copy = hash.slice();
    for (let k = i / 10 % 8; k > 0; k--) copy[draws.below(2)] ^= 1 << draws.below(32);
    for (let k = i / 10 % 30; k > 0; k--) copy[2 + draws.below(8)] ^= 1 << draws.below(32);
    hashes.push(copy);
  }
  const index = new NearIndex(hashes.length);
  let found = 0;
  hashes.forEach((hash, i) => {
    const wanted = hashes.slice(0, i).flatMap((other, id) => {
      const [coarse, bits] = distance(hash, other);
      return coarse <= COARSE_BITS && bits <= NEAR_BITS ? [{ id: 10 * id, bits }] : [];
    });
    assert.deepEqual(index.find(hash, NEAR_BITS).sort((a, b) => a.id - b.id), wanted);
    found += wanted.length;
    index.add(10 * i, hash);
  });
  assert.ok(found > 150, `${found} copies were planted near enough`);
  const all = hashes.length * (hashes.length - 1) / 2;
  assert.ok(index.compared < all / 500, `${index.compared} of ${all} pairs compared`);
});

Deno.test("DigestTable numbers digests in order and knows them again, through its growth", () => {
  const table = new DigestTable(4);
  // Buffers of node:crypto lie in a pool: only their own bytes count.
  const digest = (i: number) => createHash("sha256").update(String(i)).digest();
  for (let i = 0; i < 500; i++) assert.deepEqual(table.add(digest(i)), { id: i, isNew: true });
  for (let i = 499; i >= 0; i--) assert.deepEqual(table.add(digest(i)), { id: i, isNew: false });
  assert.equal(table.find(digest(7)), 7);
  assert.equal(table.find(digest(500)), undefined);
  assert.equal(table.count, 500);
  assert.throws(() => table.add(new Uint8Array(15)), /Cannot number a digest of 15 bytes/);
});

Deno.test("Histogram gives quantiles and bins of powers of two", () => {
  const histogram = new Histogram();
  for (const value of [5, 6, 7, 8, 40]) histogram.add(value);
  assert.deepEqual([0, 0.5, 0.8, 1].map((p) => histogram.quantile(p)), [5, 7, 8, 40]);
  assert.deepEqual(histogram.bins(), [
    { from: 4, to: 7, count: 3 },
    { from: 8, to: 15, count: 1 },
    { from: 16, to: 31, count: 0 },
    { from: 32, to: 63, count: 1 },
  ]);
  assert.deepEqual(new Histogram().bins(), []);
});
