import assert from "node:assert/strict";
import { DEFAULTS } from "../../experiments/demo/config.ts";
import { phantomWorld } from "../../experiments/demo/world.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { packedRow } from "../../lib/packed_layout.ts";
import { answerAll } from "../../lib/study/vqa.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const TINY = new URL("../../experiments/tiny", import.meta.url).pathname;
const PHANTOMS = 240;

Deno.test(
  "the trained tiny model answers as well packed: within 1 point in int8, 3 points in int4",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const world = phantomWorld("natural", { ...DEFAULTS, tests: PHANTOMS });
    const dir = await Deno.makeTempDir({ prefix: "oka-quantized-" });
    const accuracyOf = async (folder: string) => {
      const open = await openModel(gpu, folder);
      await open.need(["head", "und", "vit"]);
      const weight = open.model.parameters.get("und.layers.0.mlp.up.weight");
      const { tokenizer } = world; // the folder's words are the world's
      assert.equal(open.tokenizer.size, tokenizer.size);
      const answers = await answerAll(open.model, tokenizer, world.tests, world.pack);
      const { dtype } = weight;
      const bytes = weight.buffer.sizeBytes;
      open.dispose();
      return {
        dtype,
        bytes,
        percent: 100 * answers.filter((a) => a.correct).length / answers.length,
      };
    };
    try {
      const full = await accuracyOf(TINY);
      assert.equal(full.dtype, "f16");
      assert.ok(full.percent > 50, `trained: ${full.percent} %`);
      for (const [to, most] of [["int8", 1], ["int4", 3]] as const) {
        await quantizeCheckpoint(TINY, `${dir}/${to}`, { to });
        const packed = await accuracyOf(`${dir}/${to}`);
        assert.equal(packed.dtype, to);
        assert.ok(packed.bytes >= 192 * packedRow(96, to).rowBytes && packed.bytes < full.bytes);
        const lost = full.percent - packed.percent;
        assert.ok(Math.abs(lost) <= most, `${to}: ${packed.percent} %, ${full.percent} % before`);
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
