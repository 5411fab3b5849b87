import assert from "node:assert/strict";
import { PixelCache } from "../../../lib/data/training/pixel_cache.ts";

const pixels = (value: number) => {
  return { height: 1, width: 1, data: new Float32Array(3).fill(value) };
};

Deno.test("PixelCache forgets what was used longest ago, and hands out copies", () => {
  const cache = new PixelCache(36); // three of 12 bytes
  for (const name of ["a", "b", "c"]) cache.set(name, pixels(name.charCodeAt(0)));
  cache.get("a")!.data.fill(0);
  cache.set("d", pixels(1));
  assert.deepEqual(["a", "b", "c", "d"].map((name) => cache.get(name)?.data[0]), [
    97,
    undefined,
    99,
    1,
  ]);
  cache.set("wide", { height: 1, width: 4, data: new Float32Array(12) }); // 48 bytes: never kept
  assert.equal(cache.get("wide"), undefined);
  assert.equal(cache.get("a")!.data[0], 97);
});
