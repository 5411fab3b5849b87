import assert from "node:assert/strict";
import { rope, ropeTables } from "../../lib/ops/rope.ts";
import { readAll, Tensor } from "../../lib/tensor.ts";
import { checkOp, GPU_TEST, testGpu } from "../helpers.ts";
import { narrowGpu } from "./variants.ts";

/** Rotation in f64 of (N, H, D), phases rounded to f32. */
function reference(positions: number[], heads: number, size: number, theta: number) {
  const pairs = size / 2;
  return ([x]: Float64Array[]) => {
    const y = new Float64Array(x.length);
    for (let i = 0; i < positions.length * heads * pairs; i++) {
      const k = i % pairs;
      const at = Math.floor(i / pairs) * size + k;
      const position = positions[Math.floor(i / pairs / heads)];
      const phase = position / theta ** (k / pairs);
      y[at] = x[at] * Math.cos(phase) - x[at + pairs] * Math.sin(phase);
      y[at + pairs] = x[at + pairs] * Math.cos(phase) + x[at] * Math.sin(phase);
    }
    return y;
  };
}

Deno.test("rope() matches the reference for halves of any size", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const [tokens, heads, size] of [[1, 1, 2], [5, 3, 6], [7, 2, 16], [3, 28, 128]]) {
    const positions = Array.from({ length: tokens }, (_, i) => (5 * i) % 11);
    const tables = ropeTables(gpu, positions, size, 1e4);
    await checkOp(gpu, {
      name: `rope ${tokens}x${heads}x${size}`,
      inputs: [{ name: "x", shape: [tokens, heads, size] }],
      op: ([x]) => rope(x, tables),
      reference: reference(positions, heads, size, 1e4),
    });
  }
});

Deno.test("rope() splits tensors beyond the binding limit", GPU_TEST, async () => {
  const gpu = await narrowGpu(16384);
  const positions = Array.from({ length: 200 }, (_, i) => i % 17);
  const tables = ropeTables(gpu, positions, 16, 1e6);
  await checkOp(gpu, {
    name: "rope in ranges of tokens",
    inputs: [{ name: "x", shape: [200, 3, 16] }],
    op: ([x]) => rope(x, tables),
    reference: reference(positions, 3, 16, 1e6),
  });
});

Deno.test(
  "ropeTables() keep far positions exact to the rounding of the phase",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const { cos, sin } = ropeTables(gpu, Int32Array.of(0, 32767), 128, 1e6);
    const [c, s] = await readAll([cos, sin]);
    assert.deepEqual([...c.slice(0, 64)], Array(64).fill(1), "position 0 is not rotated");
    for (let k = 0; k < 64; k++) {
      const phase = 32767 / 1e6 ** (k / 64);
      const slack = phase * 3e-7 + 1e-7;
      assert.ok(Math.abs(c[64 + k] - Math.cos(phase)) < slack, `cosine ${k}`);
      assert.ok(Math.abs(s[64 + k] - Math.sin(phase)) < slack, `sine ${k}`);
    }
  },
);

Deno.test("rope() of no tokens is empty", GPU_TEST, async () => {
  const gpu = await testGpu();
  const y = rope(Tensor.empty(gpu, [0, 2, 8]), ropeTables(gpu, [], 8, 1e4));
  assert.deepEqual(y.shape, [0, 2, 8]);
});

Deno.test("rope() and ropeTables() refuse what does not fit", GPU_TEST, async () => {
  const gpu = await testGpu();
  assert.throws(() => ropeTables(gpu, [0], 7, 1e4), {
    name: "RangeError",
    message: "Cannot rotate heads of 7: the size must be even",
  });
  assert.throws(() => rope(Tensor.zeros(gpu, [2, 1, 8]), ropeTables(gpu, [0, 1], 4, 1e4)), {
    name: "TypeError",
    message: "Cannot rotate (2, 1, 8) with tables of (2, 2)",
  });
});
