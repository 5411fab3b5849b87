import assert from "node:assert/strict";
import type { Sample } from "../../lib/data/sample.ts";
import { gradientRoutes, PARAMETER_GROUPS, type RouteNorms } from "../../lib/study/routes.ts";
import type { Objective } from "../../lib/train/objective.ts";
import { initModel } from "../../lib/model/init.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import {
  clean,
  drawn,
  inputsOf,
  picture,
  QUESTION,
  seen,
  SMALL,
  smallModel,
  text,
  TO_IMAGE,
  weightsOf,
} from "../model/small.ts";

async function routes(sample: Sample, more: Partial<Objective> = {}): Promise<RouteNorms> {
  const model = smallModel(await testGpu());
  const live = model.gpu.buffers.liveCount;
  const norms = await gradientRoutes(model, { name: "flow", inputs: inputsOf([sample]), ...more });
  assert.equal(model.gpu.buffers.liveCount, live, "gradients were given back");
  model.dispose();
  return norms;
}

/** Groups that get a gradient. */
function reached(norms: RouteNorms): string[] {
  assert.deepEqual(Object.keys(norms), PARAMETER_GROUPS.map(({ name }) => name));
  return Object.keys(norms).filter((name) => {
    assert.ok(norms[name] === 0 || norms[name] > 1e-8, `${name}: ${norms[name]}`);
    return norms[name] > 0;
  });
}

const IMAGE: Sample = { plan: [seen(picture(3)), text(6), drawn(picture(4))] };
const GEN = ["gen layers", "latent in", "flow head"];

Deno.test("every parameter but the fixed tables is in one group", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  for (const [name, tensor] of model.parameters.entries()) {
    if (!tensor.requiresGrad) continue;
    assert.equal(PARAMETER_GROUPS.filter(({ holds }) => holds(name)).length, 1, name);
  }
  model.dispose();
});

Deno.test("text → image sends nothing to the image encoder", GPU_TEST, async () => {
  const norms = await routes(TO_IMAGE);
  assert.deepEqual(reached(norms), ["embeddings", "und layers", ...GEN]);
  assert.equal(norms.vit, 0);
  assert.equal(norms.connector, 0);
});

Deno.test("image → image reaches the image encoder", GPU_TEST, async () => {
  const all = ["vit", "connector", "embeddings", "und layers", ...GEN];
  assert.deepEqual(reached(await routes(IMAGE)), all);
  // By its clean latents alone it does not.
  const latents: Sample = { plan: [clean(picture(3)), text(6), drawn(picture(4))] };
  assert.deepEqual(reached(await routes(latents)), ["embeddings", "und layers", ...GEN]);
});

Deno.test("blocked routes leave the gen side alone", GPU_TEST, async () => {
  for (const sample of [TO_IMAGE, IMAGE]) {
    assert.deepEqual(reached(await routes(sample, { blocked: () => true })), GEN);
  }
});

Deno.test("a question teaches all of the und side", GPU_TEST, async () => {
  const und = ["vit", "connector", "embeddings", "und layers", "text head"];
  assert.deepEqual(reached(await routes(QUESTION)), und);
});

Deno.test("a fresh flow head of zeros lets no gradient past it", GPU_TEST, async () => {
  const model = initModel(await testGpu(), SMALL, 1);
  const before = await weightsOf(model);
  const norms = await gradientRoutes(model, { name: "flow", inputs: inputsOf([TO_IMAGE]) });
  assert.deepEqual(reached(norms), ["flow head"]);
  assert.deepEqual(await weightsOf(model), before);
  model.dispose();
});
