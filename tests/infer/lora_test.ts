// Answers and pictures with an adapter: the folder with it, and the merged folder, say and draw the same.

import assert from "node:assert/strict";
import { DEFAULTS } from "../../experiments/demo/config.ts";
import { phantomWorld } from "../../experiments/demo/world.ts";
import { denormalize } from "../../lib/data/transforms.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { askAll } from "../../lib/infer/ask.ts";
import { generate } from "../../lib/infer/generate.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { saveLora } from "../../lib/model/lora_file.ts";
import { mergeLora } from "../../lib/model/lora_merge.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { drawAdapters } from "../model/lora_models.ts";
import { inFolder } from "../model/made_folders.ts";
import { picture, SMALL } from "../model/small.ts";
import { modelFolder } from "./model_folder.ts";

const TINY = new URL("../../experiments/tiny", import.meta.url).pathname;

/** An adapter of some size over a folder's weights. */
async function adapterFor(folder: string, path: string, targets: string[], scale: number) {
  const gpu = await testGpu();
  const open = await openModel(gpu, folder);
  await open.need(["head", "und", "vit", "gen", "latent"]);
  attachLora(open.model, { rank: 4, alpha: 8, targets });
  drawAdapters(open.model, 3, scale);
  await saveLora(open.model, path);
  open.dispose();
}

Deno.test(
  "the trained tiny model with an adapter answers as the merged one, packed or not",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const world = phantomWorld("natural", { ...DEFAULTS, tests: 16 });
    const questions = world.tests.flatMap(({ image, questions }) =>
      questions.map(({ question }) => ({ images: [denormalize(image)], question }))
    );
    const answers = async (folder: string, lora?: string) => {
      const open = await openModel(gpu, folder, lora === undefined ? {} : { lora });
      const said = await askAll(open, questions, { maxTokens: 3 });
      open.dispose();
      return said.map(({ tokens }) => tokens);
    };
    await inFolder(async (dir) => {
      for (const to of [undefined, "int8", "int4"] as const) {
        const base = to ? `${dir}/${to}` : TINY;
        if (to) await quantizeCheckpoint(TINY, base, { to });
        const lora = `${dir}/${to}.safetensors`;
        await adapterFor(base, lora, ["und", "vit", "connector", "text.head"], 0.03);
        const [plain, adapted] = [await answers(base), await answers(base, lora)];
        assert.notDeepEqual(adapted, plain, "the adapter counts");
        const merged = async (dtype?: "F32") => {
          const out = `${dir}/${to}-merged-${dtype}`;
          await mergeLora(base, lora, out, dtype ? { dtype } : {});
          return await answers(out);
        };
        assert.deepEqual(await merged("F32"), adapted, `merged over ${to ?? "f16"}`);
        const rounded = await merged();
        const other = rounded.filter((tokens, i) => tokens.join() !== adapted[i].join());
        assert.ok(other.length <= 0.01 * adapted.length, `${other.length} of ${adapted.length}`);
      }
    });
  },
);

Deno.test(
  "streamed layers carry their adapters, and an adapter of other weights is refused",
  GPU_TEST,
  async () => {
    const large = {
      ...SMALL,
      language: { ...SMALL.language, hiddenSize: 64, intermediateSize: 512, numHiddenLayers: 12 },
    };
    const base = await modelFolder(await testGpu(), 1, large);
    const other = await modelFolder(await testGpu(), 2, large);
    const lora = `${base}/adapter.safetensors.kept`;
    try {
      await adapterFor(base, lora, ["{und,gen}.layers.*.attn", "latent.out"], 0.1);
      const run = async (budgetBytes: number, options: { lora?: string }) => {
        const gpu = await openDevice({ budgetBytes });
        const open = await openModel(gpu, base, { workingBytes: 2 ** 21, ...options });
        const image = denormalize(picture(3));
        const said = await askAll(open, [{ images: [image], question: "what is this ?" }], {
          maxTokens: 4,
        });
        const drawn = await generate(open, "a dark lung", { steps: 2, size: 16 });
        const { stream } = open;
        open.dispose();
        assert.equal(gpu.buffers.liveCount, 0);
        gpu.close();
        return { said: said[0].tokens, drawn: drawn.image.data, streamed: stream !== undefined };
      };
      const whole = await run(2 ** 27, { lora });
      const streamed = await run(2 ** 22 + 2 ** 21, { lora });
      assert.deepEqual([whole.streamed, streamed.streamed], [false, true]);
      assert.deepEqual(streamed.said, whole.said);
      assert.deepEqual(streamed.drawn, whole.drawn);
      assert.notDeepEqual((await run(2 ** 27, {})).drawn, whole.drawn, "the adapter counts");
      await assert.rejects(openModel(await testGpu(), other, { lora }), {
        name: "InputError",
        message: /^Cannot use adapter .* on .*: its weights have digest/,
      });
    } finally {
      for (const dir of [base, other]) await Deno.remove(dir, { recursive: true });
    }
  },
);
