import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { checkTransforms } from "../../lib/parity/transforms.ts";

const TINY = fileURLToPath(new URL("../../../shared/fixtures/tiny-a", import.meta.url));
const hasTiny = existsSync(TINY);

Deno.test({
  name: hasTiny
    ? "checkTransforms() finds tiny-a's bytes exact and its floats within tolerance"
    : "checkTransforms() on tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const rows = await checkTransforms(TINY);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    const named = (pattern: RegExp) => rows.filter((r) => pattern.test(`${r.case}/${r.tensor}`));
    assert.equal(named(/_resized_u8$/).length, 15);
    assert.equal(named(/^modes\//).length, 3);
    assert.equal(named(/^position_ids\//).length, 14);
    assert.ok(named(/^size_rules\//).length >= 5);
  },
});
