// Writing a checkpoint of a training, by one process or by several together, and the batches of a bad step.

import type { Communicator } from "../comm/communicator.ts";
import type { LoaderState } from "../data/training/loader.ts";
import { ADAPTER_FILE } from "../model/checkpoint_files.ts";
import { loraMetadata, saveLora } from "../model/lora_file.ts";
import type { Files } from "../train/checkpoint/files.ts";
import { planSnapshot } from "../train/checkpoint/snapshot.ts";
import { writeCheckpoint } from "../train/checkpoint/write.ts";
import { checkSameWeights } from "../train/ranks.ts";
import { writeReplay } from "../train/replay.ts";
import type { SessionParts } from "./open_session.ts";
import type { Pending } from "./pending_steps.ts";
import { gatherTexts, gatherUpdates, sharedEntries } from "./ranks.ts";
import { snapshotOf, type TrainState } from "./snapshot.ts";

/** Where a checkpoint goes, and what it keeps. */
export interface SaveTarget {
  run: string;
  /** Newest checkpoints kept. */
  keep: number;
  /** Whether averages of weights are kept in any stage. */
  averaged: boolean;
  comm: Communicator;
  /** Default: the disk. */
  files?: Files;
}

/** The state of a training beside its tensors, on one process. */
export interface OwnState extends Omit<TrainState, "format" | "loaders" | "updates"> {
  /** Where this process's loader goes on. */
  position: LoaderState;
}

/**
 * Writes a checkpoint; all processes of a training call this at the same step.
 *
 * @returns its folder relative to the run; "" on processes that do not write
 */
export async function saveSession(
  { opened, optimizer, record, group, mayTrain }: SessionParts,
  { position, ...own }: OwnState,
  { run, keep, averaged, comm, files }: SaveTarget,
): Promise<string> {
  const { adaptersOnly, texts, model } = opened;
  await checkSameWeights(comm, model.parameters.entries());
  const loaders = await gatherTexts(comm, JSON.stringify(position));
  const names = [...mayTrain];
  const updates = group?.shards ? await gatherUpdates(comm, optimizer, names) : optimizer.steps();
  const shared = group?.shards &&
    sharedEntries(group.shards, optimizer, model.parameters, updates, { names, averaged });
  const state: TrainState = {
    format: 1,
    ...own,
    loaders: loaders.map((text) => JSON.parse(text)),
    updates: sorted(updates),
  };
  const snapshot = snapshotOf({
    model,
    optimizer,
    state,
    adaptersOnly,
    texts,
    ...(opened.autoencoder ? { autoencoder: opened.autoencoder.parameters } : {}),
    ...(model.lora ? { adapterMetadata: await loraMetadata(model, model.lora) } : {}),
    ...(shared ? { shared } : {}),
  });
  if (!record) {
    // What is shared out is read by all ranks together, in the order in which the first one writes it.
    const together = new Set(shared?.values());
    for (const { tensors } of shared ? planSnapshot(snapshot).files : []) {
      for (const { read } of tensors) if (together.has(read)) await read();
    }
    return "";
  }
  record.flush();
  const { session } = record;
  const { row, removed } = await writeCheckpoint(run, snapshot, {
    keep,
    session,
    ...(files ? { files } : {}),
  });
  record.checkpoint(row, removed);
  // Beside the checkpoints: the newest adapter by itself, as verbs and `checkpoint merge` take it.
  if (adaptersOnly) await saveLora(model, `${run}/${ADAPTER_FILE}`);
  return row.path;
}

/** In one order, whatever order parameters were first updated in: equal states are equal files. */
const sorted = (counts: Record<string, number>) =>
  Object.fromEntries(Object.entries(counts).sort(([a], [b]) => a < b ? -1 : 1));

/**
 * Writes the batches of a bad step below `replay/`, for `deno task train --replay`.
 *
 * @param about why, and the checkpoint of the state before it
 * @returns the files
 */
export async function saveReplays(
  run: string,
  { step, objectives, samples }: Pending,
  about: { reason: string; checkpoint: string },
): Promise<string[]> {
  const folder = `${run}/replay`;
  await Deno.mkdir(folder, { recursive: true });
  const files: string[] = [];
  for (const [micro, objective] of objectives.entries()) {
    const path = `${folder}/step-${step.number}-${micro}.safetensors`;
    const facts = { step: step.number, micro, stage: step.stage, run, samples, ...about };
    await writeReplay(path, { facts, objective });
    files.push(path);
  }
  return files;
}
