// Activation checkpointing changes what is kept, never a loss or a gradient.

import assert from "node:assert/strict";
import { backward } from "../../lib/autograd.ts";
import { prepareBatch } from "../../lib/model/batch.ts";
import type { ActivationCheckpointing } from "../../lib/model/language.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { type Tensor, tidy } from "../../lib/tensor.ts";
import { type Objective, objectiveLoss, runObjective } from "../../lib/train/objective.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  differing,
  EDIT,
  inputsOf,
  named,
  QUESTION,
  smallModel,
  TO_IMAGE,
  valuesOf,
} from "./small.ts";

const ALL: ActivationCheckpointing = { decoder: true, vit: true, connector: true };
const inputs = inputsOf([QUESTION, TO_IMAGE, EDIT]);

/** Losses and gradients by name. */
async function run(model: UniMedVL, options: Partial<Objective>) {
  const { text, flow, total, gradients } = tidy(() =>
    runObjective(model, { name: "all", inputs, ...options })
  );
  const losses: [string, Tensor][] = [["total", total]];
  if (text) losses.push(["text", text]);
  if (flow) losses.push(["flow", flow]);
  const values = new Map([...await valuesOf(losses), ...await named(model, gradients)]);
  for (const t of [...losses.map(([, t]) => t), ...gradients.values()]) t.dispose();
  return values;
}

Deno.test(
  "losses and gradients have the same bits with and without checkpointing",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const routes = [undefined, () => true, (layer: number) => layer === 1];
    for (const blocked of routes) {
      const route = blocked ? { blocked } : {};
      const want = await run(model, route);
      const kinds = blocked ? [ALL] : [ALL, { decoder: true }, { vit: true }, { connector: true }];
      for (const checkpoint of kinds) {
        const got = await run(model, { ...route, checkpoint });
        assert.deepEqual(differing(got, want), [], JSON.stringify(checkpoint));
      }
      assert.ok(want.size > 90 && want.has("vit.embed.patch.weight"), `${want.size}`);
    }
    for (const samples of [[QUESTION], [TO_IMAGE]]) {
      const one = { inputs: inputsOf(samples) };
      assert.deepEqual(
        differing(await run(model, { ...one, checkpoint: ALL }), await run(model, one)),
        [],
      );
    }
    model.dispose();
  },
);

Deno.test("checkpointing passes a frozen expert and keeps it frozen", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  for (const [name, tensor] of model.parameters.entries()) {
    if (/^(und|text|latent\.in|latent\.time)\./.test(name)) tensor.requiresGrad = false;
  }
  const want = await run(model, {});
  assert.deepEqual(differing(await run(model, { checkpoint: ALL }), want), []);
  assert.ok(want.has("gen.layers.0.attn.q.weight") && want.has("vit.layers.0.mlp.fc1.weight"));
  assert.ok(!want.has("und.layers.0.attn.q.weight"));
  model.dispose();
});

Deno.test(
  "gradients of a checkpointed layer are told when the layer is passed, last layers first",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const names = new Map([...model.parameters.entries()].map(([name, tensor]) => [tensor, name]));
    const told: string[] = [];
    tidy(() => {
      const { total } = objectiveLoss(model, { name: "all", inputs, checkpoint: ALL });
      backward(total, {
        onGradient: (parameter, gradient) => {
          told.push(names.get(parameter)!);
          gradient.dispose();
        },
      });
    });
    assert.equal(new Set(told).size, told.length);
    assert.equal(told.length, (await run(model, {})).size - 3);
    const at = (layer: string) =>
      told.flatMap((name, i) => name.startsWith(`${layer}.`) ? [i] : []);
    const orders = [["und.layers.1", "und.layers.0"], ["gen.layers.1", "gen.layers.0"]];
    for (const [later, earlier] of [...orders, ["und.layers.0", "vit.layers.1"]]) {
      assert.ok(Math.max(...at(later)) < Math.min(...at(earlier)), `${later} before ${earlier}`);
    }
    model.dispose();
  },
);

Deno.test("each kind of checkpointing keeps less than none", GPU_TEST, async () => {
  const gpu = await testGpu();
  const model = smallModel(gpu);
  const kept = (
    checkpoint: ActivationCheckpointing,
    site?: (name: string, x: Tensor) => Tensor,
  ) => {
    const live = gpu.buffers.liveCount;
    return tidy(() => {
      const batch = prepareBatch(gpu, model.config, inputs);
      model.forward(batch, { checkpoint, ...(site ? { site } : {}) });
      return gpu.buffers.liveCount - live;
    });
  };
  const none = kept({});
  assert.ok(kept({ connector: true }) < none);
  assert.ok(kept({ vit: true }) < none - 20);
  assert.ok(kept({ decoder: true }) < none - 40);
  assert.ok(kept(ALL) < none / 2, `${kept(ALL)} of ${none}`);
  const site = (_: string, x: Tensor) => x;
  assert.equal(kept(ALL, site), kept({}, site), "where somebody looks, everything stays");
  model.dispose();
});
