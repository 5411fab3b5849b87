import assert from "node:assert/strict";
import { collectGarbage, GarbageWatch } from "../lib/garbage.ts";

Deno.test("collectGarbage() frees what nothing holds", async () => {
  const kept = new WeakRef({ large: new Uint8Array(1000) });
  await new Promise((resolve) => setTimeout(resolve)); // a WeakRef holds on until the turn ends
  collectGarbage();
  assert.equal(kept.deref(), undefined);
});

Deno.test("GarbageWatch collects after growth, not more often than every two seconds", () => {
  let [resident, ms, collections] = [1e9, 0, 0];
  const watch = new GarbageWatch(() => resident, () => ms, () => {
    collections++;
    resident -= 1e7;
  });
  const after = (bytes: number, waited: number) => {
    resident += bytes;
    ms += waited;
    return watch.look();
  };
  assert.equal(after(0, 0), true, "the first look");
  assert.equal(after(4e7, 1000), false, "too soon");
  assert.equal(after(0, 1000), true);
  assert.equal(after(3e7, 5000), false, "too little");
  assert.equal(after(3e7, 0), true);
  resident += 4e7;
  watch.collect();
  assert.equal(after(0, 5000), false, "collected when told");
  assert.equal(collections, 4);
});
