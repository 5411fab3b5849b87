import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

Deno.test({
  ...GPU_TEST,
  name: hasTiny
    ? "checkOps() reports wrong values and tensors that nothing computes"
    : "checkOps() on an altered tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const dir = mkdtempSync(join(tmpdir(), "parity-"));
    try {
      for (const file of readdirSync(TINY)) {
        if (file !== "config.json" && file !== "index.json") {
          copyFileSync(join(TINY, file), join(dir, file));
        }
      }
      const read = (file: string) => JSON.parse(readFileSync(join(TINY, file), "utf8"));
      const config = read("config.json");
      config.llm_config.rope_theta *= 1.01;
      config.llm_config.rms_norm_eps = 1e-5;
      writeFileSync(join(dir, "config.json"), JSON.stringify(config));
      const index = read("index.json");
      const { tensors } = index.files["ops.safetensors"];
      tensors["mish/y"] = tensors["silu/y"];
      writeFileSync(join(dir, "index.json"), JSON.stringify(index));

      const rows = await checkOps(await testGpu(), dir);
      const missed = new Set(rows.filter((row) => !row.ok).map((row) => row.case));
      assert.deepEqual([...missed].sort(), ["mish", "rmsnorm", "rotary", "rotary_far"]);
      const mish = rows.find((row) => row.case === "mish");
      assert.equal(mish?.note, "no check computes this tensor");
    } finally {
      rmSync(dir, { recursive: true });
    }
  },
});
