// The choice of a tile: by class of product, from what was measured, or by the kind of adapter.

import assert from "node:assert/strict";
import { Gpu } from "../../lib/gpu/device.ts";
import type { TunedTables } from "../../lib/gpu/tuned.ts";
import { chooseMatmul, classOf, defaultTile } from "../../lib/ops/matmul_config.ts";
import { product } from "../../lib/ops/matmul_launch.ts";
import {
  describeMatmul,
  MATMUL_TABLE,
  matmulKernelsHash,
  useMatmulTable,
} from "../../lib/ops/matmul_table.ts";
import { canRun, MATMUL_CLASSES, type MatmulTile } from "../../lib/ops/matmul_tile.ts";
import { Tensor } from "../../lib/tensor.ts";
import { assertClose, FORWARD, GPU_TEST, normals, testGpu } from "../helpers.ts";

const SIZES = { rows: 40, columns: 50, inner: 64, transposeA: false, transposeB: false };
const TILED: MatmulTile = { kernel: "tiled", rowBlocks: 1, columnBlocks: 1, side: 8 };

/** The test device as one that was opened with these measurements. */
async function gpuWith(tables: TunedTables, software?: boolean): Promise<Gpu> {
  const { device, adapter, subgroupSize, subgroupLine } = await testGpu();
  const facts = { ...adapter, software: software ?? adapter.software };
  const gpu = new Gpu(device, facts, subgroupSize, subgroupLine, {});
  gpu.tuned = { ...gpu.tuned, tables };
  return gpu;
}

Deno.test(
  "chooseMatmul() goes by a measured tile in its class, and by the default elsewhere",
  GPU_TEST,
  async () => {
    const kernels = matmulKernelsHash();
    const gpu = await gpuWith({ [MATMUL_TABLE]: { kernels, tiles: { "small NN": TILED } } });
    assert.deepEqual(chooseMatmul(gpu, SIZES), { ...TILED, splits: 1 });
    const other = { ...SIZES, transposeB: true };
    const { splits: _, ...tile } = chooseMatmul(gpu, other);
    assert.deepEqual(tile, defaultTile(gpu, other));
    assert.deepEqual(describeMatmul(gpu), {
      origin: "tuned",
      tiles: { "small NN": "tiled 32x32 by 8x8" },
    });
  },
);

Deno.test("product() runs the kernel that was measured to be fastest", GPU_TEST, async () => {
  const gpu = await gpuWith({});
  const labels: string[] = [];
  const dispatch = gpu.dispatch.bind(gpu);
  gpu.dispatch = (...given) => {
    labels.push(given[4]);
    dispatch(...given);
  };
  const [a, b] = [normals(40 * 64, 1), normals(64 * 50, 2)];
  const [x, y] = [Tensor.from(gpu, a, [40, 64]), Tensor.from(gpu, b, [64, 50])];
  const usual = await product(x, y, SIZES).floats();
  assert.ok(!labels.includes("matmul_tiled") || !gpu.adapter.software, labels.join());
  labels.length = 0;
  useMatmulTable(gpu, { kernels: matmulKernelsHash(), tiles: { "small NN": TILED } });
  const tuned = await product(x, y, SIZES).floats();
  assert.ok(labels.includes("matmul_tiled"), labels.join());
  assertClose(tuned, usual, FORWARD, "tuned");
});

Deno.test(
  "measurements of other kernels, classes or tiles are ignored with a note",
  GPU_TEST,
  async () => {
    const kernels = matmulKernelsHash();
    const big = { ...TILED, rowBlocks: 4 };
    const tables: [unknown, RegExp][] = [
      [{ kernels: "0123", tiles: {} }, /other kernels; deno task doctor --tune/],
      [{ kernels, tiles: { "huge NN": TILED } }, /there is no class huge NN/],
      [{ kernels, tiles: { "small NN": big } }, /cannot run the tile of small NN/],
      [{ kernels, tiles: { "small NN": { ...TILED, kernel: "turbo" } } }, /cannot run the tile/],
      [{ kernels, tiles: { "small NN": null } }, /cannot run the tile/],
      [{ kernels }, /not in the form/],
      [null, /not in the form/],
      ["text", /not in the form/],
    ];
    for (const [table, why] of tables) {
      const gpu = await gpuWith({ [MATMUL_TABLE]: table });
      const { origin, tiles, note } = describeMatmul(gpu);
      assert.deepEqual([origin, tiles], ["default", {}]);
      assert.match(note!, why);
      const { splits: _, ...tile } = chooseMatmul(gpu, SIZES);
      assert.deepEqual(tile, defaultTile(gpu, SIZES));
    }
    const none = await gpuWith({});
    assert.deepEqual(describeMatmul(none), { origin: "default", tiles: {} });
  },
);

Deno.test("classOf() knows the classes by layout, size and dtype", () => {
  const limit = 2 ** 27;
  const of = (rows: number, columns: number, layout: string, dtype: "f32" | "int4" = "f32") =>
    classOf(
      { rows, columns, inner: 96, transposeA: layout[0] === "T", transposeB: layout[1] === "T" },
      dtype,
      limit,
    );
  const seen = [
    of(1, 64, "NT"),
    of(300, 64, "NN"),
    of(300, 64, "NT"),
    of(300, 64, "TN"),
    of(512, 512, "NN"),
    of(512, 512, "NT"),
    of(512, 512, "TN"),
    of(8, 64, "NT", "int4"),
    of(300, 64, "NT", "int4"),
  ];
  assert.deepEqual(seen, [...MATMUL_CLASSES]);
  assert.equal(of(512, 512, "TT"), "large TN");
  const none = [of(1, 64, "NN"), of(16, 512, "NT"), of(512, 16, "NT"), of(300, 64, "NN", "int4")];
  assert.deepEqual(none, [undefined, undefined, undefined, undefined]);
});

Deno.test(
  "defaults on a GPU grow with the product, and fit its memory and invocations",
  GPU_TEST,
  async () => {
    const gpu = await gpuWith({}, false);
    const sides = [[64, 64], [512, 512], [2048, 2048]].map(([rows, columns]) => {
      const tile = defaultTile(gpu, { ...SIZES, rows, columns });
      assert.ok(canRun(gpu, tile));
      return 4 * tile.rowBlocks * (tile.side ?? 1);
    });
    const { maxComputeWorkgroupStorageSize: memory } = gpu.device.limits;
    assert.deepEqual(sides, [32, 64, memory >= 16704 ? 128 : 64]);
    const narrow = await gpuWith({}, false);
    const limits = { maxComputeWorkgroupStorageSize: 4096, maxComputeInvocationsPerWorkgroup: 64 };
    Object.defineProperty(narrow, "device", { value: { limits } });
    assert.equal(canRun(narrow, TILED), false, "4416 bytes");
    assert.equal(defaultTile(narrow, { ...SIZES, rows: 2048 }).kernel, "register");
    assert.equal(defaultTile(gpu, { ...SIZES, columns: 9 }).kernel, "register");
  },
);
