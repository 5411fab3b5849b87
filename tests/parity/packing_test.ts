import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { checkPacking } from "../../lib/parity/packing.ts";

const TINY = fileURLToPath(new URL("../../../shared/fixtures/tiny-a", import.meta.url));
const hasTiny = existsSync(TINY);

Deno.test({
  name: hasTiny
    ? "checkPacking() finds every list of tiny-a's cases and training batch exact"
    : "checkPacking() on tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const rows = await checkPacking(TINY);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    const cases = JSON.parse(readFileSync(`${TINY}/packing_cases.json`, "utf8"));
    for (const { name, expected } of cases) {
      const found = rows.filter((row) => row.case === `packing:${name}`);
      assert.equal(found.length, Object.keys(expected).length + 1, name);
    }
    const train = rows.filter((row) => row.case === "packing:train_batch").map((r) => r.tensor);
    for (const list of ["packed_timesteps", "attention_allowed", "packed_vit_tokens"]) {
      assert.ok(train.includes(list), list);
    }
    assert.ok(rows.some((row) => row.case === "mot_layer"));
  },
});
