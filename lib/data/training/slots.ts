// Which record comes where. An endless sequence of slots 0, 1, 2, … decides task, source and record by
// draws keyed by the seed and the slot: any process knows it without reading data, and a slot's record is
// the same whatever batch it lands in.

import { UsageError } from "../../errors.ts";
import { Draws } from "../draws.ts";
import { type Task, TASKS } from "./record.ts";
import { RecordOrder } from "./record_order.ts";
import type { RecordSource } from "./source.ts";

/** A source as the loader is given it. */
export interface WeightedSource {
  source: RecordSource;
  /** Share within each of its tasks, relative to other sources. Default: its records of that task. */
  weight?: number;
}

/** The records of one task in one source. */
export interface Stream {
  /** `source/task`; counters are kept under it. */
  key: string;
  source: RecordSource;
  task: Task;
  weight: number;
  order: RecordOrder;
}

/** A slot and what it holds: small enough to be kept in a checkpoint. */
export interface SlotRef {
  slot: number;
  /** Key of its stream. */
  stream: string;
  /** How many records of the stream were drawn before it. */
  ordinal: number;
  /** 0: the record of that place; n: the n-th in its stead, as those before could not be used. */
  attempt: number;
}

/**
 * All streams of some sources, by key.
 *
 * @param apart a word, for streams of the same records in another order and with counters of their own
 */
export function openStreams(
  sources: readonly WeightedSource[],
  seed: number,
  { reshuffle = true, apart }: { reshuffle?: boolean; apart?: string } = {},
): Map<string, Stream> {
  const streams = new Map<string, Stream>();
  for (const { source, weight } of sources) {
    for (const [code, task] of TASKS.entries()) {
      const records = placesOf(source.tasks, code);
      if (records.length === 0) continue;
      const name = [source.name, task, ...(apart === undefined ? [] : [apart])];
      const key = name.join("/");
      if (streams.has(key)) {
        throw new UsageError(`Cannot load two sources named ${JSON.stringify(source.name)}`, {
          help: "Give each source a name of its own",
        });
      }
      const order = new RecordOrder(records, source.blocks, [seed, ...name], reshuffle);
      streams.set(key, { key, source, task, weight: weight ?? records.length, order });
    }
  }
  return streams;
}

function placesOf(codes: Uint8Array, code: number): Uint32Array {
  let count = 0;
  for (const c of codes) if (c === code) count++;
  const places = new Uint32Array(count);
  let at = 0;
  codes.forEach((c, i) => {
    if (c === code) places[at++] = i;
  });
  return places;
}

/** Decides what a slot holds but for the place in the stream. */
export class SlotChoice {
  readonly #tasks: { task: Task; streams: Stream[] }[];
  readonly #shares: number[];

  /**
   * @param mix shares of the tasks; not normalised
   * @throws {UsageError} If a task with a share has no record, or no task has a share
   */
  constructor(
    streams: ReadonlyMap<string, Stream>,
    mix: Partial<Record<Task, number>>,
    private readonly seed: number,
  ) {
    const wanted = TASKS.filter((task) => (mix[task] ?? 0) > 0);
    if (wanted.length === 0) {
      throw new UsageError("Cannot load data: the mix gives no task a share", {
        help: `Give at least one of ${TASKS.join(", ")} a positive number`,
      });
    }
    this.#shares = wanted.map((task) => mix[task]!);
    this.#tasks = wanted.map((task) => {
      const mine = [...streams.values()].filter((s) => s.task === task && s.weight > 0);
      if (mine.length > 0) return { task, streams: mine };
      throw new UsageError(
        `Cannot load data: the mix has ${task}, but no source has a record of it`,
        {
          help: `Set the share of ${task} to 0, or add a source with such records`,
        },
      );
    });
  }

  /** The stream of a slot. */
  stream(slot: number): Stream {
    const draws = new Draws("slot", this.seed, slot);
    const { streams } = this.#tasks[draws.weighted(this.#shares)];
    return streams.length === 1
      ? streams[0]
      : streams[draws.weighted(streams.map((s) => s.weight))];
  }
}

/** Where a walk along the slots stands. */
export interface SlotPosition {
  /** The next slot. */
  slot: number;
  /** Records drawn before it, by stream; streams out of use keep their count. */
  counts: Readonly<Record<string, number>>;
}

/**
 * Walks along slots. Two ways to divide them among ranks: with `stride` 1 every rank walks all of them, counts
 * all and reads its own; with stride N a rank sees every N-th alone, and takes every N-th record of a stream.
 */
export class SlotCursor {
  #slot: number;
  readonly #counts: Record<string, number>;

  constructor(
    private readonly choice: SlotChoice,
    from: SlotPosition,
    private readonly stride: number = 1,
    private readonly offset: number = 0,
  ) {
    this.#slot = from.slot;
    this.#counts = { ...from.counts };
  }

  /** What the next slot holds; goes on to the one after. */
  take(): SlotRef {
    const slot = this.#slot;
    const { key } = this.choice.stream(slot);
    const drawn = this.#counts[key] ?? 0;
    this.#counts[key] = drawn + 1;
    this.#slot += this.stride;
    return { slot, stream: key, ordinal: drawn * this.stride + this.offset, attempt: 0 };
  }

  get position(): SlotPosition {
    return { slot: this.#slot, counts: { ...this.#counts } };
  }
}

/** A slot to be read, and where its rank stands once it is used. */
export interface WalkedSlot {
  ref: SlotRef;
  after: SlotPosition;
}

/** Own slots of a rank that sees no others. */
export function walkAlone(cursor: SlotCursor): () => WalkedSlot {
  return () => {
    const ref = cursor.take();
    return { ref, after: cursor.position };
  };
}

/**
 * Own slots of a rank where micro-batches of `samples` slots go round the ranks: it reads every `ranks`-th. A
 * round ends for all at the same position.
 */
export function walkInTurn(
  cursor: SlotCursor,
  samples: number,
  rank: number,
  ranks: number,
): () => WalkedSlot {
  let taken = 0; // of the round in hand, by all ranks
  const skipTo = (place: number) => {
    for (; taken < place; taken++) cursor.take();
  };
  return () => {
    skipTo(rank * samples);
    const ref = cursor.take();
    taken++;
    if (taken === (rank + 1) * samples) {
      skipTo(ranks * samples);
      taken = 0;
    }
    return { ref, after: cursor.position };
  };
}
