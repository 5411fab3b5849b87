import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { checkOps } from "../../lib/parity/ops.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const TINY = fileURLToPath(new URL("../../../shared/fixtures/tiny-a", import.meta.url));
const hasTiny = existsSync(TINY);

Deno.test({
  ...GPU_TEST,
  name: hasTiny
    ? "checkOps() finds every op of tiny-a within tolerance"
    : "checkOps() on tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const rows = await checkOps(await testGpu(), TINY);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    const names = new Set(rows.map((row) => `${row.case}/${row.tensor}`));
    for (const name of ["rmsnorm/d_weight", "rotary_far/d_k", "swiglu_mlp/d_down_proj.weight"]) {
      assert.ok(names.has(name), name);
    }
    assert.equal(names.size, rows.length, "no tensor is compared twice");
  },
});
