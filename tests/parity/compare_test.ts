import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { InputError } from "../../lib/errors.ts";
import { compareExact, compareFloat, openFixture } from "../../lib/parity/compare.ts";

const TINY = fileURLToPath(new URL("../../../shared/fixtures/tiny-a", import.meta.url));
const hasTiny = existsSync(TINY);

Deno.test("compareFloat() reports the element nearest to its tolerance, not the largest error", () => {
  // 1e-3 off at 1000 is within 1e-5 + 1e-5·1000; 5e-5 off at 1 is not within 1e-5 + 1e-5.
  const row = compareFloat("op/y", [1000.001, 1.00005], [1000, 1], 1e-5, 1e-5);
  assert.equal(row.case, "op");
  assert.equal(row.tensor, "y");
  assert.equal(row.ok, false);
  assert.ok(Math.abs(row.error - 5e-5) < 1e-9);
  assert.ok(Math.abs(row.tolerance - 2e-5) < 1e-12);
  assert.match(row.note ?? "", /element 1: got 1.00005, expected 1/);
  assert.equal(compareFloat("op/y", [1000.001, 1], [1000, 1], 1e-5, 1e-5).ok, true);
});

Deno.test("compareFloat() accepts equal infinities and no NaN", () => {
  assert.equal(compareFloat("a/b", [-Infinity], [-Infinity], 0, 0).ok, true);
  assert.equal(compareFloat("a/b", [-Infinity], [Infinity], 1, 1).ok, false);
  assert.equal(compareFloat("a/b", [5], [Infinity], 1, 1).ok, false);
  assert.equal(compareFloat("a/b", [NaN], [NaN], 1, 1).ok, false);
  assert.equal(compareFloat("a/b", [NaN, 1], [0, 1], 1, 1).ok, false);
  assert.equal(compareFloat("a/b", [1], [1, 1], 1, 1).ok, false);
  assert.equal(compareFloat("a/b", [], [], 0, 0).ok, true);
});

Deno.test("compareExact() counts differences and reports the largest", () => {
  const row = compareExact("a/ids", [1, 2, 9], [1, 3, 4]);
  assert.deepEqual([row.ok, row.error, row.tolerance], [false, 5, 0]);
  assert.match(row.note ?? "", /2 differ, first element 1: got 2, expected 3/);
  assert.equal(compareExact("a/ids", [1, 2], [1, 2]).ok, true);
  assert.equal(compareExact("a/ids", [1], [1, 2]).ok, false);
});

Deno.test({
  name: hasTiny
    ? "openFixture() serves tensors, roles and tolerances of tiny-a"
    : "openFixture() on tiny-a (skipped: ../shared/fixtures/tiny-a is absent)",
  ignore: !hasTiny,
  fn: async () => {
    const fixture = await openFixture(TINY);
    assert.equal(fixture.rtol, 2e-5);
    assert.equal(fixture.config.latent_patch_size, 2);
    assert.equal(fixture.roleOf("ops.safetensors", "rmsnorm/d_x"), "grad");
    assert.equal(fixture.roleOf("model.safetensors", "llm2vae.weight"), "weight");
    assert.equal(fixture.atolOf("ops.safetensors", "connector/y"), 5e-5);
    assert.throws(() => fixture.atolOf("ops.safetensors", "rmsnorm/x"), InputError);
    const y = await fixture.tensor("ops.safetensors", "connector/y");
    assert.deepEqual([y.shape, y.dtype, y.data.length], [[20, 64], "F32", 1280]);
    assert.ok((await fixture.compare("ops.safetensors", "connector/y", y.data)).ok);
    y.data[3] += 1e-3;
    assert.ok(!(await fixture.compare("ops.safetensors", "connector/y", y.data)).ok);
    assert.ok(fixture.names("ops.safetensors", "grad").includes("rmsnorm/d_x"));
    await fixture.close();
  },
});

Deno.test("openFixture() names the file that is missing", async () => {
  await assert.rejects(
    openFixture("no/fixture"),
    (e) => {
      assert.ok(e instanceof InputError);
      assert.equal(e.message, "Cannot read no/fixture/index.json: No such file or directory");
      const help = "Give a folder of golden numbers: it holds index.json and config.json";
      assert.equal(e.help, help);
      return true;
    },
  );
});
