import assert from "node:assert/strict";
import { schemaCommand } from "../../lib/cli/schema.ts";
import { configSchemaText } from "../../lib/train/config/print.ts";
import { runShell } from "./shell.ts";

Deno.test("schema prints the JSON Schema, or writes it whole", async () => {
  assert.deepEqual(await runShell(schemaCommand, []), {
    stdout: configSchemaText(),
    stderr: "",
    code: 0,
  });
  const dir = await Deno.makeTempDir();
  try {
    const seen = await runShell(schemaCommand, ["--out", `${dir}/schema.json`]);
    assert.deepEqual([seen.code, seen.stdout], [0, ""]);
    assert.equal(await Deno.readTextFile(`${dir}/schema.json`), configSchemaText());
    const nowhere = await runShell(schemaCommand, ["--out", `${dir}/no/schema.json`]);
    assert.equal(nowhere.code, 4);
    assert.match(nowhere.stderr, /^error: Cannot write .*no\/schema\.json: No such file/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
