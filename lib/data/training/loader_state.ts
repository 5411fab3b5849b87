// Where a loader stands between two batches, as it goes into a checkpoint: positions and counts, and the slots
// of samples that wait. The samples themselves are read again.

import { InputError } from "../../errors.ts";
import { type Task, TASKS } from "./record.ts";
import type { SlotPosition, SlotRef } from "./slots.ts";

/** What was left out: how many, and the first of them in words. */
export interface LeftOut {
  count: number;
  listed: string[];
}

/** Most messages kept of each kind. */
export const MOST_LISTED = 20;

/** JSON. Counts are of this rank, from the very first batch on. */
export interface LoaderState {
  version: 1;
  seed: number;
  rank: number;
  ranks: number;
  batches: "samples" | "tokens";
  /** The next slot and the records drawn before it. */
  position: SlotPosition;
  /** The same for the samples that mandatory tasks draw apart. */
  mandatory: Partial<Record<Task, SlotPosition>>;
  buffer: SlotRef[];
  hand: SlotRef | null;
  /** Samples and tokens that went into batches. */
  drawn: Record<Task, { samples: number; tokens: number }>;
  /** Records read, bad and long ones included. */
  read: number;
  bad: LeftOut;
  long: LeftOut;
}

/** The state before the first batch. */
export function firstState(
  seed: number,
  rank: number,
  ranks: number,
  batches: LoaderState["batches"],
): LoaderState {
  return {
    version: 1,
    seed,
    rank,
    ranks,
    batches,
    position: { slot: batches === "tokens" ? rank : 0, counts: {} },
    mandatory: {},
    buffer: [],
    hand: null,
    drawn: Object.fromEntries(
      TASKS.map((t) => [t, { samples: 0, tokens: 0 }]),
    ) as LoaderState["drawn"],
    read: 0,
    bad: { count: 0, listed: [] },
    long: { count: 0, listed: [] },
  };
}

/**
 * A state as it was read from a file.
 *
 * @param value parsed JSON
 * @param name what to call it in errors
 * @throws {InputError} If a field is missing or of another kind
 */
export function checkLoaderState(value: unknown, name = "loader state"): LoaderState {
  const state = value as LoaderState;
  const fail = (field: string): never => {
    throw new InputError(`Cannot continue from ${name}: "${field}" is missing or wrong`, {
      help: "Take the state of another checkpoint",
    });
  };
  const isWhole = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  const isPosition = (p: SlotPosition | undefined) =>
    isWhole(p?.slot) && typeof p?.counts === "object" && p.counts !== null &&
    Object.values(p.counts).every(isWhole);
  const isRef = (r: SlotRef | null) =>
    isWhole(r?.slot) && isWhole(r?.ordinal) && isWhole(r?.attempt) && typeof r?.stream === "string";
  const isLeftOut = (l: LeftOut | undefined) =>
    isWhole(l?.count) && Array.isArray(l?.listed) && l.listed.every((m) => typeof m === "string");
  if (typeof value !== "object" || value === null || state.version !== 1) fail("version");
  for (const field of ["seed", "rank", "ranks", "read"] as const) {
    if (!isWhole(state[field])) fail(field);
  }
  if (state.batches !== "samples" && state.batches !== "tokens") fail("batches");
  if (!isPosition(state.position)) fail("position");
  if (typeof state.mandatory !== "object" || state.mandatory === null) fail("mandatory");
  if (!Object.values(state.mandatory).every(isPosition)) fail("mandatory");
  if (!Array.isArray(state.buffer) || !state.buffer.every(isRef)) fail("buffer");
  if (state.hand !== null && !isRef(state.hand)) fail("hand");
  for (const task of TASKS) {
    const drawn = state.drawn?.[task];
    if (!isWhole(drawn?.samples) || !isWhole(drawn?.tokens)) fail(`drawn.${task}`);
  }
  if (!isLeftOut(state.bad)) fail("bad");
  if (!isLeftOut(state.long)) fail("long");
  return state;
}
