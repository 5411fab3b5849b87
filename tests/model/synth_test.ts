import assert from "node:assert/strict";
import { sinCosTable } from "../../lib/data/position_tables.ts";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import { ResourceError, UsageError } from "../../lib/errors.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { readConfig } from "../../lib/model/read_config.ts";
import { configFiles } from "../../lib/model/reference_config.ts";
import { synthCheckpoint } from "../../lib/model/synth.ts";
import { bytesOf, inFolder, madeFolder, RELEASED } from "./made_folders.ts";
import { SMALL } from "./small.ts";

/** Mean and standard deviation. */
function moments(values: Float32Array): [mean: number, deviation: number] {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length)];
}

Deno.test("synthCheckpoint() draws N(0, 0.02²) matrices, norms of 1, biases of 0 and exact tables", async () => {
  await inFolder(async (dir) => {
    const checkpoint = await openCheckpoint(await madeFolder(dir, "a", { dtype: "F32" }));
    for (const [name, tensor] of checkpoint.tensors) {
      const values = await checkpoint.readFloat32(tensor);
      const { shape } = tensor;
      if (name.endsWith(".position")) {
        assert.deepEqual(values, sinCosTable(Math.sqrt(shape[0]), shape[1]), name);
      } else if (shape.length === 1) {
        const constant = name.endsWith(".bias") ? 0 : 1;
        assert.ok(values.every((v) => v === constant), name);
      } else {
        const [mean, deviation] = moments(values);
        // five standard errors of each
        const error = 5 / Math.sqrt(values.length);
        assert.ok(Math.abs(mean) < 0.02 * error, `${name}: mean ${mean}`);
        assert.ok(Math.abs(deviation / 0.02 - 1) < error, `${name}: deviation ${deviation}`);
        const rows = new Set(Array.from({ length: shape[0] }, (_, r) => values[r * shape[1]]));
        assert.ok(rows.size > 0.9 * shape[0], `${name}: rows differ`);
      }
    }
    for (const [name, tensor] of checkpoint.autoencoder!) {
      if (tensor.shape.length !== 4 || tensor.bytes < 4000) continue;
      assert.equal(tensor.dtype, "F32");
      const [, deviation] = moments(await checkpoint.readFloat32(tensor));
      const want = 1 / Math.sqrt(tensor.shape[1] * tensor.shape[2] * tensor.shape[3]);
      assert.ok(Math.abs(deviation / want - 1) < 0.15, `${name}: deviation ${deviation}`);
    }
    checkpoint.close();
  });
});

Deno.test("synthCheckpoint() repeats itself by seed, and --to gives what quantizing gives", async () => {
  await inFolder(async (dir) => {
    const first = await madeFolder(dir, "first");
    const blocks = await madeFolder(dir, "again", { blockBytes: 200, shardBytes: 1e6 });
    assert.deepEqual(await bytesOf(blocks), await bytesOf(first));
    const other = await madeFolder(dir, "other", { seed: 6 });
    assert.notDeepEqual(
      (await bytesOf(other)).get("model.safetensors"),
      (await bytesOf(first)).get("model.safetensors"),
    );
    for (const to of ["int4", "int8"] as const) {
      await quantizeCheckpoint(first, `${dir}/q-${to}`, { to, shardBytes: 30_000 });
      const want = await bytesOf(`${dir}/q-${to}`);
      want.delete("quantization.json");
      const straight = await madeFolder(dir, `s-${to}`, { to, shardBytes: 30_000 });
      assert.deepEqual(await bytesOf(straight), want);
    }
  });
});

Deno.test("synthCheckpoint() has the config's depth and opens under every dtype", async () => {
  await inFolder(async (dir) => {
    for (const [i, dtype] of (["F32", "F16", "BF16"] as const).entries()) {
      const config: UniMedVLConfig = structuredClone(RELEASED);
      config.language.numHiddenLayers = i + 1;
      const checkpoint = await openCheckpoint(await madeFolder(dir, dtype, { dtype }, config));
      assert.deepEqual([checkpoint.config, checkpoint.notes], [config, []]);
      const dtypes = new Set([...checkpoint.tensors.values()].map((tensor) => tensor.dtype));
      assert.deepEqual(dtypes, new Set([dtype]));
      checkpoint.close();
    }
  });
});

Deno.test("configFiles() are read back as they were, the published model's too", async () => {
  await inFolder(async (dir) => {
    for (const config of [PRESETS["unimedvl-14b"], RELEASED, PRESETS.tiny, SMALL]) {
      for (const name of ["llm_config.json", "vit_config.json"]) {
        await Deno.writeTextFile(`${dir}/${name}`, "{}"); // the own format does not look at them
      }
      const files = configFiles(config);
      for (const [name, text] of files) await Deno.writeTextFile(`${dir}/${name}`, text);
      assert.deepEqual(await readConfig(dir), config);
      assert.equal(files.size, config.latent.kind === "pixels" ? 1 : 3);
    }
    const vit = JSON.parse(configFiles(PRESETS["unimedvl-14b"]).get("vit_config.json")!);
    assert.equal(vit.num_hidden_layers, 27, "one more than is built");
  });
});

Deno.test("synthCheckpoint() copies a tokenizer, and refuses a folder without one", async () => {
  await inFolder(async (dir) => {
    const tokenizer = `${dir}/tokenizer`;
    await Deno.mkdir(tokenizer);
    await Deno.writeTextFile(`${tokenizer}/vocab.json`, "{}");
    await assert.rejects(
      madeFolder(dir, "a", { tokenizer }),
      (e) =>
        e instanceof UsageError &&
        /Cannot take a tokenizer from .*: it has vocab\.json$/.test(e.message),
    );
    await Deno.writeTextFile(`${tokenizer}/merges.txt`, "a b", { mode: 0o444 });
    await Deno.writeTextFile(`${tokenizer}/README.md`, "not a tokenizer's");
    const made = await madeFolder(dir, "a", { tokenizer });
    assert.deepEqual([...Deno.readDirSync(made)].map(({ name }) => name).sort(), [
      "ae.safetensors",
      "config.json",
      "llm_config.json",
      "merges.txt",
      "model.safetensors",
      "vit_config.json",
      "vocab.json",
    ]);
    assert.equal(await Deno.readTextFile(`${made}/merges.txt`), "a b");
  });
});

Deno.test("synthCheckpoint() stopped half way goes on with the same seed only, and needs its space", async () => {
  await inFolder(async (dir) => {
    const stop = new AbortController();
    let seen = 0;
    const options = { seed: 5, drawn: 8191, syncBytes: 1, shardBytes: 20_000 };
    await assert.rejects(
      synthCheckpoint(RELEASED, `${dir}/a`, {
        ...options,
        signal: stop.signal,
        onProgress: () => ++seen === 40 && stop.abort(new Error("stopped here")),
      }),
      /stopped here/,
    );
    await assert.rejects(
      synthCheckpoint(RELEASED, `${dir}/a`, { ...options, seed: 6 }),
      (e) => e instanceof UsageError && /begun from other weights or with other/.test(e.message),
    );
    let resumed = 0;
    await synthCheckpoint(RELEASED, `${dir}/a`, {
      ...options,
      onProgress: (state) => resumed = state.resumed,
    });
    assert.ok(resumed >= 30, `${resumed} tensors were taken over`);
    await synthCheckpoint(RELEASED, `${dir}/b`, options);
    assert.deepEqual(await bytesOf(`${dir}/a`), await bytesOf(`${dir}/b`));
    await assert.rejects(
      synthCheckpoint(PRESETS["unimedvl-14b"], `${dir}/c`, { ...options, freeBytes: () => 1e9 }),
      (e) =>
        e instanceof ResourceError &&
        /needs 29\d{9} more bytes, the disk has 1000000000 free/.test(e.message),
    );
    assert.deepEqual([...Deno.readDirSync(dir)].map(({ name }) => name).sort(), ["a", "b"]);
    const file = await openSafetensors(`${dir}/b/ae.safetensors`);
    assert.equal(file.metadata.get("format"), "pt");
    file.close();
  });
});
