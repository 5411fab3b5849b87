// One slot made ready: its record read and turned into a sample, or, where that fails, another record of the
// same stream in its stead. Everything random about a sample is drawn here, by keys of seed and slot.

import { InputError } from "../../errors.ts";
import { Draws } from "../draws.ts";
import { type Sample, tokenCount, type TokenGrid } from "../sample.ts";
import type { PreparePool } from "./prepare_pool.ts";
import type { Task } from "./record.ts";
import type { SlotRef, Stream } from "./slots.ts";
import type { Sized } from "./pack_policy.ts";

/** A sample that waits to be packed, and where it came from. */
export interface PreparedSample extends Sized {
  ref: SlotRef;
  sample: Sample;
  source: string;
  index: number;
  epoch: number;
  where: string;
}

/** A record that was left out, and why. */
export interface Refusal {
  kind: "bad" | "long";
  message: string;
}

/** What became of a slot. */
export interface PreparedSlot {
  /** Missing if no record in its stead could be used either. */
  ready?: PreparedSample;
  /** Records read. */
  read: number;
  refused: Refusal[];
}

/** What making a slot ready takes. */
export interface PrepareContext {
  streams: ReadonlyMap<string, Stream>;
  pool: PreparePool;
  seed: number;
  grid: TokenGrid;
  dropout: { text: number; vit: number; vae: number };
  maxTokensPerSample: number;
  /** How many other records may be tried in place of one. */
  substitutes: number;
}

/** Reads and prepares what a slot holds. @throws What is not the data's fault */
export async function prepareSlot(first: SlotRef, context: PrepareContext): Promise<PreparedSlot> {
  const { streams, pool, seed, grid } = context;
  const { order, source, task } = streams.get(first.stream)!;
  const { slot, ordinal } = first;
  const refused: Refusal[] = [];
  let read = 0;
  for (let attempt = first.attempt; attempt <= first.attempt + context.substitutes; attempt++) {
    const place = order.at(ordinal);
    const index = attempt === 0
      ? place.index
      : order.pick(new Draws("instead", seed, slot, attempt));
    read++;
    try {
      const record = await source.read(index, new Draws("record", seed, slot, attempt));
      const sample = await pool.prepare(record);
      const tokens = tokenCount(sample, grid);
      if (tokens > context.maxTokensPerSample) {
        const message = `Cannot use ${record.where}: it has ${tokens} tokens, ` +
          `more than ${context.maxTokensPerSample} per sample`;
        refused.push({ kind: "long", message });
        continue;
      }
      const ready: PreparedSample = {
        ref: { ...first, attempt },
        sample,
        task: task as Task,
        source: source.name,
        index,
        epoch: place.epoch,
        where: record.where,
        tokens,
        length: tokens - droppedTokens(sample, context, dropoutDraws(seed, slot)),
      };
      return { ready, read, refused };
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      refused.push({ kind: "bad", message: error.message });
    }
  }
  return { read, refused };
}

/** Draws that decide which conditions of a slot's sample are dropped. */
export function dropoutDraws(seed: number, slot: number): Draws {
  return new Draws("dropout", seed, slot);
}

/** Draws of the timesteps of a slot's noised images. */
export function timestepDraws(seed: number, slot: number): Draws {
  return new Draws("timestep", seed, slot);
}

/** Tokens that dropout takes away, by the rule of `packBatch`. */
function droppedTokens(
  sample: Sample,
  { dropout, grid }: Pick<PrepareContext, "dropout" | "grid">,
  draws: Draws,
): number {
  const kind = { text: "text", vit_image: "vit", vae_image: "vae" } as const;
  const gone = sample.plan.filter((item) => {
    return item.dropout && draws.uniform() < dropout[kind[item.type]];
  });
  return tokenCount({ plan: gone }, grid);
}
