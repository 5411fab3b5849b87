// One objective of a training step: a packed batch, the losses taken from it and the gradient routes that
// are open. Understanding and generation samples are separate objectives, so that each can be clipped on
// its own: with one global norm, the flow gradient rescales the updates of the und expert.

import { backward } from "../autograd.ts";
import type { PackedBatch } from "../data/packed_batch.ts";
import { type ModelInputs, prepareBatch } from "../model/batch.ts";
import type { DecoderOptions } from "../model/language.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import { keepSite, type Site } from "../nn/site.ts";
import { add } from "../ops/add.ts";
import { weightedSum } from "../ops/sum.ts";
import { scale } from "../ops/unary.ts";
import { Tensor } from "../tensor.ts";

/** What a step learns from. */
export interface Objective {
  /** Name in metrics: `text`, `flow`, `all`. */
  name: string;
  inputs: ModelInputs;
  /** Factor of the mean cross-entropy. Default: 1. */
  textWeight?: number;
  /** Factor of the mean flow error. Default: 1. */
  flowWeight?: number;
  /** Weight each text by 1/√(its predicted tokens), as `ce_loss_reweighting`. Default: false. */
  reweightText?: boolean;
  /** Layers where the flow loss must not reach und keys and values. */
  blocked?: DecoderOptions["blocked"];
  /** Blocks whose activations are computed again in the backward pass. Default: none. */
  checkpoint?: DecoderOptions["checkpoint"];
  /**
   * What the sums are divided by, where the batch is one of several of a step: Σ of text weights and number of
   * flow tokens over all of them. Default: the batch's own.
   */
  totals?: LossTotals;
}

/** Denominators of the two losses. */
export interface LossTotals {
  text: number;
  flow: number;
}

/** Σ of text weights and number of flow tokens of a batch: what its own means are divided by. */
export function lossTotals(packed: PackedBatch, reweightText: boolean): LossTotals {
  const { ceLossWeights, mseLossIndexes } = packed;
  const text = reweightText ? ceLossWeights.reduce((a, b) => a + b, 0) : ceLossWeights.length;
  return { text, flow: mseLossIndexes.length };
}

/** Losses (scalars, absent where the batch has none) and gradients of one objective. */
export interface ObjectiveResult {
  text?: Tensor;
  flow?: Tensor;
  total: Tensor;
  gradients: Map<Tensor, Tensor>;
}

/**
 * Means over predicted tokens, `text = Σ w·ce / Σ w` and `flow = Σ mse / n`, and the gradients of
 * `textWeight · text + flowWeight · flow` (reference: train loop of BAGEL, §3 of its loss).
 *
 * @throws {TypeError} If the batch has no loss at all
 */
export function runObjective(model: UniMedVL, objective: Objective): ObjectiveResult {
  const { text, flow, total } = objectiveLoss(model, objective);
  const gradients = backward(total);
  const result: ObjectiveResult = { total, gradients };
  if (text) result.text = text;
  if (flow) result.flow = flow;
  return result;
}

/** The losses of an objective, recorded but not differentiated; `site` sees every named value. */
export function objectiveLoss(
  model: UniMedVL,
  objective: Objective,
  site: Site = keepSite,
): Omit<ObjectiveResult, "gradients"> {
  const { gpu, config } = model;
  const batch = prepareBatch(gpu, config, objective.inputs);
  const out = model.forward(batch, {
    ...(objective.blocked ? { blocked: objective.blocked } : {}),
    ...(objective.checkpoint ? { checkpoint: objective.checkpoint } : {}),
    ...(site === keepSite ? {} : { site }),
  });
  const losses: { text?: Tensor; flow?: Tensor } = {};
  const parts: Tensor[] = [];
  if (out.textLoss && batch.textTarget) {
    const n = out.textLoss.size;
    const raw = objective.reweightText ? batch.textTarget.weights : new Float32Array(n).fill(1);
    const sum = objective.totals?.text ?? raw.reduce((a, b) => a + b, 0);
    const weights = Tensor.from(gpu, raw.map((w) => w / sum), [n]);
    const text = weightedSum(out.textLoss, weights);
    losses.text = text.alias(); // backward frees what it passes; this handle stays
    parts.push(weighted(text, objective.textWeight));
  }
  if (out.flowLoss) {
    const n = out.flowLoss.size;
    const even = Tensor.from(gpu, new Float32Array(n).fill(1 / (objective.totals?.flow ?? n)), [n]);
    const flow = weightedSum(out.flowLoss, even);
    losses.flow = flow.alias();
    parts.push(weighted(flow, objective.flowWeight));
  }
  if (parts.length === 0) {
    throw new TypeError(`Cannot train on objective "${objective.name}": its batch has no loss`);
  }
  return { ...losses, total: parts.length === 2 ? add(parts[0], parts[1]) : parts[0] };
}

function weighted(loss: Tensor, factor = 1): Tensor {
  return factor === 1 ? loss : scale(loss, factor);
}
