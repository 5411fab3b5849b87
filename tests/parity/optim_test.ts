import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { checkOptim } from "../../lib/parity/optim.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const TINY = fileURLToPath(new URL("../../../shared/fixtures/tiny-a", import.meta.url));
const hasTiny = existsSync(TINY);

Deno.test({
  ...GPU_TEST,
  name: hasTiny
    ? "checkOptim() finds AdamW, clipping, averages and rates of tiny-a within tolerance"
    : "checkOptim() on tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const gpu = await testGpu();
    const before = gpu.buffers.liveCount;
    const rows = await checkOptim(gpu, TINY);
    assert.deepEqual(rows.filter((row) => !row.ok), []);
    const names = new Set(rows.map((row) => `${row.case}/${row.tensor}`));
    const some = ["decay/step2/exp_avg_sq_w", "warmup/lrs", "clip_1/total_norm", "clip_100/b"];
    for (const name of some) assert.ok(names.has(name), name);
    assert.equal(names.size, rows.length, "no tensor is compared twice");
    assert.equal(gpu.buffers.liveCount, before, "everything was given back");
  },
});
