// A recorded pass is made of fused ops; with a site function, and where nothing is recorded, of plainer ones. All of them
// compute the same model.

import assert from "node:assert/strict";
import { backward, noGrad } from "../../lib/autograd.ts";
import { prepareBatch } from "../../lib/model/batch.ts";
import type { ForwardOptions, Outputs, UniMedVL } from "../../lib/model/unimedvl.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { assertClose, GPU_TEST, normals, testGpu } from "../helpers.ts";
import { EDIT, inputsOf, named, QUESTION, smallModel, TO_IMAGE, valuesOf } from "./small.ts";

/** f32 sums in another order. */
const ROUNDING = 4e-6;

type Values = Map<string, Float32Array>;

const inputs = inputsOf([QUESTION, TO_IMAGE, EDIT]);

/** Losses and final rows; with `gradients` also those of every parameter, losses seeded with unequal numbers. */
async function run(model: UniMedVL, options: ForwardOptions, gradients: boolean): Promise<Values> {
  const { gpu } = model;
  const [tensors, grads] = tidy(() => {
    const forward = (): Outputs =>
      model.forward(prepareBatch(gpu, model.config, inputs), { allHidden: true, ...options });
    const out = gradients ? forward() : noGrad(forward);
    const losses = [out.textLoss!, out.flowLoss!];
    const hidden = [out.hidden.und!.alias(), out.hidden.gen!.alias()];
    const seeds = losses.map((loss, i) => Tensor.from(gpu, normals(loss.size, i), loss.shape));
    const grads = gradients ? backward(losses, { seeds }) : new Map<Tensor, Tensor>();
    const names = ["text", "flow", "und", "gen"] as const;
    return [[...losses, ...hidden].map((t, i) => [names[i], t] as const), grads] as const;
  });
  const values = new Map([...await valuesOf(tensors), ...await named(model, grads)]);
  for (const t of [...tensors.map(([, t]) => t), ...grads.values()]) t.dispose();
  return values;
}

/**
 * The ViT's key biases are judged together with its query biases: they move all scores of a query alike, so their
 * gradient is nothing but rounding.
 */
function assertSame(got: Values, want: Values): void {
  assert.deepEqual([...got.keys()], [...want.keys()]);
  const judged = (values: Values, name: string) => {
    const own = values.get(name)!;
    if (!/^vit\..*\.attn\.k\.bias$/.test(name)) return own;
    return [...own, ...values.get(name.replace("k.bias", "q.bias"))!];
  };
  for (const name of want.keys()) {
    assertClose(judged(got, name), judged(want, name), ROUNDING, name);
  }
}

Deno.test("a recorded pass gives the values of one that is not", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const recorded = await run(model, {}, true);
  const plain = await run(model, {}, false);
  assertSame(new Map([...recorded].slice(0, 4)), plain);
  model.dispose();
});

Deno.test(
  "with a site function gradients are the same, and it sees what it may replace",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    for (const blocked of [undefined, () => true, (layer: number) => layer === 1]) {
      const seen = new Set<string>();
      const site = (name: string, x: Tensor) => {
        seen.add(name);
        return x;
      };
      const routes = blocked ? { blocked } : {};
      assertSame(await run(model, routes, true), await run(model, { site, ...routes }, true));
      for (const e of ["und", "gen"]) {
        const names = ["in", "attn.norm", "attn.q", "attn.k", "attn.v", "attn.heads", "attn.out"];
        for (const name of [...names, "mid", "mlp.norm", "mlp.act", "mlp.out", "out"]) {
          assert.ok(seen.has(`${e}.layers.0.${name}`), `${e} ${name}`);
        }
      }
    }
    model.dispose();
  },
);

Deno.test(
  "a text loss without all logits is the text loss, and so are its gradients",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const want = await run(model, {}, true);
    assertSame(await run(model, { logitsBytes: 1 }, true), want);
    const logits = (options: ForwardOptions) =>
      tidy(() => {
        const batch = prepareBatch(model.gpu, model.config, inputs);
        return model.forward(batch, { logitsBytes: 1, ...options }).logits !== undefined;
      });
    assert.equal(logits({}), false);
    assert.equal(logits({ site: (_name, x) => x }), true, "a site may look at them");
    assert.equal(noGrad(() => logits({})), true, "who reads answers needs them");
    model.dispose();
  },
);
