import assert from "node:assert/strict";
import { record } from "../../lib/autograd.ts";
import { checkFamilies, FAMILIES } from "../../lib/parity/families.ts";
import { checkCase, type FamilyCase, relativeRow } from "../../lib/parity/family_check.ts";
import { scale } from "../../lib/ops/unary.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

Deno.test("every kernel family agrees with its reference on this adapter", GPU_TEST, async () => {
  const seen: string[] = [];
  for await (const { family, rows } of checkFamilies(await testGpu())) {
    seen.push(family);
    assert.ok(rows.length > 0, family);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    assert.ok(rows.every((row) => row.case === family), family);
  }
  assert.deepEqual(seen, FAMILIES);
});

Deno.test(
  "checkCase() fails a kernel that is off by a little, forward or backward",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const right: FamilyCase = {
      name: "twice",
      inputs: [{ shape: [3, 50] }],
      op: ([x]) => scale(x, 2),
      reference: ([x]) => x.map((v) => 2 * v),
    };
    const verdicts = async (test: FamilyCase) =>
      (await checkCase(gpu, "scale", "", test)).map((row) => row.ok);
    assert.deepEqual(await verdicts(right), [true, true]);
    assert.deepEqual(await verdicts({ ...right, op: ([x]) => scale(x, 2.0001) }), [false, true]);
    const wrongSlope: FamilyCase = {
      ...right,
      op: ([x]) => record(scale(x.alias(), 2), [x], (dy) => [scale(dy, 2.001)]),
    };
    assert.deepEqual(await verdicts(wrongSlope), [true, false]);
    assert.deepEqual(await verdicts({ ...right, op: ([x]) => scale(x, NaN) }), [false, false]);
  },
);

Deno.test("relativeRow() names the element, and takes NaN and a wrong length for infinitely wrong", () => {
  const row = relativeRow("f", "y", [1, 2.5, 4], [1, 2, 4], 1e-5);
  assert.deepEqual([row.ok, row.error], [false, 0.125]);
  assert.equal(row.note, "element 1: got 2.5, expected 2");
  assert.equal(relativeRow("f", "y", [1, NaN], [1, 2], 1).error, Infinity);
  assert.equal(relativeRow("f", "y", [1], [1, 2], 1).note, "got 1 elements, expected 2");
  assert.equal(relativeRow("f", "y", [0, 0], [0, 0], 1e-5).ok, true);
});
