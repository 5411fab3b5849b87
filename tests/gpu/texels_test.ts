// Read-only storage that software adapters read as texels: the rewritten WGSL, and the copies it reads.

import assert from "node:assert/strict";
import { readBindings } from "../../lib/gpu/declarations.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Kernel } from "../../lib/gpu/kernel.ts";
import { readTexels } from "../../lib/gpu/texel_loads.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const copier = (type: string) => `
struct Params { n: u32 }
@group(0) @binding(0) var<storage, read> x: array<${type}>;
@group(0) @binding(1) var<storage, read_write> y: array<${type}>;
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < params.n) { y[id.x] = x[id.x]; } }`;
const types = { f32: 4, u32: 4, i32: 4, vec2f: 8, vec4f: 16, vec4i: 16, vec4u: 16 };
const kernels = Object.keys(types).map((type) =>
  [type, new Kernel(`texels_${type}`, { main: copier(type) })] as const
);
const vectors = new Kernel("texels_vectors", { main: copier("vec4f") });

Deno.test("every element type is read bit by bit, whole and from an offset", GPU_TEST, async () => {
  const gpu = await testGpu();
  for (const words of [1024, 4096, 4100, 36004]) {
    const data = Uint32Array.from(
      { length: words },
      (_, i) => Math.imul(i, 2654435761) & 0xbf7fffff,
    );
    const x = Tensor.from(gpu, data, [words]);
    for (const [type, kernel] of kernels) {
      const size = types[type as keyof typeof types] / 4;
      const run = async (from: number) => {
        const n = (words - from) / size;
        const y = Tensor.empty(gpu, [words - from], "u32");
        const bound = { buffer: x.buffer, offset: 4 * from, sizeBytes: 4 * (words - from) };
        const buffers = { x: from > 0 ? bound : x.buffer, y: y.buffer };
        kernel.run(gpu, { buffers, params: { n }, grid: [Math.ceil(n / 64)] });
        assert.deepEqual(await y.read(), data.subarray(from), `${type}, ${words} words`);
        y.dispose();
      };
      await run(0);
      await run(512);
    }
    x.dispose();
  }
});

Deno.test("a range that ends within a texel is read to its end", GPU_TEST, async () => {
  const gpu = await testGpu();
  const [, f32] = kernels.find(([type]) => type === "f32")!;
  const n = 20_001;
  const x = Tensor.from(gpu, Float32Array.from({ length: n + 64 }, (_, i) => i + 1), [n + 64]);
  const y = Tensor.zeros(gpu, [n]);
  const range = { buffer: x.buffer, offset: 256, sizeBytes: 4 * n };
  const grid = [Math.ceil(n / 64)];
  f32.run(gpu, { buffers: { x: range, y: y.buffer }, params: { n }, grid });
  const got = await y.floats();
  assert.deepEqual([got[0], got[n - 2], got[n - 1]], [65, n + 63, n + 64]);
});

Deno.test("a copy follows what is written to its buffer, by whichever way", GPU_TEST, async () => {
  const gpu = await testGpu();
  const n = 1024;
  const x = Tensor.zeros(gpu, [4 * n]);
  const y = Tensor.empty(gpu, [4 * n]);
  const ones = Tensor.from(gpu, new Float32Array(4 * n).fill(1), [4 * n]);
  const seen = async () => {
    vectors.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n }, grid: [16] });
    return new Set(await y.floats());
  };
  assert.deepEqual(await seen(), new Set([0]));
  gpu.write(x.buffer, new Float32Array(4 * n).fill(2));
  assert.deepEqual(await seen(), new Set([2]), "write");
  gpu.copy(ones.buffer, 0, x.buffer, 0, 16 * n);
  assert.deepEqual(await seen(), new Set([1]), "copy");
  gpu.clear(x.buffer);
  assert.deepEqual(await seen(), new Set([0]), "clear");
  vectors.run(gpu, { buffers: { x: ones.buffer, y: x.buffer }, params: { n }, grid: [16] });
  assert.deepEqual(await seen(), new Set([1]), "kernel");
});

Deno.test("readTexels leaves comments, other names and parts with names of their own", () => {
  const main = `// y = x[0]
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> odd: array<mat2x2f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
fn main() { y[0] = x[u32(x[1])] + p.x[2] + odd[0][0].x; }`;
  const parts = ["fn own(x: vec4f) -> f32 { return x[0]; }", "fn theirs() -> f32 { return x[3]; }"];
  const { files, loads, declared } = readTexels(main, parts, readBindings(main));
  const lines = files[0].split("\n");
  assert.equal(lines[0], "// y = x[0]");
  assert.equal(lines[1], "@group(0) @binding(0) var x: texture_2d<u32>;");
  assert.equal(
    lines[4],
    "fn main() { y[0] = texel_of_x(u32(u32(texel_of_x(u32(1))))) + p.x[2] + odd[0][0].x; }",
  );
  assert.equal(files[1], parts[0]);
  assert.equal(files[2], "fn theirs() -> f32 { return texel_of_x(u32(3)); }");
  assert.match(loads, /^fn texel_of_x\(i: u32\) -> f32 \{/);
  assert.deepEqual(declared.map(({ type }) => type), [
    "texels",
    "read-only-storage",
    "storage",
  ]);
});

const inPlace = new Kernel("texels_in_place", {
  main: copier("vec4f").replace("y[id.x] = x[id.x];", "y[id.x] = 2.0 * y[id.x] + x[id.x];"),
  inPlace: ["y"],
});

Deno.test("a buffer updated in place is read as it was before", GPU_TEST, async () => {
  const gpu = await testGpu();
  const x = Tensor.from(gpu, new Float32Array(4096).fill(1), [4096]);
  const y = Tensor.zeros(gpu, [4096]);
  for (let i = 0; i < 3; i++) {
    inPlace.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n: 1024 }, grid: [16] });
  }
  assert.deepEqual(new Set(await y.floats()), new Set([7]));
});

const { readsTexels } = await testGpu();

Deno.test({
  name: "copies are reused, counted against the budget, and freed by trim()" +
    (readsTexels ? "" : " (skipped: this adapter reads storage as it is)"),
  ignore: !readsTexels,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 20 });
    const made: number[] = [];
    const create = gpu.device.createTexture.bind(gpu.device);
    gpu.device.createTexture = (descriptor) => {
      made.push(1);
      return create(descriptor);
    };
    const x = Tensor.zeros(gpu, [4096]);
    const y = Tensor.empty(gpu, [4096]);
    const run = () =>
      vectors.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n: 256 }, grid: [4] });
    for (let i = 0; i < 3; i++) run();
    assert.equal(made.length, 1, "one texture serves all launches");
    assert.equal(gpu.buffers.idleBytes, 3 * 16384);
    gpu.buffers.trim();
    assert.equal(gpu.buffers.idleBytes, 0);
    run();
    const large = Tensor.zeros(gpu, [160_000]);
    assert.throws(
      () =>
        vectors.run(gpu, {
          buffers: { x: large.buffer, y: y.buffer },
          params: { n: 4 },
          grid: [1],
        }),
      {
        name: "ResourceError",
        message: /^Cannot allocate .* for copies read as texels: .* is in use$/,
      },
    );
    await gpu.settle();
    gpu.close();
  },
});

Deno.test({
  name: "the texture of a buffer that was given back serves another, a smaller one too" +
    (readsTexels ? "" : " (skipped: this adapter reads storage as it is)"),
  ignore: !readsTexels,
  ...GPU_TEST,
  fn: async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 24 });
    const sums: number[] = [];
    const kept: number[] = [];
    const y = Tensor.empty(gpu, [40_000]);
    for (const n of [40_000, 30_000, 36_000, 40_000]) {
      const x = Tensor.from(gpu, new Float32Array(n).fill(n), [n]);
      const buffers = { x: x.buffer, y: y.buffer };
      vectors.run(gpu, { buffers, params: { n: n / 4 }, grid: [Math.ceil(n / 256)] });
      sums.push((await y.floats()).filter((v) => v === n).length);
      x.dispose();
      kept.push(gpu.buffers.texels.bytes);
    }
    assert.deepEqual(sums, [40_000, 30_000, 36_000, 40_000]);
    assert.equal(new Set(kept).size, 1, `bytes of textures: ${kept}`);
    gpu.close();
  },
});

Deno.test(
  "launches over the same buffers share one bind group, whatever their params",
  GPU_TEST,
  async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 24 });
    let groups = 0;
    const create = gpu.device.createBindGroup.bind(gpu.device);
    gpu.device.createBindGroup = (descriptor) => {
      groups++;
      return create(descriptor);
    };
    const x = Tensor.from(gpu, new Float32Array(4096).fill(3), [4096]);
    const y = Tensor.zeros(gpu, [4096]);
    for (const n of [1, 2, 3, 64]) {
      vectors.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n }, grid: [1] });
    }
    assert.equal(groups, 1);
    const values = await y.floats();
    assert.equal(values.filter((v) => v === 3).length, 256, "each launch had its own params");
    gpu.close();
  },
);
