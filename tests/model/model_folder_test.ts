import assert from "node:assert/strict";
import { InputError } from "../../lib/errors.ts";
import { modelFolder } from "../../lib/model/model_folder.ts";

Deno.test("modelFolder() takes a run and the names of its checkpoints for the folder they stand for", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const run = `${dir}/seed-0`;
    await Deno.mkdir(`${run}/checkpoints/step-0000007`, { recursive: true });
    assert.equal(await modelFolder(run), run, "a folder like any other");
    await Deno.writeTextFile(`${run}/run.json`, "{}");
    await assert.rejects(modelFolder(run), (error) => {
      return error instanceof InputError && /no checkpoint yet/.test(error.message) && !!error.help;
    });
    for (const name of ["latest", "best"]) {
      await Deno.writeTextFile(`${run}/checkpoints/${name}`, "step-0000007\n");
    }
    const step = `${run}/checkpoints/step-0000007`;
    assert.equal(await modelFolder(run), step);
    assert.equal(await modelFolder(`${run}/`), step);
    assert.equal(await modelFolder(`${run}/checkpoints/best`), step);
    assert.equal(await modelFolder(step), step);
    await Deno.writeTextFile(`${run}/checkpoints/latest`, "../../elsewhere");
    await assert.rejects(modelFolder(run), InputError);
    await Deno.mkdir(`${run}/model`);
    await Deno.writeTextFile(`${run}/model/config.json`, "{}");
    assert.equal(await modelFolder(run), `${run}/model`, "a part's training leaves a model");
    assert.equal(await modelFolder(`${dir}/none`), `${dir}/none`, "who opens it says so");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
