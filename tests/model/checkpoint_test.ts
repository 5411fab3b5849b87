import assert from "node:assert/strict";
import {
  openSafetensors,
  type TensorToWrite,
  writeSafetensors,
} from "../../lib/data/safetensors.ts";
import { InputError, ResourceError } from "../../lib/errors.ts";
import { loadModel, saveModel, warmStart } from "../../lib/model/checkpoint.ts";
import { initModel } from "../../lib/model/init.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import type { UniMedVLConfig } from "../../lib/model/config.ts";
import { nameInReference } from "../../lib/model/weights.ts";
import { Tensor } from "../../lib/tensor.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { differing, SMALL, smallModel, weightsOf } from "./small.ts";

async function inFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "checkpoint-" });
  try {
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Rewrites a file with its tensors changed. */
async function rewrite(
  from: string,
  to: string,
  change: (tensors: Map<string, TensorToWrite>) => void,
): Promise<void> {
  const file = await openSafetensors(from);
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, { shape }] of file.tensors) {
    tensors.set(name, { dtype: "F32", shape, data: await file.readFloat32(name) });
  }
  file.close();
  change(tensors);
  await writeSafetensors(to, tensors);
}

/** The message of the InputError that loading ends with. */
async function refusal(config: UniMedVLConfig, path: string): Promise<string> {
  const gpu = await testGpu();
  const live = gpu.buffers.liveCount;
  try {
    await loadModel(gpu, config, path);
  } catch (error) {
    assert.ok(error instanceof InputError, String(error));
    assert.equal(gpu.buffers.liveCount, live, "nothing stays on the device");
    return error.message;
  }
  throw new Error("the file was loaded");
}

const changed = (change: (config: UniMedVLConfig) => void): UniMedVLConfig => {
  const config = structuredClone(SMALL);
  change(config);
  return config;
};

Deno.test("saveModel() and loadModel() keep every bit of f32 weights", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu, 3);
  await inFolder(async (dir) => {
    await saveModel(model, `${dir}/a.safetensors`, { metadata: { made: "here" } });
    const { model: loaded, surplus } = await loadModel(gpu, SMALL, `${dir}/a.safetensors`);
    assert.deepEqual(surplus, []);
    assert.deepEqual(differing(await weightsOf(loaded), await weightsOf(model)), []);
    const frozen = [...loaded.parameters.entries()].filter(([, t]) => !t.requiresGrad);
    assert.deepEqual(frozen.map(([name]) => name), ["connector.position", "latent.position"]);
    const file = await openSafetensors(`${dir}/a.safetensors`);
    assert.equal(file.metadata.get("made"), "here");
    assert.equal(file.tensors.size, parameterShapes(SMALL).size);
    file.close();
    loaded.dispose();
  });
  model.dispose();
});

Deno.test("saveModel() rounds to the nearest half with dtype F16", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu, 3);
  const want = new Map(
    [...await weightsOf(model)].map(([name, v]) => [name, Float32Array.from(Float16Array.from(v))]),
  );
  await inFolder(async (dir) => {
    await saveModel(model, `${dir}/a.safetensors`, { dtype: "F16" });
    const { model: loaded } = await loadModel(gpu, SMALL, `${dir}/a.safetensors`);
    assert.deepEqual(differing(await weightsOf(loaded), want), []);
    loaded.dispose();
  });
  model.dispose();
});

Deno.test("saveModel() writes other tensors in place of weights", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu, 3);
  const bias = Tensor.from(gpu, new Float32Array(32).fill(7), [32]).keep();
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    await saveModel(model, path, { tensors: new Map([["connector.fc1.bias", bias]]) });
    const { model: loaded } = await loadModel(gpu, SMALL, path);
    assert.deepEqual(differing(await weightsOf(loaded), await weightsOf(model)), [
      "connector.fc1.bias",
    ]);
    assert.deepEqual(
      await loaded.parameters.get("connector.fc1.bias").floats(),
      await bias.floats(),
    );
    loaded.dispose();
  });
  bias.dispose();
  model.dispose();
});

Deno.test(
  "loadModel() takes a module. prefix and lists what is not the model's",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const model = smallModel(gpu, 3);
    await inFolder(async (dir) => {
      await saveModel(model, `${dir}/a.safetensors`);
      const extra = { dtype: "F32", shape: [1], data: new Float32Array(1) } as const;
      await rewrite(`${dir}/a.safetensors`, `${dir}/b.safetensors`, (tensors) => {
        const old = [...tensors];
        tensors.clear();
        for (const [name, tensor] of old) tensors.set(`module.${name}`, tensor);
        tensors.set("vae_model.encoder.conv_in.bias", extra);
        tensors.set("language_model.model.layers.0.self_attn.o_proj.bias", extra);
      });
      const { model: loaded, surplus } = await loadModel(gpu, SMALL, `${dir}/b.safetensors`);
      assert.deepEqual(surplus.sort(), [
        "language_model.model.layers.0.self_attn.o_proj.bias",
        "vae_model.encoder.conv_in.bias",
      ]);
      assert.deepEqual(differing(await weightsOf(loaded), await weightsOf(model)), []);
      loaded.dispose();
    });
    model.dispose();
  },
);

Deno.test(
  "loadModel() lists tensors of another shape and missing ones by name",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu(), 3);
    await inFolder(async (dir) => {
      const [good, bad] = [`${dir}/good.safetensors`, `${dir}/bad.safetensors`];
      await saveModel(model, good);
      await rewrite(good, bad, (tensors) => {
        tensors.set("connector.fc1.bias", { dtype: "F32", shape: [2], data: new Float32Array(2) });
        tensors.delete("llm2vae.weight");
      });
      assert.equal(
        await refusal(SMALL, bad),
        `Cannot load weights from ${bad}: connector.fc1.bias is (32) by the config, (2) in the file; ` +
          "llm2vae.weight is missing",
      );
      await rewrite(good, bad, (tensors) => {
        for (const name of [...tensors.keys()]) {
          if (name.includes("_moe_gen")) tensors.delete(name);
        }
      });
      assert.match(await refusal(SMALL, bad), /q_proj_moe_gen\.bias is missing;.*; and \d+ more$/);
      await rewrite(good, bad, (tensors) => {
        tensors.set("llm2vae.bias", { dtype: "I32", shape: [18], data: new Int32Array(18) });
      });
      assert.match(await refusal(SMALL, bad), /: llm2vae\.bias is I32, no float$/);
    });
    model.dispose();
  },
);

Deno.test("loadModel() refuses a file of another depth or table", GPU_TEST, async () => {
  const model = smallModel(await testGpu(), 3);
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    await saveModel(model, path);
    const said = async (change: (config: UniMedVLConfig) => void) =>
      (await refusal(changed(change), path)).replace(`Cannot load weights from ${path}: `, "");
    assert.equal(
      await said((c) => c.language.numHiddenLayers = 1),
      "the decoder has 1 layers by the config, 2 in the file",
    );
    assert.equal(
      await said((c) => c.vision.numHiddenLayers = 1),
      "the image encoder has 1 layers by the config, 2 in the file",
    );
    assert.match(
      await said((c) => c.vision.numHiddenLayers = 3),
      /^vit_model\.vision_model\.encoder\.layers\.2\.layer_norm1\.weight is missing; /,
    );
    assert.equal(
      await said((c) => c.maxLatentSize = 16),
      "latent_pos_embed.pos_embed is (256, 32) by the config, (64, 32) in the file",
    );
    assert.equal(
      await said((c) => c.language.vocabSize = 30),
      "language_model.model.embed_tokens.weight is (30, 32) by the config, (24, 32) in the file; " +
        "language_model.lm_head.weight is (30, 32) by the config, (24, 32) in the file",
    );
    assert.equal(
      await said((c) => c.vision.imageSize = 40),
      "vit_model.vision_model.embeddings.position_embedding.weight is (25, 24) by the config, " +
        "(16, 24) in the file",
    );
  });
  model.dispose();
});

Deno.test("loadModel() refuses a file that is cut short, empty or absent", GPU_TEST, async () => {
  const model = smallModel(await testGpu(), 3);
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    await saveModel(model, path);
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(path, bytes.subarray(0, bytes.length - 100));
    assert.match(await refusal(SMALL, path), new RegExp(`Cannot read safetensors file ${path}: `));
    await Deno.writeFile(path, bytes.subarray(0, 40));
    assert.match(await refusal(SMALL, path), /its header claims \d+ bytes, but only 32 follow$/);
    await Deno.writeFile(path, new Uint8Array());
    assert.match(await refusal(SMALL, path), /it has 0 bytes/);
    assert.match(await refusal(SMALL, `${dir}/none`), /Cannot open .*none: No such file/);
  });
  model.dispose();
});

Deno.test("saveModel() leaves the old file whole when writing fails", GPU_TEST, async () => {
  const model = smallModel(await testGpu(), 3);
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    await saveModel(model, path);
    const before = await Deno.readFile(path);
    const list = async () => (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name);
    // A shape that cannot be written is found before the first byte of data.
    const wrong = Tensor.from(model.gpu, new Float32Array(3), [3]).keep();
    await assert.rejects(
      saveModel(model, path, { tensors: new Map([["connector.fc1.bias", wrong]]) }),
      { name: "TypeError", message: /Cannot write connector\.fc1\.bias: \(32\) holds 32 elements/ },
    );
    wrong.dispose();
    assert.deepEqual(await Deno.readFile(path), before);
    assert.deepEqual(await list(), ["a.safetensors"]);
    // The rename fails: a folder with something in it stands in the way.
    const taken = `${dir}/taken`;
    await Deno.mkdir(`${taken}/inside`, { recursive: true });
    await assert.rejects(saveModel(model, taken), ResourceError);
    assert.deepEqual((await list()).sort(), ["a.safetensors", "taken"]);
    await assert.rejects(
      saveModel(model, `${dir}/no/folder/a.safetensors`),
      (e) => e instanceof ResourceError && /Cannot write .*no\/folder/.test(e.message),
    );
  });
  model.dispose();
});

Deno.test("warmStart() takes all but token tables of another size", GPU_TEST, async () => {
  const gpu = await testGpu();
  const source = smallModel(gpu, 3);
  await inFolder(async (dir) => {
    const path = `${dir}/a.safetensors`;
    await saveModel(source, path, { frozen: false });
    const want = await weightsOf(source);

    const larger = initModel(gpu, changed((c) => c.language.vocabSize = 40), 9);
    const before = await weightsOf(larger);
    const { taken, left } = await warmStart(larger, path);
    assert.deepEqual(left.sort(), [
      "connector.position",
      "latent.position",
      "text.embed.weight",
      "text.head.weight",
    ]);
    assert.equal(taken.length + left.length, parameterShapes(SMALL).size);
    const after = await weightsOf(larger);
    for (const name of taken) assert.deepEqual(after.get(name), want.get(name), name);
    for (const name of left) assert.deepEqual(after.get(name), before.get(name), name);
    larger.dispose();

    const equal = initModel(gpu, SMALL, 9);
    assert.deepEqual((await warmStart(equal, path)).left, [
      "connector.position",
      "latent.position",
    ]);
    assert.deepEqual(differing(await weightsOf(equal), want), []);
    equal.dispose();

    const wider = initModel(gpu, changed((c) => c.vision.intermediateSize = 44), 9);
    const untouched = await weightsOf(wider);
    await assert.rejects(
      warmStart(wider, path),
      (e) =>
        e instanceof InputError &&
        e.message.includes(`${nameInReference("vit.layers.0.mlp.fc1.weight")} is (44, 24) by the`),
    );
    assert.deepEqual(differing(await weightsOf(wider), untouched), [], "all or nothing");
    wider.dispose();

    const shallow = initModel(gpu, changed((c) => c.language.numHiddenLayers = 1), 9);
    await assert.rejects(warmStart(shallow, path), /the decoder has 1 layers by the config, 2 in/);
    shallow.dispose();
  });
  source.dispose();
});
