// What the processes of one training do together besides exchanging gradients.

import type { Communicator } from "../comm/communicator.ts";
import type { AdamW } from "../train/adamw.ts";
import type { TensorEntry } from "../train/checkpoint/snapshot.ts";
import type { Shards } from "../train/shards.ts";
import type { Parameters } from "../nn/parameters.ts";

/** The texts of all ranks, in rank order. */
export async function gatherTexts(comm: Communicator, own: string): Promise<string[]> {
  const bytes = new TextEncoder().encode(own);
  const mine = Array.from({ length: comm.size }, (_, r) => r === comm.rank ? bytes.length : 0);
  const counts = await comm.sumNumbers(mine);
  const all = await comm.allGather(bytes, counts);
  let at = 0;
  return counts.map((count) => new TextDecoder().decode(all.subarray(at, at += count)));
}

/** Updates by parameter, where each rank counts those of its share only. */
export async function gatherUpdates(
  comm: Communicator,
  optimizer: AdamW,
  names: readonly string[],
): Promise<Record<string, number>> {
  const own = optimizer.steps();
  const counts = await comm.sumNumbers(names.map((name) => own[name] ?? 0));
  return Object.fromEntries(
    names.map((name, i) => [name, counts[i]] as const).filter(([, n]) => n > 0),
  );
}

/**
 * Moments and averages that the ranks share out, as entries of a checkpoint. Reading one is something that all ranks
 * do together, in the same order: the owner gives, the others take.
 *
 * @param updates counts of all parameters, from {@link gatherUpdates}
 * @param trained `names` that train in any stage, and whether their averages are kept
 */
export function sharedEntries(
  shards: Shards,
  optimizer: AdamW,
  parameters: Parameters,
  updates: Readonly<Record<string, number>>,
  { names, averaged }: { names: readonly string[]; averaged: boolean },
): Map<string, TensorEntry["read"]> {
  const entries = new Map<string, TensorEntry["read"]>();
  const add = (key: string, name: string) => {
    const { size } = parameters.get(name);
    entries.set(key, async () => {
      const local = optimizer.tensors().get(key);
      const values = await shards.fromOwner(name, local, size);
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    });
  };
  for (const name of Object.keys(updates)) {
    add(`m/${name}`, name);
    add(`v/${name}`, name);
  }
  for (const name of names) {
    if (averaged) add(`ema/${name}`, name);
    if (parameters.get(name).dtype === "bf16") add(`master/${name}`, name);
  }
  return entries;
}
