// A batch on disk: everything one forward and backward pass reads, so that a step that went wrong can be looked at
// again. One safetensors file; what is no array stands in its metadata.

import type { Mode, PackedBatch } from "../data/packed_batch.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../data/safetensors.ts";
import { InputError } from "../errors.ts";
import type { ModelInputs } from "../model/batch.ts";
import type { LossTotals, Objective } from "./objective.ts";

const KIND = "oka-replay";

const INTEGERS = [
  "positionIds",
  "sample",
  "split",
  "mode",
  "branch",
  "hidden",
  "textIds",
  "textIndexes",
  "ceLossIndexes",
  "labelIds",
  "vitPositionIds",
  "vitTokenIndexes",
  "vitSeqlens",
  "latentPositionIds",
  "vaeTokenIndexes",
  "mseLossIndexes",
  "mseRows",
] as const satisfies readonly (keyof PackedBatch)[];
const FLOATS = ["ceLossWeights", "vitTokens", "timesteps"] as const satisfies readonly (
  keyof PackedBatch
)[];
const INPUTS = ["latents", "noise", "timesteps"] as const satisfies readonly (keyof ModelInputs)[];

/** What a replay file says besides its arrays. */
export interface ReplayFacts {
  /** The step that was to be made, from 1. */
  step: number;
  /** Which micro-batch of that step, from 0. */
  micro: number;
  stage: string;
  /** Run folder, and the checkpoint with the weights before that step, relative to it. */
  run: string;
  checkpoint: string;
  /** What was wrong, in words. */
  reason: string;
  /** Where the samples came from: file and line. */
  samples: string[];
}

/** A micro-batch with its losses, as a replay file keeps it. */
export interface Replay {
  facts: ReplayFacts;
  objective: Objective;
}

/** Writes a micro-batch; the file appears whole or not at all. Latents stand in for pixels, which are left out. */
export async function writeReplay(path: string, { facts, objective }: Replay): Promise<void> {
  const { packed } = objective.inputs;
  const tensors: [string, TensorToWrite][] = [];
  for (const name of INTEGERS) {
    const data = packed[name];
    tensors.push([`packed.${name}`, { dtype: "I32", shape: [data.length], data }]);
  }
  for (const name of FLOATS) {
    const data = packed[name];
    tensors.push([`packed.${name}`, { dtype: "F32", shape: [data.length], data }]);
  }
  for (const name of INPUTS) {
    const data = objective.inputs[name];
    if (data) tensors.push([`inputs.${name}`, { dtype: "F32", shape: [data.length], data }]);
  }
  const { sampleLens, splitLens, splitModes, latentShapes } = packed;
  const { textWeight, flowWeight, reweightText, totals, name } = objective;
  const text = {
    facts,
    lengths: { sampleLens, splitLens, splitModes, latentShapes },
    loss: { name, textWeight, flowWeight, reweightText, totals },
  };
  await writeSafetensors(path, tensors, { kind: KIND, replay: JSON.stringify(text) });
}

/**
 * Reads a micro-batch back.
 *
 * @throws {InputError} If the file is missing, damaged or no replay
 */
export async function readReplay(path: string): Promise<Replay> {
  const file = await openSafetensors(path);
  try {
    const replay = file.metadata.get("replay");
    if (file.metadata.get("kind") !== KIND || replay === undefined) {
      throw new InputError(`Cannot replay ${path}: it is no saved batch`, {
        help: "Give the file that the stopped run named, below its folder replay/",
      });
    }
    const { facts, lengths, loss } = JSON.parse(replay) as {
      facts: ReplayFacts;
      lengths: {
        sampleLens: number[];
        splitLens: number[];
        splitModes: Mode[];
        latentShapes: [number, number][];
      };
      loss: {
        name: string;
        textWeight?: number;
        flowWeight?: number;
        reweightText?: boolean;
        totals?: LossTotals;
      };
    };
    const lists: Record<string, Int32Array | Float32Array> = {};
    for (const name of INTEGERS) lists[name] = await file.readInt32(`packed.${name}`);
    for (const name of FLOATS) lists[name] = await file.readFloat32(`packed.${name}`);
    const packed = {
      ...lists,
      ...lengths,
      sequenceLength: lists.positionIds.length,
      vaeImages: [],
    } as unknown as PackedBatch;
    const inputs: ModelInputs = { packed };
    for (const name of INPUTS) {
      if (file.tensors.has(`inputs.${name}`)) {
        inputs[name] = await file.readFloat32(`inputs.${name}`);
      }
    }
    return { facts, objective: { ...loss, inputs } };
  } finally {
    file.close();
  }
}
