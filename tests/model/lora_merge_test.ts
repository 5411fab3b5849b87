import assert from "node:assert/strict";
import { openSafetensors } from "../../lib/data/safetensors.ts";
import { saveModel } from "../../lib/model/checkpoint.ts";
import { openCheckpoint, type StoredTensor } from "../../lib/model/checkpoint_folder.ts";
import { uploadTensor } from "../../lib/model/device_weights.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { readLora, saveLora } from "../../lib/model/lora_file.ts";
import { mergeLora } from "../../lib/model/lora_merge.ts";
import { writeConfig } from "../../lib/model/own_config.ts";
import { UniMedVL } from "../../lib/model/unimedvl.ts";
import { Parameters } from "../../lib/nn/parameters.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import { drawAdapters } from "./lora_models.ts";
import { bytesOf, inFolder, madeFolder, rewrite } from "./made_folders.ts";
import { smallModel } from "./small.ts";

const SPEC = { rank: 3, alpha: 6, targets: ["{und,gen}.layers.*.attn", "connector.fc1"] };

/** Trains nothing: draws an adapter over a folder's weights and writes it. */
async function adapterFor(folder: string, path: string): Promise<void> {
  const gpu = await testGpu();
  const checkpoint = await openCheckpoint(folder);
  const parameters = new Parameters();
  for (const stored of checkpoint.tensors.values()) {
    parameters.add(stored.ours, await uploadTensor(gpu, checkpoint, stored), false);
  }
  const model = new UniMedVL(gpu, checkpoint.config, parameters);
  checkpoint.close();
  attachLora(model, SPEC);
  drawAdapters(model, 9, 0.02);
  await saveLora(model, path);
  model.dispose();
}

/** How far from the sum a stored number may be, relative to the largest. */
const ROUNDED = { F32: 1e-6, F16: 2 ** -11, BF16: 2 ** -8 };

Deno.test(
  "mergeLora() writes W + (α/r) B A, everything else as it was, and leaves the base alone",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      for (const from of ["F32", "F16", "BF16", "int8", "int4"] as const) {
        const packed = from === "int8" || from === "int4";
        const base = await madeFolder(dir, from, packed ? { to: from } : { dtype: from });
        const adapter = `${dir}/${from}.safetensors`, out = `${dir}/${from}-merged`;
        await adapterFor(base, adapter);
        const before = await bytesOf(base);
        const report = await mergeLora(base, adapter, out);
        assert.deepEqual(await bytesOf(base), before, "the base is only read");
        const to = packed ? "F16" : from;
        assert.equal(report.layers.length, 17);
        for (const layer of report.layers) {
          assert.deepEqual([layer.from, layer.to], [from, to]);
          assert.ok(layer.change! > 0.1 && layer.change! < 10, `${layer.name}: ${layer.change}`);
        }
        const { info, values } = await readLora(adapter);
        const [was, is] = [await openCheckpoint(base), await openCheckpoint(out)];
        assert.deepEqual([...is.tensors.keys()], [...was.tensors.keys()]);
        let kept = 0;
        for (const [name, tensor] of was.tensors) {
          const merged = is.tensors.get(name)!;
          const own = values.get(name.replace(/\.weight$/, ""));
          if (!own || !name.endsWith(".weight")) {
            assert.equal(merged.dtype, tensor.dtype);
            assert.deepEqual(await is.readBytes(merged), await was.readBytes(tensor), name);
            if (tensor.file) kept++;
            continue;
          }
          assert.equal(merged.dtype, to);
          const want = Float64Array.from(await was.readFloat32(tensor));
          const [outputs, inputs] = tensor.shape;
          for (let i = 0; i < outputs; i++) {
            for (let j = 0; j < inputs; j++) {
              for (let k = 0; k < info.rank; k++) {
                want[i * inputs + j] += 2 * own.b[i * info.rank + k] * own.a[k * inputs + j];
              }
            }
          }
          assertClose(await is.readFloat32(merged), want, ROUNDED[to], `${name} of ${from}`);
        }
        assert.equal(report.kept, kept);
        const [ae, aeBefore] = [out, base].map((folder) =>
          Deno.readFileSync(`${folder}/ae.safetensors`)
        );
        assert.deepEqual(ae, aeBefore);
        const about = JSON.parse(await Deno.readTextFile(`${out}/merge.json`));
        assert.deepEqual([about.rank, about.alpha, about.targets], [3, 6, SPEC.targets]);
        for (const folder of [was, is]) folder.close();
      }
    });
  },
);

Deno.test(
  "mergeLora() stores the matrices as told, in shards and block by block alike",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const base = await madeFolder(dir, "base", { to: "int4" });
      const adapter = `${dir}/adapter.safetensors`;
      await adapterFor(base, adapter);
      const out = (name: string) => `${dir}/${name}`;
      await mergeLora(base, adapter, out("whole"), { dtype: "F32" });
      await mergeLora(base, adapter, out("pieces"), {
        dtype: "F32",
        shardBytes: 20_000,
        blockBytes: 300,
      });
      const [whole, pieces] = [
        await openCheckpoint(out("whole")),
        await openCheckpoint(out("pieces")),
      ];
      assert.ok(pieces.files.length > 3);
      for (const [name, tensor] of whole.tensors) {
        const other: StoredTensor = pieces.tensors.get(name)!;
        assert.deepEqual(await pieces.readBytes(other), await whole.readBytes(tensor), name);
      }
      assert.equal(whole.tensors.get("und.layers.0.attn.q.weight")!.dtype, "F32");
      assert.equal(whole.tensors.get("und.layers.0.mlp.up.weight")!.dtype, "int4");
      for (const folder of [whole, pieces]) folder.close();
    });
  },
);

Deno.test(
  "a merge that was stopped goes on and gives the bytes of one that was not",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const base = await madeFolder(dir, "base", { to: "int8" });
      const adapter = `${dir}/adapter.safetensors`;
      await adapterFor(base, adapter);
      await mergeLora(base, adapter, `${dir}/whole`);
      const stop = new AbortController();
      let seen = 0;
      const options = { blockBytes: 512, syncBytes: 1024 };
      await assert.rejects(mergeLora(base, adapter, `${dir}/parts`, {
        ...options,
        signal: stop.signal,
        onProgress: () => ++seen === 40 && stop.abort(),
      }));
      let resumed = 0;
      await mergeLora(base, adapter, `${dir}/parts`, {
        ...options,
        onProgress: (state) => resumed = state.resumed,
      });
      assert.ok(resumed > 0);
      assert.deepEqual(await bytesOf(`${dir}/parts`), await bytesOf(`${dir}/whole`));
    });
  },
);

Deno.test(
  "mergeLora() refuses another base, an existing folder and sums that f16 cannot hold",
  GPU_TEST,
  async () => {
    await inFolder(async (dir) => {
      const base = await madeFolder(dir, "base", { to: "int4" });
      const other = await madeFolder(dir, "other", { to: "int4", seed: 6 });
      const adapter = `${dir}/adapter.safetensors`, out = `${dir}/out`;
      await adapterFor(base, adapter);
      await assert.rejects(mergeLora(other, adapter, out), {
        name: "InputError",
        message: /^Cannot use adapter .*adapter\.safetensors on .*other: its weights have digest/,
      });
      await Deno.mkdir(`${dir}/there`);
      await assert.rejects(mergeLora(base, adapter, `${dir}/there`), {
        name: "UsageError",
        message: /there: it exists/,
      });
      await assert.rejects(mergeLora(base, adapter, out, { dtype: "int4" as "F16" }), {
        name: "UsageError",
        message: "Cannot store merged matrices as int4",
      });
      const huge = `${dir}/huge.safetensors`;
      await rewrite(adapter, (tensors) => {
        const b = tensors.get("lora.und.layers.1.attn.v.b")!;
        b.data[3 * 5 + 1] = 1e7; // row 5
      }, huge);
      await assert.rejects(mergeLora(base, huge, out), (error: Error & { help: string }) => {
        assert.equal(error.name, "InputError");
        assert.match(error.message, /row 5, column \d+ of und\.layers\.1\.attn\.v becomes -?\d+/);
        assert.match(error.help, /BF16 or F32/);
        return true;
      });
      await mergeLora(base, huge, out, { dtype: "BF16", force: true });
      assert.ok((await Deno.stat(out)).isDirectory);
    });
  },
);

Deno.test("a folder of a small model merges with one file and its words", GPU_TEST, async () => {
  await inFolder(async (dir) => {
    const gpu = await testGpu();
    const model = smallModel(gpu);
    const base = `${dir}/base`;
    await Deno.mkdir(base);
    await saveModel(model, `${base}/model.safetensors`);
    await writeConfig(base, model.config);
    await Deno.writeTextFile(`${base}/words.json`, "{}");
    attachLora(model, SPEC);
    await saveLora(model, `${dir}/adapter.safetensors`);
    model.dispose();
    await mergeLora(base, `${dir}/adapter.safetensors`, `${dir}/out`);
    const names = [...Deno.readDirSync(`${dir}/out`)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["config.json", "merge.json", "model.safetensors", "words.json"]);
    const [a, b] = await Promise.all(
      [base, `${dir}/out`].map((d) => openSafetensors(`${d}/model.safetensors`)),
    );
    for (const name of a.tensors.keys()) {
      assert.deepEqual(await b.read(name), await a.read(name), `${name}, as B is 0`);
    }
    for (const file of [a, b]) file.close();
  });
});
