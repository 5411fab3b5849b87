// Buffers that kernels read as texels: copied whole or in part, folded onto rows, and given back.

import assert from "node:assert/strict";
import { openDevice } from "../../lib/gpu/device.ts";
import { Kernel } from "../../lib/gpu/kernel.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const code = (texel: "f32" | "u32") => `
struct Params { n: u32 }
@group(0) @binding(0) var x: texture_2d<${texel}>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<${texel}>>;
@group(0) @binding(2) var<uniform> params: Params;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.n) { y[id.x] = textureLoad(x, vec2u(id.x % 4096u, id.x / 4096u), 0); }
}`;
const floats = new Kernel("texels_f32", { main: code("f32") });
const words = new Kernel("texels_u32", { main: code("u32") });

Deno.test(
  "Kernel copies what is declared as a texture, rows and rest, bit by bit",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    for (const texels of [1, 16, 4095, 4096, 4097, 9001]) {
      const data = Uint32Array.from({ length: 4 * texels }, (_, i) => Math.imul(i, 2654435761));
      const x = Tensor.from(gpu, data, [4 * texels]);
      const y = Tensor.empty(gpu, [4 * texels], "u32");
      const grid = [Math.ceil(texels / 64)];
      words.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n: texels }, grid });
      assert.deepEqual(await y.read(), data, `${texels} texels`);
      for (const t of [x, y]) t.dispose();
    }
  },
);

Deno.test(
  "Kernel copies a range of a buffer, and may write the buffer it was copied from",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const data = Float32Array.from({ length: 4096 }, (_, i) => i / 3);
    const x = Tensor.from(gpu, data, [4096]);
    const range = { buffer: x.buffer, offset: 4096, sizeBytes: 2048 };
    floats.run(gpu, { buffers: { x: range, y: x.buffer }, params: { n: 128 }, grid: [2] });
    const want = data.slice();
    want.set(data.subarray(1024, 1536));
    assert.deepEqual(await x.floats(), want);
  },
);

Deno.test(
  "textures are reused, counted against the budget, and freed by trim()",
  GPU_TEST,
  async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 20 });
    const made: number[] = [];
    const create = gpu.device.createTexture.bind(gpu.device);
    gpu.device.createTexture = (descriptor) => {
      made.push(1);
      return create(descriptor);
    };
    const x = Tensor.zeros(gpu, [1024]);
    const y = Tensor.empty(gpu, [1024]);
    const run = () =>
      floats.run(gpu, { buffers: { x: x.buffer, y: y.buffer }, params: { n: 256 }, grid: [4] });
    const live = gpu.buffers.liveBytes;
    for (let i = 0; i < 3; i++) run();
    assert.equal(made.length, 1, "one texture serves all launches");
    assert.deepEqual([gpu.buffers.liveBytes, gpu.buffers.idleBytes], [live, 65536]);
    gpu.buffers.trim();
    assert.equal(gpu.buffers.idleBytes, 0);
    assert.throws(() => gpu.buffers.takeTexels(2 ** 20, "rgba32float"), {
      name: "ResourceError",
      message: /^Cannot allocate 1\.0 MiB for a copy that kernels read as texels: .* is in use$/,
    });
    run();
    assert.throws(
      () => floats.run(gpu, { buffers: { x: x.buffer }, params: { n: 1 }, grid: [1] }),
      {
        name: "TypeError",
        message: 'Cannot run kernel "texels_f32": no buffer for "y" (it binds x, y, params)',
      },
    );
    const memory = [gpu.buffers.liveBytes, gpu.buffers.idleBytes];
    assert.deepEqual(memory, [live, 65536], "a launch that fails gives its copies back");
    await gpu.settle();
    gpu.close();
  },
);
