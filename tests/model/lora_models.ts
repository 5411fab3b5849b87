// What tests of adapters share: the small model with adapters that are not zero, and weights with them added on the host.

import { backward } from "../../lib/autograd.ts";
import { type ModelInputs, prepareBatch } from "../../lib/model/batch.ts";
import { loraNames } from "../../lib/model/lora.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import { Tensor, tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";
import { EDIT, inputsOf, named, QUESTION, TO_IMAGE, valuesOf } from "./small.ts";

/** Patterns that reach every linear layer of a model. */
export const EVERYWHERE = ["und", "gen", "vit", "connector", "text.head", "latent"];

/** A batch of every task. */
export const INPUTS = inputsOf([QUESTION, TO_IMAGE, EDIT]);

/** Fills the B of every adapter, so that they count. */
export function drawAdapters(model: UniMedVL, seed = 9, scale = 0.1): void {
  for (const [i, { name }] of model.lora!.layers.entries()) {
    const b = model.parameters.get(loraNames(name).b);
    b.write(normals(b.size, seed + i, scale));
  }
}

/** Adds its adapters to a model's f32 weights, on the host: those of `to`, which has none. */
export async function addAdapters(from: UniMedVL, to: UniMedVL): Promise<void> {
  const values = await valuesOf(from.parameters.entries());
  const { layers, rank, alpha } = from.lora!;
  for (const { name, outputs, inputs } of layers) {
    const { a, b } = loraNames(name);
    const [low, high] = [values.get(a)!, values.get(b)!];
    const sum = values.get(`${name}.weight`)!.slice();
    for (let i = 0; i < outputs; i++) {
      for (let j = 0; j < inputs; j++) {
        let added = 0;
        for (let k = 0; k < rank; k++) added += high[i * rank + k] * low[k * inputs + j];
        sum[i * inputs + j] += alpha / rank * added;
      }
    }
    to.parameters.get(`${name}.weight`).write(sum);
  }
}

/** Losses of every token and, by name, gradients of all that is trainable, losses seeded with unequal numbers. */
export async function lossesAndGradients(
  model: UniMedVL,
  inputs: ModelInputs = INPUTS,
): Promise<Map<string, Float32Array>> {
  const { gpu } = model;
  const [losses, gradients] = tidy(() => {
    const out = model.forward(prepareBatch(gpu, model.config, inputs));
    const losses = [out.textLoss!, out.flowLoss!];
    const shown = losses.map((loss) => loss.alias());
    const seeds = losses.map((loss, i) => Tensor.from(gpu, normals(loss.size, i), loss.shape));
    return [shown, backward(losses, { seeds })] as const;
  });
  const values = await valuesOf([["text", losses[0]], ["flow", losses[1]]]);
  const all = new Map([...values, ...await named(model, gradients)]);
  for (const t of [...losses, ...gradients.values()]) t.dispose();
  return all;
}
