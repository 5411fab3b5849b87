// Low-rank adapters on a model's linear layers (Hu et al. 2021, LoRA): a few numbers per layer are trained while the
// weights, packed or not, stay as they are.

import { Draws } from "../data/draws.ts";
import { UsageError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Parameters } from "../nn/parameters.ts";
import { setAdapter } from "../ops/adapter.ts";
import { Tensor } from "../tensor.ts";
import { chooseMatrices } from "./checkpoint_choice.ts";
import type { UniMedVL } from "./unimedvl.ts";

/** What an adapter is made of. */
export interface LoraSpec {
  /** Numbers that each addition goes through. */
  rank: number;
  /** The additions are scaled by α / rank, so that α can stay as it is when the rank changes. */
  alpha: number;
  /** Patterns of our names (name_pattern.ts): `und.layers.*.attn`, `{und,gen}.layers.4-7.mlp.down`, `text.head`. */
  targets: readonly string[];
}

/** Options of {@link attachLora}. */
export interface LoraOptions extends LoraSpec {
  /** Of the first values of A. Default: 0. */
  seed?: number;
}

/** A linear layer with an adapter. */
export interface LoraLayer {
  /** Our name of the layer: `und.layers.0.attn.q`. */
  name: string;
  outputs: number;
  inputs: number;
}

/** What is attached to a model. */
export interface LoraInfo extends LoraSpec {
  layers: readonly LoraLayer[];
  /** Numbers of all adapters, and their bytes on the device. */
  parameters: number;
  bytes: number;
}

/** First part of the names of an adapter's tensors. */
export const LORA_PREFIX = "lora.";

/** Names of the two tensors of a layer's adapter: A (rank, inputs) and B (outputs, rank). */
export function loraNames(layer: string): { a: string; b: string } {
  return { a: `${LORA_PREFIX}${layer}.a`, b: `${LORA_PREFIX}${layer}.b` };
}

/**
 * Gives the linear layers that the patterns name an adapter each, `y = x Wᵀ + b + (α/rank) (x Aᵀ) Bᵀ`, and freezes
 * everything else. A is drawn from N(0, 1/inputs), so that `x Aᵀ` is as large as x whatever the width; B is 0, so that
 * the model computes what it did: the same bits where nothing is recorded, and up to rounding in a recorded pass, which
 * no longer stacks the products of adapted layers.
 *
 * The trainable tensors are parameters `lora.<layer>.a` and `lora.<layer>.b`, f32.
 *
 * @throws {UsageError} If rank or α is no good, a pattern matches no linear layer, or the model has adapters already
 */
export function attachLora(model: UniMedVL, options: LoraOptions): LoraInfo {
  checkSpec(options);
  if (model.lora) {
    throw new UsageError("Cannot attach adapters: the model has some already", {
      help: "detachLora takes them off; mergeLora makes a model of both",
    });
  }
  const { rank, alpha, targets, seed = 0 } = options;
  const { gpu, parameters } = model;
  const names = [...parameters.entries()].map(([name]) => name);
  const chosen = chooseMatrices("adapt", names, targets);
  for (const [, tensor] of parameters.entries()) tensor.requiresGrad = false;
  const layers = chosen.map((weightName): LoraLayer => {
    const weight = parameters.get(weightName);
    const [outputs, inputs] = weight.shape;
    const layer = { name: layerOf(weightName), outputs, inputs };
    const draws = new Draws("lora", seed, layer.name);
    const deviation = 1 / Math.sqrt(inputs);
    const a = Float32Array.from({ length: rank * inputs }, () => deviation * draws.normal());
    placeAdapter(gpu, parameters, layer, weight, { a, rank, alpha }, true);
    return layer;
  });
  return model.lora = loraInfo({ rank, alpha, targets }, layers);
}

/** Takes all adapters off and gives their memory back; what was frozen stays frozen. */
export function detachLora(model: UniMedVL): void {
  for (const { name } of model.lora?.layers ?? []) {
    const weight = model.parameters.find(`${name}.weight`);
    if (!weight) continue; // of a part that was not loaded
    setAdapter(weight, undefined);
    for (const own of Object.values(loraNames(name))) model.parameters.remove(own);
  }
  model.lora = undefined;
}

/** Values of a layer's adapter on the host. */
export interface LoraValues {
  /** (rank, inputs) */
  a: Float32Array;
  /** (outputs, rank); absent: zeros. */
  b?: Float32Array;
  rank: number;
  alpha: number;
}

/** Uploads a layer's adapter, names it among the parameters and makes the weight carry it. */
export function placeAdapter(
  gpu: Gpu,
  parameters: Parameters,
  { name, outputs, inputs }: LoraLayer,
  weight: Tensor,
  { a, b, rank, alpha }: LoraValues,
  trainable: boolean,
): void {
  const names = loraNames(name);
  const tensors = {
    a: Tensor.from(gpu, a, [rank, inputs]),
    b: b ? Tensor.from(gpu, b, [outputs, rank]) : Tensor.zeros(gpu, [outputs, rank]),
  };
  parameters.add(names.a, tensors.a, trainable);
  parameters.add(names.b, tensors.b, trainable);
  setAdapter(weight, { ...tensors, scale: alpha / rank });
}

/** Sums up an adapter. */
export function loraInfo(spec: LoraSpec, layers: readonly LoraLayer[]): LoraInfo {
  const count = layers.reduce((n, { outputs, inputs }) => n + spec.rank * (outputs + inputs), 0);
  const { rank, alpha, targets } = spec;
  return { rank, alpha, targets: [...targets], layers, parameters: count, bytes: 4 * count };
}

/** The layer that a weight belongs to. */
export function layerOf(weightName: string): string {
  return weightName.replace(/\.weight$/, "");
}

/** @throws {UsageError} If a number is out of range, or there is no target */
function checkSpec({ rank, alpha, targets }: LoraSpec): void {
  const wrong = !(Number.isInteger(rank) && rank >= 1)
    ? [`rank ${rank}`, "a rank is a whole number from 1; 4 to 16 are usual"]
    : !(Number.isFinite(alpha) && alpha > 0)
    ? [`alpha ${alpha}`, "alpha is a number above 0; once or twice the rank is usual"]
    : targets.length === 0
    ? ["no targets", "name layers, such as und.layers.*.attn"]
    : undefined;
  if (wrong) throw new UsageError(`Cannot attach adapters with ${wrong[0]}`, { help: wrong[1] });
}
