import assert from "node:assert/strict";
import { BUCKET, costOf, type Machine, type Work } from "../../experiments/scaling/model.ts";

const machine: Machine = {
  name: "round numbers",
  latency: 1e-3,
  network: 1e9,
  wait: 0.01,
  readBack: 2e9,
  writeBack: 4e9,
};
const work = (more: Partial<Work> = {}): Work => ({
  name: "one bucket",
  trainable: BUCKET / 4,
  weightBytes: 4,
  compute: 1,
  backward: 0.5,
  ...more,
});

Deno.test("costOf() adds copies, ring and rounds by hand", () => {
  const D = BUCKET;
  const one = costOf(machine, work(), 1);
  assert.deepEqual([one.sent, one.exposed, one.efficiency], [0, 0, 1]);
  const four = costOf(machine, work(), 4);
  const exchange = 0.01 + D / 2e9 + 2 * (3 / 4) * D / 1e9 + 6e-3 + D / 4e9;
  assert.ok(Math.abs(four.exchange - exchange) < 1e-12);
  assert.equal(four.sent, 1.5 * D);
  // One bucket: nothing hides it, however long backward is.
  assert.ok(Math.abs(four.exposed - exchange) < 1e-12);
  assert.ok(Math.abs(four.efficiency - 1 / (1 + exchange)) < 1e-12);
});

Deno.test("costOf() hides all but the last bucket behind backward, as far as it is long enough", () => {
  const ten = work({ trainable: 10 * BUCKET / 4, backward: 100 });
  const { exchange, exposed } = costOf(machine, ten, 2);
  assert.ok(Math.abs(exposed - 0.01 - (exchange - 0.01) / 10) < 1e-12);
  const short = costOf(machine, { ...ten, backward: exchange / 2 }, 2);
  assert.ok(Math.abs(short.exposed - exchange / 2) < 1e-12);
  // With updates shared out the weights come after the update: bf16 ones are half of the gradients.
  const plain = costOf(machine, ten, 8);
  const sharded = costOf(machine, { ...ten, weightBytes: 2 }, 8, true);
  assert.ok(sharded.sent < plain.sent && sharded.sent > plain.sent / 2);
  assert.ok(sharded.exposed > plain.exposed, "nothing hides them");
});
