import assert from "node:assert/strict";
import { bf16ToFloat32, float32ToBf16 } from "../../lib/data/half.ts";
import { roundBf16 } from "../../lib/ops/round_bf16.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";

/** Ties to either side, the last finite value and what lies beyond, no numbers of every mantissa. */
const EDGES = new Float32Array(
  Uint32Array.of(
    ...[0x3f808000, 0x3f818000, 0xbf808000, 0x3f808001, 0x7f7f7fff, 0x7f7f8000, 0x7f800000],
    ...[0xff800000, 0x7f800001, 0xffc00001, 0x7fffffff, 0xffffffff, 0, 0x80000000, 0x7f7fffff],
  ).buffer,
);

Deno.test("roundBf16() rounds as the host does, whole or in pieces", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const n of [1, 2, 63, 127, 129, 1003]) {
    const values = Float32Array.from([...EDGES, ...normals(n, n)]).slice(-n);
    for (const limit of [gpu.maxBindingBytes, 1024]) {
      const [x, y] = [Tensor.from(gpu, values, [n]), Tensor.zeros(gpu, [n], "bf16")];
      roundBf16(x, y, limit);
      const want = float32ToBf16(values);
      assert.deepEqual(float32ToBf16(await y.floats()), want, `${n} values, ${limit} bytes`);
    }
  }
  const x = Tensor.from(gpu, EDGES, [3, 5]);
  const y = Tensor.zeros(gpu, [3, 5], "bf16");
  roundBf16(x, y);
  const [got, want] = [await y.floats(), bf16ToFloat32(float32ToBf16(EDGES))];
  assert.deepEqual([...got].map(String), [...want].map(String));
});

Deno.test("roundBf16() leaves the memory around a view alone", GPU_TEST, async () => {
  const gpu = await testGpu();
  const y = Tensor.fromHalves(gpu, new Uint16Array(384).fill(0x4000), [384], "bf16");
  roundBf16(Tensor.from(gpu, normals(128, 1), [128]), y.view(128, [128]));
  const values = await y.floats();
  assert.deepEqual([values[127], values[256]], [2, 2]);
  assert.deepEqual(float32ToBf16(values.slice(128, 256)), float32ToBf16(normals(128, 1)));
});

Deno.test("roundBf16() refuses other shapes and dtypes", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [x, y] = [Tensor.zeros(gpu, [2]), Tensor.zeros(gpu, [3], "bf16")];
  assert.throws(() => roundBf16(x, y), {
    name: "TypeError",
    message:
      "Cannot round a (2) f32 tensor into a (3) bf16 one: expected f32, and bf16 of the same shape",
  });
  assert.throws(() => roundBf16(x, Tensor.zeros(gpu, [2])), /\(2\) f32 one/);
});
