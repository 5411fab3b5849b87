import assert from "node:assert/strict";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import { openCheckpoint } from "../../lib/model/checkpoint_folder.ts";
import { uploadTensor } from "../../lib/model/device_weights.ts";
import { attachLora } from "../../lib/model/lora.ts";
import {
  checkpointDigest,
  loadLora,
  modelDigest,
  readLora,
  saveLora,
} from "../../lib/model/lora_file.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { UniMedVL } from "../../lib/model/unimedvl.ts";
import { Parameters as Weights } from "../../lib/nn/parameters.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { modelFolder } from "../infer/model_folder.ts";
import { drawAdapters, lossesAndGradients } from "./lora_models.ts";
import { inFolder, rewrite } from "./made_folders.ts";
import { differing, SMALL, smallModel, weightsOf } from "./small.ts";

const SPEC = { rank: 3, alpha: 6, targets: ["und.layers.*.attn", "vit.layers.1.mlp.fc2"] };

async function adapted(seed = 1) {
  const model = smallModel(await testGpu(), seed);
  attachLora(model, SPEC);
  drawAdapters(model);
  return model;
}

Deno.test("saveLora() and loadLora() keep every bit, rank, α and patterns", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/adapter.safetensors`;
    const model = await adapted();
    await saveLora(model, path, { trainedOn: "notes" });
    const file = await openSafetensors(path);
    assert.equal(file.metadata.get("trainedOn"), "notes");
    assert.equal(file.tensors.size, 2 * 9, "nothing but adapters is in the file");
    file.close();
    const other = smallModel(model.gpu);
    const info = await loadLora(other, path);
    assert.deepEqual({ rank: info.rank, alpha: info.alpha, targets: info.targets }, SPEC);
    assert.equal(info.parameters, model.lora!.parameters);
    assert.deepEqual(differing(await weightsOf(other), await weightsOf(model)), []);
    const [got, want] = [await lossesAndGradients(other), await lossesAndGradients(model)];
    assert.deepEqual(differing(got, want), [], "it trains on as it would have");
    await assert.rejects(loadLora(other, path), {
      name: "UsageError",
      message: /has adapters already/,
    });
    for (const m of [model, other]) m.dispose();
  });
});

Deno.test(
  "the digest of a folder is that of its weights on the device, and tells weights apart",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    const { layers } = (await adapted()).lora!;
    const digests: string[] = [];
    try {
      for (const to of ["int4", "int8"] as const) {
        await quantizeCheckpoint(dir, `${dir}/${to}`, {
          to,
        });
      }
      for (const folder of [dir, `${dir}/int4`, `${dir}/int8`]) {
        const checkpoint = await openCheckpoint(folder);
        const parameters = new Weights();
        for (const stored of checkpoint.tensors.values()) {
          parameters.add(stored.ours, await uploadTensor(gpu, checkpoint, stored), false);
        }
        const digest = await checkpointDigest(checkpoint, layers);
        assert.equal(await modelDigest({ parameters }, layers), digest);
        assert.equal(await modelDigest({ parameters }, [...layers].reverse()), digest);
        assert.notEqual(await modelDigest({ parameters }, layers.slice(1)), digest);
        digests.push(digest);
        checkpoint.close();
        parameters.dispose();
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
    assert.equal(new Set(digests).size, 3);
  },
);

Deno.test(
  "an adapter is refused on weights it was not trained over, naming what differs",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const path = `${dir}/adapter.safetensors`;
      const model = await adapted();
      await saveLora(model, path);
      const { gpu } = model;
      const refused = async (other: UniMedVL, message: RegExp) => {
        await assert.rejects(loadLora(other, path), (error: Error & { help: string }) => {
          assert.equal(error.name, "InputError");
          assert.match(error.message, message);
          assert.match(error.message, new RegExp(`^Cannot use adapter ${path} on this model: `));
          return true;
        });
        assert.equal(other.lora, undefined);
        assert.equal(other.parameters.find("lora.und.layers.0.attn.q.a"), undefined);
        other.dispose();
      };
      for (const row of [0, 16, 31]) { // first, middle, last of 32
        const tuned = smallModel(gpu);
        const weight = tuned.parameters.get("und.layers.1.attn.o.weight");
        const values = await weight.floats();
        values[32 * row + 7] += 1e-3;
        weight.write(values);
        await refused(tuned, /its weights have digest/);
      }
      await refused(
        smallModel(gpu, 2),
        /its weights have digest [0-9a-f]{12}…, the adapter's [0-9a-f]{12}…/,
      );
      const wide = { ...SMALL, language: { ...SMALL.language, hiddenSize: 64 } };
      await refused(
        smallModel(gpu, 1, wide),
        /und\.layers\.0\.attn\.k\.weight is \(32, 64\), the adapter's is \(16, 32\)/,
      );
      const flat = { ...SMALL, language: { ...SMALL.language, numHiddenLayers: 1 } };
      await refused(smallModel(gpu, 1, flat), /it has no und\.layers\.1\.attn\.k\.weight/);
      model.dispose();
    });
  },
);

Deno.test("readLora() names the file and what is wrong with it", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const good = `${dir}/good.safetensors`;
    const model = await adapted();
    await saveLora(model, good);
    model.dispose();
    const file = await openSafetensors(good);
    const metadata = Object.fromEntries(file.metadata);
    file.close();
    const path = `${dir}/bad.safetensors`;
    const q = "lora.und.layers.0.attn.q";
    const cases: [change: Parameters<typeof rewrite>[1], message: RegExp][] = [
      [() => ({ ...metadata, format: "pt" }), /its metadata has format "pt"/],
      [() => ({ ...metadata, rank: "0" }), /rank is 0/],
      [() => ({ ...metadata, rank: "4" }), /attn\.\w has A \(3, 32\) and B \(\d+, 3\) for rank 4/],
      [() => ({ ...metadata, alpha: "much" }), /alpha is much/],
      [() => ({ ...metadata, base: "abc" }), /base is "abc", no SHA-256/],
      [() => ({ ...metadata, targets: "und" }), /targets is und, no list of patterns/],
      [(t) => void t.delete(`${q}.a`), /und\.layers\.0\.attn\.q\.a is missing/],
      [(t) => void t.delete(`${q}.b`), /und\.layers\.0\.attn\.q\.b is missing/],
      [(t) => void t.set("more", t.get(`${q}.a`)!), /more is no tensor of an adapter/],
      [
        (t) => void (t.get(`${q}.b`)!.data[5] = NaN),
        /value 5 of lora\.und\.layers\.0\.attn\.q\.b is NaN/,
      ],
      [(t) => t.clear(), /it has no tensors/],
    ];
    for (const [change, message] of cases) {
      await rewrite(good, change, path);
      await assert.rejects(readLora(path), (error: Error) => {
        assert.equal(error.name, "InputError");
        assert.match(error.message, new RegExp(`^Cannot read adapter ${path}: `));
        assert.match(error.message, message);
        return true;
      });
    }
    await assert.rejects(readLora(`${dir}/none`), {
      name: "InputError",
      message: /Cannot open .*none/,
    });
  });
});
