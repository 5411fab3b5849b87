import assert from "node:assert/strict";
import { RecordOrder } from "../../../lib/data/training/record_order.ts";

const pass = (order: RecordOrder, epoch: number) =>
  Array.from({ length: order.count }, (_, i) => order.at(epoch * order.count + i).index);

Deno.test("RecordOrder keeps the records of a block together, in another order each pass", () => {
  const records = Uint32Array.from([1, 2, 4, 5, 6, 9, 12, 13, 14, 19]);
  // Blocks 0–3, 4–9, 10–11 (none of the records), 12–14, 15–…
  const order = new RecordOrder(records, [0, 4, 10, 12, 15], [7, "a"]);
  const block = (record: number) => [15, 12, 10, 4, 0].find((start) => start <= record)!;
  const passes = [0, 1, 2].map((epoch) => pass(order, epoch));
  for (const each of passes) {
    assert.deepEqual(each.toSorted((a, b) => a - b), [...records]);
    const runs = each.map(block).filter((b, i, all) => b !== all[i - 1]);
    assert.deepEqual(runs.toSorted((a, b) => a - b), [0, 4, 12, 15]);
  }
  assert.notDeepEqual(passes[0], passes[1]);
  assert.notDeepEqual(passes[1], passes[2]);
  assert.deepEqual(pass(order, 0), passes[0]); // forgotten by now, and made again
  assert.equal(order.at(25).epoch, 2);
});

Deno.test("RecordOrder differs by key, and not by pass where it is told so", () => {
  const records = Uint32Array.from({ length: 50 }, (_, i) => i);
  const a = new RecordOrder(records, [0], [7, "a"]);
  const b = new RecordOrder(records, [0], [7, "b"]);
  assert.notDeepEqual(pass(a, 0), pass(b, 0));
  const same = new RecordOrder(records, [0], [7, "a"], false);
  assert.deepEqual(pass(same, 3), pass(a, 0));
  assert.deepEqual(same.at(160), { epoch: 3, index: pass(a, 0)[10] });
});
