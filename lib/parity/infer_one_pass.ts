// The masked forward pass over a whole sequence at once, which knows no cache, against what the reference's
// cached steps recorded: the two ways must agree.

import { noGrad } from "../autograd.ts";
import { packBatch, type PackOptions } from "../data/pack.ts";
import type { PlanItem } from "../data/sample.ts";
import { vitTransform } from "../data/transforms.ts";
import { prepareBatch } from "../model/batch.ts";
import { latentStride, type UniMedVLConfig } from "../model/config.ts";
import { tidy } from "../tensor.ts";
import type { Fixture, Row } from "./compare.ts";
import { fixtureImage, type InferSetup } from "./infer.ts";

const FILE = "infer_text.safetensors";

/** Packing as a fixture's model wants it. */
export function packingOf(config: UniMedVLConfig, special: InferSetup["special"]): PackOptions {
  return {
    special,
    vitPatch: config.vision.patchSize,
    latentPixels: latentStride(config),
    vitSide: config.vitMaxNumPatchPerSide,
    latentSide: config.maxLatentSize,
    drawTimestep: () => 0,
  };
}

/** Logits of prompt and answer read in one pass, against those of each cached step. */
export async function onePass(setup: InferSetup, fixture: Fixture): Promise<Row[]> {
  const { model, special, vitRule } = setup;
  const rows: Row[] = [];
  for (const name of ["text", "vqa"]) {
    const plan: PlanItem[] = [];
    if (name === "vqa") {
      const image = vitTransform(await fixtureImage(fixture, FILE, "vqa/image_u8"), vitRule);
      plan.push({ type: "vit_image", loss: false, image });
    }
    plan.push({ type: "text", loss: false, ids: await fixture.int(FILE, `${name}/prompt_ids`) });
    const answer = (await fixture.int(FILE, `${name}/generated_ids`)).slice(1);
    plan.push({ type: "text", loss: true, ids: answer });
    const packed = packBatch([{ plan }], packingOf(model.config, special));
    const logits = tidy(() =>
      noGrad(() => model.forward(prepareBatch(model.gpu, model.config, { packed })).logits!)
    );
    const row = await fixture.compare(FILE, `${name}/step_logits`, await logits.floats());
    logits.dispose();
    rows.push({ ...row, case: "one_pass", tensor: `${name}_step_logits` });
  }
  return rows;
}
