// Whether a training will be able to save, asked before its first step: not after the hours until its first
// checkpoint.

import { bytesOf } from "../tensor.ts";
import type { Files } from "../train/checkpoint/files.ts";
import { checkRoom } from "../train/checkpoint/room.ts";
import type { TrainModel } from "./model.ts";

/** What a checkpoint will hold. */
export interface ToSave {
  opened: Pick<TrainModel, "model" | "adaptersOnly">;
  /** Names of the parameters that train in any stage. */
  mayTrain: ReadonlySet<string>;
  /** Whether averages are kept. */
  averaged: boolean;
}

/** Bytes of a checkpoint's tensors once every parameter that may train was updated. */
export function checkpointBytes({ opened, mayTrain, averaged }: ToSave): number {
  let bytes = 0;
  for (const [name, { shape, dtype }] of opened.model.parameters.entries()) {
    const trains = mayTrain.has(name);
    if (opened.adaptersOnly && !trains) continue;
    const [stored, wide] = [bytesOf(shape, dtype), bytesOf(shape, "f32")];
    bytes += stored;
    if (averaged) bytes += trains ? wide : stored;
    if (trains) bytes += 2 * wide + (dtype === "f32" ? 0 : wide); // moments, and what bf16 is rounded from
  }
  return bytes;
}

/**
 * Makes sure that a run can save its checkpoints. One that goes on has some, which make room: only the right to write
 * is looked at.
 *
 * @throws {ResourceError} If their folder cannot be written, or a new run's disk has not the space for one
 */
export async function checkRunRoom(
  run: string,
  toSave: ToSave,
  goesOn: boolean,
  files?: Files,
): Promise<void> {
  await checkRoom(run, goesOn ? 0 : checkpointBytes(toSave), files);
}
