import assert from "node:assert/strict";
import { groupedEntries } from "../../lib/session/read_back.ts";
import { Tensor } from "../../lib/tensor.ts";
import { planSnapshot } from "../../lib/train/checkpoint/snapshot.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";

Deno.test(
  "groupedEntries() gives each tensor's bytes with one wait a group",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const sizes = [5, 1, 700, 2 ** 20, 2 ** 20 - 700, 3 * 2 ** 20, 64]; // of f32: three of them fill a group up
    const values = sizes.map((size, i) => normals(size, i));
    const tensors = values.map((each, i) => Tensor.from(gpu, each, [sizes[i]]).keep());
    try {
      const saved = tensors.map((tensor, i) =>
        ({ name: `t${9 - i}`, dtype: "F32", tensor }) as const
      );
      let reads = 0;
      const read = gpu.read;
      gpu.read = (ranges) => {
        reads++;
        return read.call(gpu, ranges);
      };
      try {
        const entries = groupedEntries(saved);
        const { files } = planSnapshot({
          step: 1,
          files: [{ name: "a.safetensors", tensors: entries }],
          state: {},
        });
        for (const again of [false, true]) { // the second time as a save that is tried once more
          reads = 0;
          for (const { name, read } of files[0].tensors) {
            const bytes = await read();
            const got = new Float32Array(bytes.buffer);
            const want = values[9 - Number(name[1])];
            assert.ok(got.length === want.length && got.every((x, i) => x === want[i]), name);
            (bytes.buffer as ArrayBuffer).transfer(0); // as the writer does
          }
          assert.equal(reads, 4, `again: ${again}`);
        }
      } finally {
        gpu.read = read;
      }
    } finally {
      for (const tensor of tensors) tensor.dispose();
    }
  },
);
