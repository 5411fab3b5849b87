import assert from "node:assert/strict";
import { resizeBicubic } from "../../lib/data/resize.ts";
import {
  denormalize,
  normalize,
  SIZE_RULES,
  targetSize,
  vaeTransform,
  vitTransform,
} from "../../lib/data/transforms.ts";

const size = (w: number, h: number, rule: keyof typeof SIZE_RULES, n = 1) => {
  const { width, height } = targetSize(w, h, SIZE_RULES[rule], n);
  return [width, height];
};

Deno.test("targetSize() gives the sizes of the specification's table", () => {
  assert.deepEqual(size(224, 224, "bagelVae"), [512, 512]);
  assert.deepEqual(size(224, 224, "unimedvlVae"), [224, 224]);
  assert.deepEqual(size(224, 224, "bagelVit"), [224, 224]);
  assert.deepEqual(size(224, 224, "unimedvlVit"), [392, 392]);
  assert.deepEqual(size(224, 224, "trainVit"), [378, 378]);
  assert.deepEqual(size(640, 480, "bagelVae"), [688, 512]);
  assert.deepEqual(size(640, 480, "bagelVit"), [644, 476]);
  assert.deepEqual(size(1000, 1000, "bagelVae"), [992, 992]); // 62.5 strides, half to even
  assert.deepEqual(size(300, 20, "trainVit"), [980, 70]); // the maximum wins over the minimum
});

Deno.test("targetSize() shrinks by the area ratio when images share the pixel budget", () => {
  // 980² · 3 > 2007040: factor 2007040 / 3 / 980² = 0.6966, not its root 0.8346.
  assert.deepEqual(size(1024, 1024, "trainVit", 3), [686, 686]);
  assert.throws(() => targetSize(0, 5, SIZE_RULES.trainVit), /Cannot size 1 images of 0x5/);
});

/** Bicubic by definition, in f64, with the 8-bit step between the passes. */
function resizeNaive(data: number[], from: number, to: number): number[] {
  const kernel = (x: number) => {
    const t = Math.abs(x);
    if (t < 1) return 1.5 * t ** 3 - 2.5 * t ** 2 + 1;
    return t < 2 ? -0.5 * t ** 3 + 2.5 * t ** 2 - 4 * t + 2 : 0;
  };
  const f = Math.max(from / to, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * from / to;
    const weights = data.map((_, x) => kernel((x + 0.5 - centre) / f));
    const total = weights.reduce((a, b) => a + b, 0);
    const value = data.reduce((sum, v, x) => sum + v * weights[x], 0) / total;
    return Math.min(255, Math.max(0, value));
  });
}

Deno.test("resizeBicubic() is bicubic to within the rounding of its fixed point", () => {
  let state = 7;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) >> 23;
  for (const [from, to] of [[9, 23], [50, 13], [31, 30], [5, 1], [1, 6], [64, 128]]) {
    const line = Array.from({ length: from }, () => random() % 256);
    const image = { width: from, height: 1, data: Uint8Array.from(line) };
    const got = resizeBicubic(image, to, 1).data;
    const want = resizeNaive(line, from, to);
    want.forEach((v, i) => assert.ok(Math.abs(got[i] - v) <= 0.501, `${from}→${to} ${i}`));
    // A column is a line turned by 90 degrees.
    const column = resizeBicubic({ width: 1, height: from, data: image.data }, 1, to);
    assert.deepEqual(column.data, got);
  }
});

Deno.test("resizeBicubic() keeps constants, copies at equal size, refuses sizes below 1", () => {
  const flat = { width: 4, height: 3, data: new Uint8Array(36).fill(77) };
  assert.ok(resizeBicubic(flat, 9, 2).data.every((v) => v === 77));
  const same = resizeBicubic(flat, 4, 3);
  assert.notEqual(same.data, flat.data);
  assert.deepEqual(same, flat);
  assert.throws(() => resizeBicubic(flat, 0, 2), /Cannot resize 4x3 to 0x2/);
  assert.throws(() => resizeBicubic({ ...flat, width: 5 }, 2, 2), TypeError);
});

Deno.test("denormalize() undoes normalize() to within its truncation", () => {
  const data = Uint8Array.from({ length: 256 * 3 }, (_, i) => i % 256);
  const image = { width: 16, height: 16, data };
  const pixels = normalize(image);
  assert.equal(pixels.data[0], -1);
  assert.equal(Math.max(...pixels.data), 1);
  const back = denormalize(pixels).data;
  back.forEach((v, i) => assert.ok(data[i] - v === 0 || data[i] - v === 1, `${i}`));
  assert.deepEqual(
    [...denormalize({ height: 1, width: 2, data: new Float32Array([-9, 9]) }).data],
    [
      0,
      255,
    ],
  );
});

Deno.test("vitTransform() and vaeTransform() give planes in multiples of their strides", () => {
  const image = { width: 30, height: 20, data: new Uint8Array(1800).fill(255) };
  const vit = vitTransform(image, { max: 56, min: 28, stride: 14, maxPixels: 9e9 });
  assert.deepEqual([vit.width, vit.height, vit.data.length], [42, 28, 3 * 42 * 28]);
  assert.ok(vit.data.every((v) => v === 1));
  const vae = vaeTransform(image, { max: 64, min: 32, stride: 16, maxPixels: 9e9 });
  assert.deepEqual([vae.width, vae.height], [48, 32]);
});
