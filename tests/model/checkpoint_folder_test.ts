import assert from "node:assert/strict";
import { sinCosTable } from "../../lib/data/position_tables.ts";
import { openSafetensors, writeSafetensors } from "../../lib/data/safetensors.ts";
import { planSafetensors } from "../../lib/data/safetensors_plan.ts";
import { InputError } from "../../lib/errors.ts";
import { autoencoderShapes } from "../../lib/model/autoencoder_shapes.ts";
import {
  type Checkpoint,
  openCheckpoint,
  surveyCheckpoint,
} from "../../lib/model/checkpoint_folder.ts";
import { summarize } from "../../lib/model/checkpoint_summary.ts";
import { PRESETS, type UniMedVLConfig } from "../../lib/model/config.ts";
import { writeConfig } from "../../lib/model/own_config.ts";
import { readConfig } from "../../lib/model/read_config.ts";
import { configFiles } from "../../lib/model/reference_config.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { nameInReference } from "../../lib/model/weights.ts";
import { editJson, inFolder, madeFolder, RELEASED, rewrite } from "./made_folders.ts";
import { SMALL } from "./small.ts";

const TINY = new URL("../../../shared/fixtures/tiny-a", import.meta.url).pathname;
const present = await Deno.stat(TINY).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/fixtures/tiny-a is absent)";

/** All numbers of a checkpoint, by name. */
async function numbers(checkpoint: Checkpoint): Promise<Map<string, Float32Array>> {
  const all = [...checkpoint.tensors, ...checkpoint.autoencoder ?? []];
  return new Map(
    await Promise.all(
      all.map(async ([name, tensor]) => [name, await checkpoint.readFloat32(tensor)] as const),
    ),
  );
}

/** The numbers and notes of a folder. */
async function readFolder(dir: string) {
  const checkpoint = await openCheckpoint(dir);
  try {
    const { config, notes, surplus, files } = checkpoint;
    return { config, notes, surplus, files, numbers: await numbers(checkpoint) };
  } finally {
    checkpoint.close();
  }
}

/** The message and help of the InputError that opening ends with. */
async function refusal(dir: string, need?: readonly string[]): Promise<string> {
  try {
    (await openCheckpoint(dir, need ? { need } : {})).close();
  } catch (error) {
    assert.ok(error instanceof InputError, String(error));
    return `${error.message} | ${error.help}`;
  }
  throw new Error(`${dir} was opened`);
}

Deno.test("openCheckpoint() reads a released folder: config, every tensor and the autoencoder", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const { config, notes, surplus, files, numbers } = await readFolder(folder);
    assert.deepEqual(config, RELEASED);
    assert.deepEqual([notes, surplus], [[], []]);
    assert.deepEqual(files, ["model.safetensors", "ae.safetensors"]);
    const shapes = [
      ...parameterShapes(RELEASED),
      ...autoencoderShapes(
        RELEASED.latent.kind === "autoencoder" ? RELEASED.latent.autoencoder : assert.fail(),
      ),
    ];
    assert.deepEqual([...numbers.keys()], shapes.map(([name]) => name));
    for (const [name, shape] of shapes) {
      assert.equal(numbers.get(name)!.length, shape.reduce((a, b) => a * b, 1), name);
    }
  });
});

Deno.test(`openCheckpoint() reads the recorded folder of the reference${suffix}`, {
  ignore: !present,
}, async () => {
  const checkpoint = await openCheckpoint(TINY);
  const file = await openSafetensors(`${TINY}/model.safetensors`);
  assert.equal(checkpoint.tensors.size, 111);
  assert.equal(checkpoint.autoencoder?.size, 120);
  for (const [ours, tensor] of checkpoint.tensors) {
    assert.equal(tensor.name, nameInReference(ours));
    assert.deepEqual(await checkpoint.readFloat32(tensor), await file.readFloat32(tensor.name));
  }
  file.close();
  checkpoint.close();
});

Deno.test("openCheckpoint() takes every file name of releases, in the reference's order", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const want = (await readFolder(folder)).numbers;
    let last = "model";
    for (const stem of ["model_final", "model", "model_bf16", "ema", "ema_bf16"]) {
      if (stem !== last) {
        await Deno.rename(`${folder}/${last}.safetensors`, `${folder}/${stem}.safetensors`);
      }
      last = stem;
      const { files, numbers, notes } = await readFolder(folder);
      assert.deepEqual(files, [`${stem}.safetensors`, "ae.safetensors"]);
      assert.deepEqual(numbers, want);
      assert.deepEqual(notes, []);
    }
    await Deno.copyFile(`${folder}/ema_bf16.safetensors`, `${folder}/ema.safetensors`);
    const { files, notes } = await readFolder(folder);
    assert.equal(files[0], "ema_bf16.safetensors");
    assert.deepEqual(notes, ["not used: ema.safetensors; ema_bf16.safetensors came first"]);
  });
});

Deno.test("openCheckpoint() reads shards with and without their index", async () => {
  await inFolder(async (dir) => {
    const want = (await readFolder(await madeFolder(dir, "one"))).numbers;
    const folder = await madeFolder(dir, "many", { shardBytes: 30_000 });
    const shards = [...Deno.readDirSync(folder)].filter(({ name }) => /-of-/.test(name)).length;
    assert.ok(shards > 3, `${shards} shards`);
    const index = `${folder}/model.safetensors.index.json`;
    const { files, numbers } = await readFolder(folder);
    assert.equal(files.length, shards + 1);
    assert.deepEqual(numbers, want);
    await Deno.rename(index, `${folder}/ema.safetensors.index.json`);
    assert.deepEqual((await readFolder(folder)).numbers, want);
    await Deno.remove(`${folder}/ema.safetensors.index.json`);
    assert.deepEqual((await readFolder(folder)).numbers, want);
    await Deno.remove(`${folder}/model-00002-of-0000${shards}.safetensors`);
    assert.match(
      await refusal(folder),
      /Cannot open .*many: model-00002-of-0000\d\.safetensors of \d shards is missing/,
    );
  });
});

Deno.test("openCheckpoint() refuses an index that points outside, lacks a shard or contradicts one", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { shardBytes: 60_000 });
    const index = `${folder}/model.safetensors.index.json`;
    const good = await Deno.readTextFile(index);
    const said = async (edit: (map: Record<string, unknown>) => void) => {
      const json = JSON.parse(good);
      edit(json.weight_map);
      await Deno.writeTextFile(index, JSON.stringify(json));
      return await refusal(folder);
    };
    const [first, second] = [1, 2].map((n) => {
      const name = Object.values<string>(JSON.parse(good).weight_map).find((f) =>
        f.includes(`0000${n}-of`)
      );
      return name ?? assert.fail();
    });
    const head = "language_model.lm_head.weight";
    for (
      const path of [
        "../x.safetensors",
        "/tmp/x.safetensors",
        "a/x.safetensors",
        "a\\x.safetensors",
        "..safetensors",
        "x\0.safetensors",
        "x.bin",
        7,
        null,
      ]
    ) {
      assert.match(
        await said((map) => map[head] = path),
        /Cannot read index .*: the file of language_model\.lm_head\.weight is .*, not a name of/,
      );
    }
    assert.match(
      await said((map) => map[head] = "model-00009-of-00009.safetensors"),
      /index\.json names model-00009-of-00009\.safetensors, not there/,
    );
    assert.match(
      await said((map) => map[head] = second),
      new RegExp(`the index has ${head} in ${second}, it is in ${first}`),
    );
    assert.match(
      await said((map) => map["no.such.weight"] = first),
      new RegExp(`${first} lacks no\\.such\\.weight, which the index has there`),
    );
    // What the index does not name is not read, so it is missing.
    assert.match(
      await said((map) => delete map[head]),
      /1 tensor is missing: language_model\.lm_head\.weight \(24, 32\) \|/,
    );
    const texts = [
      [good.replace(/("[^"]+": "[^"]+"),/, "$1,$1,"), /repeated key/],
      ["{", /Cannot read index .*: expected/],
      ["[]", /weight_map is no object with tensors/],
      ['{"weight_map": {}}', /weight_map is no object with tensors/],
    ] as const;
    for (const [text, message] of texts) {
      await Deno.writeTextFile(index, text);
      assert.match(await refusal(folder), message);
    }
    // The same tensor in two shards: the index can name only one of them.
    await Deno.writeTextFile(index, good);
    const shared = { dtype: "F32", shape: [1], data: new Float32Array(1) } as const;
    await rewrite(`${folder}/${second}`, (tensors) => void tensors.set(head, shared));
    assert.match(
      await refusal(folder),
      new RegExp(`a tensor is there twice, ${head} in ${first} and ${head} in ${second}`),
    );
  });
});

Deno.test("openCheckpoint() refuses a folder without weights, with pickles or with a choice", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    await Deno.rename(`${folder}/model.safetensors`, `${dir}/kept`);
    assert.match(await refusal(folder), /it holds no weights \| weights are ema_bf16, ema,/);
    await Deno.writeTextFile(`${folder}/pytorch_model.bin`, "\x80\x02");
    await Deno.writeTextFile(`${folder}/ema.pt`, "\x80\x02");
    assert.match(
      await refusal(folder),
      /its weights are ema\.pt, pytorch_model\.bin \| such files can run code .* never opened here/,
    );
    await Deno.copyFile(`${dir}/kept`, `${folder}/model_a.safetensors`);
    await Deno.copyFile(`${dir}/kept`, `${folder}/model_b.safetensors`);
    assert.match(await refusal(folder), /model_a\.safetensors, model_b\.safetensors could each be/);
    await Deno.remove(`${folder}/model_a.safetensors`);
    await Deno.remove(`${folder}/model_b.safetensors`);
    await Deno.writeTextFile(`${folder}/a.safetensors.index.json`, "{}");
    await Deno.writeTextFile(`${folder}/b.safetensors.index.json`, "{}");
    assert.match(await refusal(folder), /it has 2 indexes: a\.safe.*,b\.safe/);
    assert.match(await refusal(`${dir}/none`), /Cannot read .*none\/llm_config\.json/);
    await Deno.mkdir(`${dir}/c`);
    await writeConfig(`${dir}/c`, SMALL);
    assert.match(await refusal(`${dir}/c`), /it holds no weights/);
    await Deno.writeTextFile(`${dir}/c/model.safetensors`, "");
    assert.match(await refusal(`${dir}/c`), /Cannot read safetensors file .*: it has 0 bytes/);
  });
});

Deno.test("openCheckpoint() drops module., and takes vae_model.* before ae.safetensors", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const want = (await readFolder(folder)).numbers;
    const vae = await openSafetensors(`${folder}/ae.safetensors`);
    const own = new Map(
      await Promise.all(
        [...vae.tensors].map(async ([name, { shape }]) =>
          [name, {
            dtype: "F32" as const,
            shape,
            data: (await vae.readFloat32(name)).map((v) => -v),
          }] as const
        ),
      ),
    );
    vae.close();
    await rewrite(`${folder}/ae.safetensors`, (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name);
        tensors.set(`module.${name}`, tensor);
      }
    });
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name);
        tensors.set(`module.${name}`, tensor);
      }
    });
    assert.deepEqual((await readFolder(folder)).numbers, want);
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      for (const [name, tensor] of own) tensors.set(`module.vae_model.${name}`, tensor);
    });
    const { numbers, files, surplus } = await readFolder(folder);
    assert.deepEqual(files, ["model.safetensors"]);
    assert.deepEqual(surplus, []);
    for (const [name, { data }] of own) assert.deepEqual(numbers.get(name), data, name);
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      tensors.set("llm2vae.bias", tensors.get("module.llm2vae.bias")!);
    });
    assert.match(await refusal(folder), /there twice, .*llm2vae\.bias in model\.safetensors and/);
  });
});

Deno.test("openCheckpoint() takes depths and table sizes from the file and says so", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    await editJson(`${folder}/llm_config.json`, (json) => {
      json.num_hidden_layers = 32;
      json.vocab_size = 99;
    });
    await editJson(`${folder}/vit_config.json`, (json) => {
      json.num_hidden_layers = 2;
      json.image_size = 980;
    });
    await editJson(`${folder}/config.json`, (json) => {
      json.max_latent_size = 32;
      json.vit_max_num_patch_per_side = 70;
    });
    const { config, notes } = await readFolder(folder);
    assert.deepEqual(config, RELEASED);
    assert.deepEqual(notes.map((note) => note.replace("; the file's is used", "")), [
      "decoder layers: 32 by the config, 2 in the file",
      "image encoder layers: 1 by the config, 2 in the file",
      "entries of the token table: 99 by the config, 24 in the file",
      "side of the learned position table, in patches: 122 by the config, 4 in the file",
      "side of the ViT position table, in patches (vit_max_num_patch_per_side): 70 by the config, 4 in the file",
      "side of the latent position table, in tokens (max_latent_size): 32 by the config, 8 in the file",
    ]);
  });
});

Deno.test("openCheckpoint() computes position tables that the file lacks", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      tensors.delete("vit_pos_embed.pos_embed");
      tensors.delete("latent_pos_embed.pos_embed");
    });
    const checkpoint = await openCheckpoint(folder);
    for (const [name, side] of [["connector.position", 4], ["latent.position", 8]] as const) {
      const tensor = checkpoint.tensors.get(name)!;
      const want = sinCosTable(side, 32);
      assert.deepEqual(tensor.shape, [side ** 2, 32]);
      assert.deepEqual(await checkpoint.readFloat32(tensor), want);
      const bytes = new Uint8Array(want.buffer);
      assert.deepEqual(await checkpoint.readBytes(tensor), bytes);
      assert.deepEqual(
        await checkpoint.readBytes(tensor, 128, 256, new Uint8Array(128)),
        bytes.slice(128, 256),
      );
      await assert.rejects(checkpoint.readBytes(tensor, 0, tensor.bytes + 1), RangeError);
    }
    checkpoint.close();
    await editJson(`${folder}/config.json`, (json) => json.max_latent_size = 1e6);
    assert.match(await refusal(folder), /latent_pos_embed\.pos_embed is missing and .* 1000000 is/);
  });
});

Deno.test("openCheckpoint() lists what is missing, of another shape or no float, and what is surplus", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const path = `${folder}/model.safetensors`;
    const float = (shape: number[]) => ({
      dtype: "F32" as const,
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
    });
    await rewrite(path, (tensors) => {
      tensors.set("extra.weight", { dtype: "I32", shape: [2], data: new Int32Array(2) });
      tensors.set("language_model.model.layers.0.self_attn.o_proj.bias", float([32]));
    });
    assert.deepEqual((await readFolder(folder)).surplus, [
      "extra.weight",
      "language_model.model.layers.0.self_attn.o_proj.bias",
    ]);
    await rewrite(path, (tensors) => {
      tensors.delete("extra.weight");
      tensors.delete("connector.fc1.bias");
      tensors.set("connector.fc2.weight", float([32, 31]));
      tensors.set("llm2vae.bias", { dtype: "I32", shape: [16], data: new Int32Array(16) });
      tensors.set("llm2vae.weight", { dtype: "U8", shape: [16, 32], data: new Uint8Array(512) });
      tensors.set("language_model.lm_head.weight", float([25, 32]));
    });
    assert.equal(
      await refusal(folder),
      `Cannot open checkpoint ${folder}: 1 tensor is missing: connector.fc1.bias (32). ` +
        "2 tensors have other shapes: language_model.lm_head.weight is (24, 32) by the config, " +
        "(25, 32) in the file; connector.fc2.weight is (32, 32) by the config, (32, 31) in the file. " +
        "2 tensors are no floats: llm2vae.weight is U8, no float that is read; " +
        "llm2vae.bias is I32, no float that is read | " +
        `\`deno task checkpoint verify ${folder}\` lists everything that differs`,
    );
    await rewrite(path, (tensors) => {
      for (const name of [...tensors.keys()]) if (name.includes("_moe_gen")) tensors.delete(name);
      tensors.delete("llm2vae.bias");
    });
    assert.match(
      await refusal(folder),
      /31 tensors are missing: .*q_proj_moe_gen\.weight \(32, 32\).*; and 19 more\. /,
    );
    const { checkpoint, differences } = await surveyCheckpoint(folder);
    assert.equal(differences.missing.length, 31);
    assert.equal(checkpoint.tensors.has("connector.fc2.weight"), false);
    checkpoint.close();
  });
});

Deno.test("openCheckpoint() refuses layers that leave gaps or have impossible numbers", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    const path = `${folder}/model.safetensors`;
    const norm = "vit_model.vision_model.encoder.layers.1.layer_norm1.bias";
    await rewrite(path, (tensors) => {
      tensors.set(norm.replace("1", "3"), tensors.get(norm)!);
    });
    assert.match(
      await refusal(folder),
      /31 tensors are missing: .*layers\.2\./,
    );
    await rewrite(path, (tensors) => {
      tensors.delete(norm.replace("1", "3"));
      tensors.set(norm.replace("1", "999999999"), tensors.get(norm)!);
    });
    assert.match(
      await refusal(folder),
      /layers\.999999999\..* is of layer 999999999, and the file/,
    );
  });
});

Deno.test("openCheckpoint() with need asks for these parts only and leaves the autoencoder closed", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a");
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      for (const name of [...tensors.keys()]) if (name.includes("_moe_gen")) tensors.delete(name);
    });
    await Deno.writeTextFile(`${folder}/ae.safetensors`, "damaged");
    const need = ["text", "und", "vit", "connector"];
    const checkpoint = await openCheckpoint(folder, { need });
    assert.equal(checkpoint.autoencoder, undefined);
    assert.equal(checkpoint.tensors.has("gen.norm.weight"), false);
    assert.equal(checkpoint.tensors.has("und.layers.1.mlp.down.weight"), true);
    checkpoint.close();
    assert.match(
      await refusal(folder, [...need, "gen.norm"]),
      /1 tensor is missing: .*norm_moe_gen/,
    );
    assert.match(
      await refusal(folder, [...need, "vae"]),
      /ae\.safetensors: its header|ae\.safetensors/,
    );
    await Deno.remove(`${folder}/ae.safetensors`);
    assert.match(
      await refusal(folder, [...need, "vae"]),
      /\d+ tensors are missing: vae_model\.encoder\.conv_in\.weight \(32, 3, 3, 3\);/,
    );
    await assert.rejects(openCheckpoint(folder, { need: ["language"] }), TypeError);
  });
});

Deno.test("Checkpoint reads bf16, f16, f32 and packed tensors of one file, whole and by range", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { dtype: "F32" });
    const before = (await readFolder(folder)).numbers;
    await rewrite(`${folder}/model.safetensors`, (tensors) => {
      for (const [name, tensor] of tensors) {
        if (tensor.dtype !== "F32") continue;
        if (name.startsWith("vit_model")) tensor.dtype = "F16" as "F32";
        if (name.startsWith("language_model")) tensor.dtype = "BF16" as "F32";
      }
    });
    const checkpoint = await openCheckpoint(folder);
    const dtypes = new Set([...checkpoint.tensors.values()].map(({ dtype }) => dtype));
    assert.deepEqual(dtypes, new Set(["BF16", "F16", "F32"]));
    for (const [name, values] of await numbers(checkpoint)) {
      const want = before.get(name)!;
      values.forEach((v, i) => assert.ok(Math.abs(v - want[i]) <= Math.abs(want[i]) / 256, name));
    }
    const tensor = checkpoint.tensors.get("und.layers.1.mlp.up.weight")!;
    const whole = await checkpoint.readBytes(tensor);
    assert.equal(whole.length, tensor.bytes);
    const rows = await Promise.all(
      Array.from({ length: 40 }, (_, row) => checkpoint.readBytes(tensor, 64 * row, 64 * row + 64)),
    );
    rows.forEach((row, i) => assert.deepEqual(row, whole.slice(64 * i, 64 * i + 64)));
    checkpoint.close();
  });
});

Deno.test("openCheckpoint() refuses packed tensors whose description is not that of their bytes", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { to: "int4" });
    const path = `${folder}/model.safetensors`;
    const name = "connector.fc1.weight";
    const opened = await openCheckpoint(folder);
    const tensor = opened.tensors.get(name)!;
    assert.deepEqual([tensor.dtype, tensor.shape, tensor.bytes], ["int4", [32, 24], 32 * 48]);
    opened.close();
    await Deno.copyFile(path, `${dir}/good`);
    const said = async (value: string | undefined, key = `packed.${name}`) => {
      const file = await openSafetensors(`${dir}/good`);
      const metadata = Object.fromEntries(file.metadata);
      file.close();
      if (value === undefined) delete metadata[key];
      else metadata[key] = value;
      await rewrite(`${dir}/good`, () => metadata, path);
      return await refusal(folder);
    };
    assert.match(await said("int5 32x24 group64 bf16"), /fc1\.weight has format int5, group 64/);
    assert.match(await said("int4 32x24 group32 bf16"), /has format int4, group 32, scales bf16/);
    assert.match(
      await said("int4 32x24 group64 f16"),
      /scales f16 \| int8 and int4 in groups of 64/,
    );
    assert.match(await said("int4 32x024 group64 bf16"), /is described as "int4 32x024/);
    assert.match(
      await said("int4 32 24"),
      /is described as "int4 32 24" \| such as int4 18944x3584/,
    );
    assert.match(await said("int8 32x24 group64 bf16"), /is U8 \(32, 48\), not U8 \(32, 80\)/);
    assert.match(await said("int4 31x24 group64 bf16"), /is U8 \(32, 48\), not U8 \(31, 48\)/);
    assert.match(
      await said("int4 32x25 group64 bf16"),
      /connector\.fc1\.weight is \(32, 24\) by the/,
    );
    assert.match(await said(undefined), /connector\.fc1\.weight is U8, no float that is read/);
    assert.match(
      await said("int4 1x1 group64 bf16", "packed.nothing"),
      /nothing is not in the file/,
    );
    assert.match(
      await said("int4 32x1 group64 bf16", "packed.connector.fc1.bias"),
      /fc1\.bias is BF16 \(32\), not U8/,
    );
  });
});

Deno.test("writeConfig() and readConfig() keep any config, and refuse fields that are wrong by name", async () => {
  await inFolder(async (dir) => {
    for (const config of [PRESETS.tiny, PRESETS["unimedvl-14b"], SMALL, RELEASED]) {
      await writeConfig(dir, config);
      assert.deepEqual(await readConfig(dir), config);
    }
    const said = async (
      edit: (config: Record<string, Record<string, unknown>>) => void,
      of: UniMedVLConfig = SMALL,
    ) => {
      await writeConfig(dir, of);
      await editJson(
        `${dir}/config.json`,
        (json) => edit(json as typeof json & Record<string, never>),
      );
      const error = await readConfig(dir).then(() => assert.fail("it was read"), (e) => e);
      assert.ok(error instanceof InputError, String(error));
      return `${error.message.replace(`Cannot read ${dir}/config.json: `, "")} | ${error.help}`;
    };
    // deno-lint-ignore no-explicit-any -- a JSON record to spoil
    const part = (json: any, name: string) => json.config[name];
    assert.equal(
      await said((json) => part(json, "language").hidenSize = 3),
      "unknown field config.language.hidenSize | the nearest name is config.language.hiddenSize",
    );
    assert.match(
      await said((json) => part(json, "latent").zzz = 3),
      /^unknown field config\.latent\.zzz \| the fields are patchSize, colorSide, scale, colorScale$/,
    );
    assert.match(
      await said((json) => json.config.language = 3 as never),
      /^config\.language is 3 \| config\.language must be an object$/,
    );
    assert.match(
      await said((json) => delete part(json, "vision").patchSize),
      /^config\.vision\.patchSize is missing \| /,
    );
    assert.match(
      await said((json) => part(json, "vision").patchSize = "8"),
      /^config\.vision\.patchSize is "8" \| .* must be a number$/,
    );
    assert.match(
      await said((json) => part(json, "latent").kind = "wavelet"),
      /^config\.latent\.kind is "wavelet" \| it must be "autoencoder" or "pixels"$/,
    );
    assert.match(
      await said((json) => part(json, "latent").autoencoder.chMult = [1, "2"], RELEASED),
      /^config\.latent\.autoencoder\.chMult is \[1,"2"\] \| .* a list of numbers$/,
    );
    assert.match(await said((json) => json.extra = {}), /^unknown field extra \| /);
    assert.match(
      await said((json) => part(json, "language").hiddenSize = 30),
      /hiddenSize 30 is no multiple of 4/,
    );
  });
});

Deno.test("openCheckpoint() opens a folder of the tiny model, pixels as latents", async () => {
  await inFolder(async (dir) => {
    const folder = await madeFolder(dir, "a", { dtype: "F32" }, PRESETS.tiny);
    const { config, files, numbers } = await readFolder(folder);
    assert.deepEqual(config, PRESETS.tiny);
    assert.deepEqual(files, ["model.safetensors"]);
    assert.equal(numbers.size, parameterShapes(PRESETS.tiny).size);
  });
});

Deno.test("the published model's folder opens by its headers: 1223 tensors, 14,607,260,128 parameters", async () => {
  const config = PRESETS["unimedvl-14b"];
  await inFolder(async (dir) => {
    for (const [name, text] of configFiles(config)) {
      await Deno.writeTextFile(`${dir}/${name}`, text);
    }
    assert.deepEqual(await readConfig(dir), config);
    const sparse = async (file: string, tensors: [string, number[]][], dtype: "BF16" | "F32") => {
      const planned = tensors.map(([name, shape]) => ({ name, shape, dtype }));
      const { header, offsets } = planSafetensors(planned);
      await Deno.writeFile(`${dir}/${file}`, header);
      await Deno.truncate(`${dir}/${file}`, offsets.at(-1)!); // no data on the disk
    };
    const shapes = [...parameterShapes(config)];
    const named = shapes.map(([name, shape]): [string, number[]] => [nameInReference(name), shape]);
    await sparse("ema.safetensors", named, "BF16");
    const { latent } = config;
    const vae = autoencoderShapes(
      latent.kind === "autoencoder" ? latent.autoencoder : assert.fail(),
    );
    await sparse("ae.safetensors", [...vae], "F32");
    const checkpoint = await openCheckpoint(dir);
    const parts = summarize(checkpoint);
    assert.deepEqual(
      Object.fromEntries(parts.map(({ part, parameters }) => [part, parameters])),
      {
        "text.embed": 544_997_376,
        "text.head": 544_997_376,
        und: 6_525_628_928,
        gen: 6_525_628_928,
        vit: 402_552_736,
        connector: 16_980_992 + 17_561_600,
        latent: 13_769_728 + 232_960 + 229_440 + 14_680_064,
        vae: 83_819_683,
      },
    );
    const model = parts.filter(({ part }) => part !== "vae");
    const sum = (of: (part: typeof model[0]) => number) => model.reduce((n, p) => n + of(p), 0);
    assert.equal(sum((p) => p.tensors), 1223);
    assert.equal(sum((p) => p.parameters), 14_607_260_128);
    assert.equal(sum((p) => p.bytes), 29_214_520_256);
    const last = checkpoint.tensors.get("latent.position")!;
    assert.deepEqual(await checkpoint.readBytes(last, 0, 4), new Uint8Array(4));
    checkpoint.close();
  });
});

Deno.test("Safetensors that were replaced while in use are not mixed", async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    const data = Float32Array.of(1, 2);
    await writeSafetensors(path, [["a", { dtype: "F32", shape: [2], data }]]);
    const file = await openSafetensors(path);
    await writeSafetensors(path, [["a", { dtype: "F32", shape: [2], data: data.map((v) => -v) }]]);
    const reads = await Promise.allSettled([1, 2, 3].map(() => file.readFloat32("a")));
    for (const read of reads) {
      if (read.status === "fulfilled") assert.deepEqual(read.value, data);
      else assert.match(read.reason.message, /Cannot read .*: it changed while it was in use/);
    }
    assert.ok(reads.some(({ status }) => status === "rejected"));
    file.close();
  });
});
