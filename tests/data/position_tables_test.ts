import assert from "node:assert/strict";
import { sinCosTable, timestepFeatures } from "../../lib/data/position_tables.ts";

Deno.test("sinCosTable() puts the column before the row", () => {
  const table = sinCosTable(3, 8);
  assert.equal(table.length, 72);
  const row = [...table.subarray((2 * 3 + 1) * 8, (2 * 3 + 2) * 8)]; // row 2, column 1
  const column = [1, 0.01];
  const down = [2, 0.02];
  const want = [column.map(Math.sin), column.map(Math.cos), down.map(Math.sin), down.map(Math.cos)];
  assert.deepEqual(row, want.flat().map(Math.fround));
  assert.deepEqual([...table.subarray(0, 8)], [0, 0, 1, 1, 0, 0, 1, 1]);
});

Deno.test("sinCosTable() refuses channels that do not split in four, and odd grids", () => {
  assert.throws(() => sinCosTable(3, 10), {
    name: "RangeError",
    message: "Cannot make a position table of 10 channels: not a multiple of 4",
  });
  assert.throws(() => sinCosTable(2.5, 8), {
    name: "RangeError",
    message: "Cannot make a position table with 2.5 rows",
  });
});

Deno.test("timestepFeatures() puts cosines first and takes t as it is", () => {
  const features = timestepFeatures(Float32Array.of(0, 0.5, 1));
  assert.deepEqual([...features.subarray(0, 256)], [...Array(128).fill(1), ...Array(128).fill(0)]);
  for (const [n, t] of [[1, 0.5], [2, 1]]) {
    for (const i of [0, 1, 64, 127]) {
      const phase = t * 10000 ** (-i / 128);
      assert.ok(Math.abs(features[256 * n + i] - Math.cos(phase)) < 3e-7);
      assert.ok(Math.abs(features[256 * n + 128 + i] - Math.sin(phase)) < 3e-7);
    }
  }
});
