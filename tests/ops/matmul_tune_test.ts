import assert from "node:assert/strict";
import { product } from "../../lib/ops/matmul_launch.ts";
import { matmulKernelsHash } from "../../lib/ops/matmul_table.ts";
import { type MatmulTrial, tableOf, tuneMatmul } from "../../lib/ops/matmul_tune.ts";
import { type MatmulTile, tileName } from "../../lib/ops/matmul_tile.ts";
import { scale } from "../../lib/ops/unary.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

Deno.test(
  "tuneMatmul() times candidates, the default first, and leaves nothing on the device",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const before = gpu.buffers.liveBytes;
    const trials: MatmulTrial[] = [];
    for await (const trial of tuneMatmul(gpu, { classes: ["few NT"] })) trials.push(trial);
    assert.equal(gpu.buffers.liveBytes, before);
    assert.deepEqual(trials.map((t) => t.name), ["few NT"]);
    const [{ rates, chosen, sizes }] = trials;
    assert.ok(rates.length >= 2 && rates.every(({ gflops }) => gflops > 0));
    assert.equal(new Set(rates.map(({ tile }) => tileName(tile))).size, rates.length);
    assert.ok(rates.some(({ tile }) => tile === chosen));
    assert.deepEqual([sizes.transposeA, sizes.transposeB], [false, true]);
  },
);

Deno.test(
  "tuneMatmul() never chooses a kernel that computes something else",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const broken: typeof product = (a, b, options) => {
      const c = product(a, b, options);
      return options.choice?.kernel === "register" ? c : scale(c, 1.001);
    };
    for await (
      const { rates, chosen } of tuneMatmul(gpu, { classes: ["few NT"], multiply: broken })
    ) {
      const right = rates.filter(({ gflops }) => gflops > 0);
      assert.deepEqual(right.map(({ tile }) => tile.kernel), ["register"]);
      assert.equal(chosen.kernel, "register");
    }
    const all: typeof product = (a, b, options) => scale(product(a, b, options), NaN);
    await assert.rejects(tuneMatmul(gpu, { classes: ["few NT"], multiply: all }).next(), {
      message: "internal: no matmul kernel computes few NT right here",
    });
  },
);

Deno.test("tableOf() keeps only the tiles that beat the default", () => {
  const tile = (rowBlocks: number): MatmulTile => ({
    kernel: "register",
    rowBlocks,
    columnBlocks: 1,
  });
  const [first, second] = [tile(1), tile(2)];
  const rates = [{ tile: first, gflops: 1 }, { tile: second, gflops: 2 }];
  const sizes = { rows: 1, columns: 1, inner: 1, transposeA: false, transposeB: false };
  const trials: MatmulTrial[] = [
    { name: "small NN", sizes, rates, chosen: second },
    { name: "small NT", sizes, rates, chosen: first },
  ];
  assert.deepEqual(tableOf(trials), {
    kernels: matmulKernelsHash(),
    tiles: { "small NN": second },
  });
});
