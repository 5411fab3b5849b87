import assert from "node:assert/strict";
import { backward } from "../../lib/autograd.ts";
import { prepareBatch } from "../../lib/model/batch.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { GPU_TEST, normals, testGpu } from "../helpers.ts";
import { drawAdapters, EVERYWHERE, INPUTS } from "./lora_models.ts";
import { differing, named, smallModel } from "./small.ts";

Deno.test(
  "adapters get the same gradients from blocks that are computed again",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    attachLora(model, { rank: 3, alpha: 6, targets: EVERYWHERE });
    drawAdapters(model);
    const run = async (checkpoint: { decoder?: boolean; vit?: boolean; connector?: boolean }) => {
      const gradients = tidy(() => {
        const out = model.forward(prepareBatch(model.gpu, model.config, INPUTS), { checkpoint });
        const losses = [out.textLoss!, out.flowLoss!];
        const seeds = losses.map((l, i) => Tensor.from(model.gpu, normals(l.size, i), l.shape));
        return backward(losses, { seeds });
      });
      const values = await named(model, gradients);
      for (const t of gradients.values()) t.dispose();
      return values;
    };
    const want = await run({});
    assert.equal(want.size, 2 * model.lora!.layers.length);
    const { liveBytes } = model.gpu.buffers;
    const got = await run({ decoder: true, vit: true, connector: true });
    assert.deepEqual(differing(got, want), []);
    assert.equal(model.gpu.buffers.liveBytes, liveBytes);
    model.dispose();
  },
);
