// Against numbers that others printed from torch (four decimals), and against numbers recorded from torch 1.13.1 on a
// CPU with AVX2 (all digits of an f32).

import assert from "node:assert/strict";
import { TorchGenerator, torchNoise } from "../../lib/data/torch_noise.ts";
import { InputError } from "../../lib/errors.ts";

/** Half of the last printed decimal, and a little for a tie. */
const PRINTED = 0.5001e-4;
/** Torch's vectorized logarithm, sine and cosine are approximations, good to a few units in the last place. */
const RECORDED = 5e-7;

function assertNear(got: Float32Array, want: readonly number[], tolerance: number): void {
  assert.equal(got.length, want.length);
  want.forEach((value, i) => {
    assert.ok(Math.abs(got[i] - value) <= tolerance, `number ${i}: got ${got[i]}, torch ${value}`);
  });
}

/** Published draws. */
const PUBLISHED: [where: string, seed: number, numbers: number[]][] = [
  // 24 numbers: one block of 16, then the last 16 drawn anew
  [
    "karpathy/llm.c doc/layernorm/layernorm.md",
    42, // deno-fmt-ignore
    [
       1.9269,  1.4873,  0.9007, -2.1055,  0.6784, -1.2345, -0.0431, -1.6047,
       0.3559, -0.6866, -0.4934,  0.2415, -1.1109,  0.0915, -2.3169, -0.2168,
      -0.3097, -0.3957,  0.8034, -0.6216, -0.5920, -0.0631, -0.8286,  0.3309,
    ],
  ],
  // 20 numbers
  [
    "flashinfer-ai/flashinfer, docstring of top_k_mask_logits",
    42, // deno-fmt-ignore
    [
       1.9269,  1.4873,  0.9007, -2.1055, -0.7581,  1.0783,  0.8008,  1.6806,  0.3559, -0.6866,
      -0.4934,  0.2415, -0.2316,  0.0418, -0.2516,  0.8599, -0.3097, -0.3957,  0.8034, -0.6216,
    ],
  ],
];
for (const [where, seed, numbers] of PUBLISHED) {
  Deno.test(`torchNoise() gives what is printed in ${where}`, () => {
    assertNear(torchNoise(numbers.length, seed), numbers, PRINTED);
  });
}

Deno.test("TorchGenerator.randn() gives the first numbers of pytorch/pytorch#80202, in its four sizes", () => {
  const generator = new TorchGenerator(0);
  // 7 is odd: the second draw begins with the number that the first one left over
  assertNear(generator.randn(7).slice(0, 1), [1.5410], PRINTED);
  assertNear(generator.randn(7).slice(0, 1), [0.8380], PRINTED);
  const at = (n: number, i: number) => torchNoise(n, 0).slice(i, i + 1);
  assertNear(at(14, 0), [1.5410], PRINTED);
  assertNear(at(14, 7), [0.8380], PRINTED);
  const eight = new TorchGenerator(0);
  assertNear(eight.randn(8).slice(0, 1), [1.5410], PRINTED);
  assertNear(eight.randn(8).slice(0, 1), [-0.7193], PRINTED);
  assertNear(at(16, 0), [-1.1258], PRINTED);
  assertNear(at(16, 8), [0.3223], PRINTED);
});

Deno.test("torchNoise() gives the widely printed randn(4) of seed 0 and randn(8) of seed 42", () => {
  assertNear(torchNoise(4, 0), [1.5410, -0.2934, -2.1788, 0.5684], PRINTED);
  const seed42 = [0.3367, 0.1288, 0.2345, 0.2303, -1.1229, -0.1863, 2.2082, -0.6380];
  assertNear(torchNoise(8, 42), seed42, PRINTED);
});

Deno.test("TorchGenerator.randn() keeps a left-over number across a draw in blocks, as torch does", () => {
  const generator = new TorchGenerator(7);
  // Pairs are drawn in double precision: equal to the last bit.
  assertNear(generator.randn(3), [-0.146795094, 0.786141276, 0.94682163].map(Math.fround), 0);
  // deno-fmt-ignore
  assertNear(generator.randn(17), [
    -0.176437929, -1.21692944, -0.0810215846, 1.36148512, -1.3032167, 0.0874783769, -1.38496137,
    0.503563881, -0.0835282281, -0.564006686, -2.05646253, -0.356722534, 1.09558046, 0.482354164,
    1.39891839, 1.40585291, -1.40125084,
  ], RECORDED);
  assertNear(generator.randn(2), [-1.114344, 1.08418751].map(Math.fround), 0);
});

Deno.test("torchNoise() matches torch far into the sequence, and where the last 16 numbers are drawn anew", () => {
  const long = torchNoise(4096, 2026); // 6.6 states of the twister
  const picked = Float32Array.from([0, 1, 1000, 2047, 4095], (i) => long[i]);
  const want = [-0.183910429, 0.729639828, -0.149660066, 0.567292631, -0.666772246];
  assertNear(picked, want, RECORDED);
  const sum = long.reduce((total, v) => total + v, 0);
  assert.ok(Math.abs(sum - -63.86310069174215) < 4096 * 1e-7, `sum ${sum}`);

  const cut = torchNoise(1000, 2026); // 62 blocks and 8
  const end = Float32Array.from([983, 984, 985, 999], (i) => cut[i]);
  assertNear(end, [0.229034588, 1.22610307, -0.215759933, -1.94592357], RECORDED);
});

Deno.test("TorchGenerator counts the low 32 bits of a seed", () => {
  const largest = [1.21976304, -0.392979473, 1.0230751, -0.373421133, -0.0755101964];
  assertNear(torchNoise(5, 2 ** 32 - 1), largest.map(Math.fround), 0);
  assert.deepEqual(torchNoise(20, 2 ** 32 + 5), torchNoise(20, 5));
  assert.deepEqual(torchNoise(20, 2 ** 53 - 1), torchNoise(20, 2 ** 32 - 1));
  assert.notDeepEqual(torchNoise(20, 5), torchNoise(20, 6));
});

Deno.test("TorchGenerator.randn(0) draws nothing", () => {
  const generator = new TorchGenerator(3);
  assert.equal(generator.randn(0).length, 0);
  assert.deepEqual(generator.randn(16), torchNoise(16, 3));
});

Deno.test("torchNoise() has mean 0, deviation 1 and the tails of a normal distribution", () => {
  const n = 200_000;
  const noise = torchNoise(n, 12345);
  let [sum, squares, fourth, beyond2] = [0, 0, 0, 0];
  for (const v of noise) {
    sum += v;
    squares += v * v;
    fourth += v ** 4;
    if (Math.abs(v) > 2) beyond2++;
  }
  // Five standard errors of each.
  assert.ok(Math.abs(sum / n) < 5 / Math.sqrt(n));
  assert.ok(Math.abs(squares / n - 1) < 5 * Math.sqrt(2 / n));
  assert.ok(Math.abs(fourth / n - 3) < 5 * Math.sqrt(96 / n));
  assert.ok(Math.abs(beyond2 / n - 0.0455) < 5 * Math.sqrt(0.0455 * 0.9545 / n));
});

for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
  Deno.test(`torchNoise() refuses the seed and the count ${bad}`, () => {
    const message = new RegExp(`Cannot draw torch noise: (seed|count) ${bad} is not whole`);
    const check = (error: unknown) => error instanceof InputError && message.test(error.message);
    assert.throws(() => new TorchGenerator(bad), check);
    assert.throws(() => torchNoise(bad, 0), check);
  });
}
