// From sources to batches without end: which record comes next, its preparation in workers, packing, and batches
// made ahead of the step that wants them. The state after any batch is small and complete: a loader opened with
// it gives the same batches from there on, bit for bit.

import { InputError, UsageError } from "../../errors.ts";
import { refuseTooManyBad } from "./too_many_bad.ts";
import { type LoadedBatch, makeBatch } from "./loaded_batch.ts";
import { checkLoaderOptions, type LoaderOptions } from "./loader_options.ts";
import { firstState, type LeftOut, type LoaderState, MOST_LISTED } from "./loader_state.ts";
import { Lookahead } from "./lookahead.ts";
import { type DrawSample, type Held, takeBatch } from "./pack_policy.ts";
import { takeBatchAsReference } from "./pack_policy_reference.ts";
import { openPreparePool, type PreparePool } from "./prepare_pool.ts";
import { type PrepareContext, type PreparedSample, type PreparedSlot } from "./prepared.ts";
import { prepareSlot } from "./prepared.ts";
import { type Task, TASKS } from "./record.ts";
import {
  openStreams,
  SlotChoice,
  SlotCursor,
  type SlotPosition,
  type SlotRef,
  type Stream,
  walkAlone,
  type WalkedSlot,
  walkInTurn,
} from "./slots.ts";

export type { LoadedBatch, LoadedSample } from "./loaded_batch.ts";
export type { LoaderOptions } from "./loader_options.ts";
export { checkLoaderState, type LoaderState } from "./loader_state.ts";

/** An open loader. */
export interface Loader {
  /**
   * The next batch. One caller at a time.
   *
   * @throws {InputError} If more records are bad than allowed; no batch comes after that
   */
  next(): Promise<LoadedBatch>;
  /** The state it was opened with. */
  readonly start: LoaderState;
  /** Milliseconds that `next` had to wait, all calls together. */
  readonly waitedMs: number;
  /** Records left out because they cannot be used, and because they are too long, before the last batch given. */
  readonly bad: LeftOut;
  readonly long: LeftOut;
  /** Samples and tokens that went into the batches given, by task; those before `start` included. */
  readonly drawn: Record<Task, { samples: number; tokens: number }>;
  /** Ends the workers. Sources stay open. */
  close(): Promise<void>;
}

/** Other records that may be tried in place of one that cannot be used. */
const SUBSTITUTES = 16;
/** Slots without any usable record, one after the other, that end the loader. */
const MOST_EMPTY = 16;
/** The same where none is tried in its place, as the reference does. */
const MOST_EMPTY_REFERENCE = 10_000;
/** Samples prepared ahead, beside the batches: as many as the last batch had, within these. */
const LEAST_AHEAD = 4;
const MOST_AHEAD = 256;
/** Slots of the samples that mandatory tasks draw apart; one range per task. */
const APART = 2 ** 44;
/** The last part of their streams' keys. */
const MANDATORY = "mandatory";

/**
 * Opens a loader.
 *
 * @param state where another loader stood; default: the beginning
 * @throws {UsageError} If a setting is out of range, a task of the mix has no record, or the state is of another
 * seed, another kind of batch or (token batches) another division among ranks
 * @throws {InputError} If the tokenizer cannot be opened
 */
export async function openLoader(options: LoaderOptions, state?: LoaderState): Promise<Loader> {
  checkLoaderOptions(options);
  const { seed, rank = 0, ranks = 1, workers, images, tokenizer } = options;
  const batches = "samples" in options.batch ? "samples" : "tokens";
  const start = structuredClone(state ?? firstState(seed, rank, ranks, batches));
  checkFits(start, { seed, rank, ranks, batches });
  const feed = new Feed(options, start); // before the workers: it checks the mix
  const pool = await openPreparePool(workers, { images, tokenizer });
  return new BatchLoader(options, start, feed, pool);
}

function checkFits(
  state: LoaderState,
  now: Pick<LoaderState, "seed" | "rank" | "ranks" | "batches">,
): void {
  const refuse = (what: string, help: string) => {
    throw new UsageError(`Cannot continue loading: ${what}`, { help });
  };
  if (state.seed !== now.seed) {
    refuse(`the state is of seed ${state.seed}, the loader of ${now.seed}`, "Keep the seed");
  }
  if (state.batches !== now.batches) {
    refuse(
      `the state is of batches counted in ${state.batches}, the loader's in ${now.batches}`,
      "Keep the kind of batch",
    );
  }
  if (now.batches === "samples") return; // all ranks stand at the same slot
  if (state.ranks !== now.ranks || state.rank !== now.rank) {
    refuse(
      `the state is of rank ${state.rank} of ${state.ranks}, the loader of ${now.rank} of ${now.ranks}`,
      "Start as many ranks as before, each with its own state: token batches are divided by rank",
    );
  }
}

/** A slot that was made ready, and where the walk stands after it. */
type Arrived = PreparedSlot & { after: SlotPosition };

/** The slots of a rank, prepared ahead. */
class Feed {
  readonly #walk: () => WalkedSlot;
  readonly #apart = new Map<Task, () => WalkedSlot>();
  readonly #context: Omit<PrepareContext, "pool">;
  #slots: Lookahead<Arrived> | undefined;
  readonly #slotsApart = new Map<Task, Lookahead<Arrived>>();
  #pool: PreparePool | undefined;

  constructor(private readonly options: LoaderOptions, start: LoaderState) {
    const { batch, seed, rank = 0, ranks = 1, sources, reference = false } = options;
    const reshuffle = !reference;
    const ordinary = openStreams(sources, seed, { reshuffle });
    const choice = new SlotChoice(ordinary, options.mix, seed);
    const apart = needsApart(options, start)
      ? openStreams(sources, seed, { reshuffle, apart: MANDATORY })
      : new Map<string, Stream>();
    if ("samples" in batch) {
      this.#walk = walkInTurn(new SlotCursor(choice, start.position), batch.samples, rank, ranks);
    } else {
      this.#walk = walkAlone(new SlotCursor(choice, start.position, ranks, rank));
      for (const task of batch.mandatory ?? []) {
        const first = APART * (TASKS.indexOf(task) + 1) + rank;
        const from = start.mandatory[task] ?? { slot: first, counts: {} };
        const only = new SlotChoice(apart, { [task]: 1 }, seed);
        this.#apart.set(task, walkAlone(new SlotCursor(only, from, ranks, rank)));
      }
    }
    this.#context = {
      streams: new Map([...ordinary, ...apart]),
      seed,
      grid: options.pack,
      dropout: options.dropout,
      maxTokensPerSample: mostPerSample(options),
      substitutes: reference ? 0 : SUBSTITUTES,
    };
  }

  /** Begins to prepare. */
  begin(pool: PreparePool): void {
    this.#pool = pool;
    this.#slots = new Lookahead(() => this.#arrive(this.#walk()), LEAST_AHEAD);
    for (const [task, walk] of this.#apart) {
      this.#slotsApart.set(task, new Lookahead(() => this.#arrive(walk()), 1));
    }
  }

  /** Prepares as many samples ahead as a batch has. */
  expect(samples: number): void {
    this.#slots!.depth = Math.min(Math.max(samples, LEAST_AHEAD), MOST_AHEAD);
  }

  take(task?: Task): Promise<Arrived> {
    return (task === undefined ? this.#slots! : this.#slotsApart.get(task)!).take();
  }

  /** Reads the sample of a slot again. @throws {UsageError} If its source is gone */
  async again(ref: SlotRef): Promise<PreparedSlot> {
    if (!this.#context.streams.has(ref.stream)) {
      throw new UsageError(
        `Cannot continue loading: a sample of ${ref.stream} waits to be packed`,
        {
          help: "Keep its source, or continue from a checkpoint before it was added",
        },
      );
    }
    return await prepareSlot(ref, { ...this.#context, substitutes: 0, pool: this.#pool! });
  }

  async #arrive({ ref, after }: WalkedSlot): Promise<Arrived> {
    return { ...await prepareSlot(ref, { ...this.#context, pool: this.#pool! }), after };
  }
}

/** Whether samples are drawn apart, or one that was still waits. */
function needsApart({ batch }: LoaderOptions, { buffer, hand }: LoaderState): boolean {
  if ("mandatory" in batch && batch.mandatory.length > 0) return true;
  return [...buffer, ...(hand ? [hand] : [])].some(({ stream }) =>
    stream.endsWith(`/${MANDATORY}`)
  );
}

function mostPerSample({ batch, maxTokensPerSample = Infinity }: LoaderOptions): number {
  if ("samples" in batch) return maxTokensPerSample;
  return Math.min(batch.maxTokensPerSample, maxTokensPerSample);
}

class BatchLoader implements Loader {
  readonly #batches: Lookahead<LoadedBatch>;
  /** As far as batches are made; `#given` is as far as they were given out. */
  readonly #made: LoaderState;
  #given: LoaderState;
  #held: Held<PreparedSample> | undefined;
  #failed: { error: unknown } | undefined;
  #before: Promise<unknown> = Promise.resolve();
  #waitedMs = 0;
  readonly #now: () => number;

  constructor(
    private readonly options: LoaderOptions,
    readonly start: LoaderState,
    private readonly feed: Feed,
    private readonly pool: PreparePool,
  ) {
    this.#made = structuredClone(start);
    this.#given = start;
    this.#now = options.now ?? (() => performance.now());
    feed.begin(pool);
    this.#batches = new Lookahead(() => this.#inTurn(), options.prefetch ?? 2);
    this.#batches.fill();
  }

  async next(): Promise<LoadedBatch> {
    const asked = this.#now();
    try {
      const batch = await this.#batches.take();
      this.#given = batch.after;
      return batch;
    } finally {
      this.#waitedMs += this.#now() - asked;
    }
  }

  get waitedMs(): number {
    return this.#waitedMs;
  }

  get bad(): LeftOut {
    return this.#given.bad;
  }

  get long(): LeftOut {
    return this.#given.long;
  }

  get drawn(): LoaderState["drawn"] {
    return this.#given.drawn;
  }

  async close(): Promise<void> {
    this.#failed ??= { error: new Error("Cannot load a batch: the loader is closed") };
    await this.pool.close();
  }

  /** Batches are made one after the other; after a failure no more. */
  #inTurn(): Promise<LoadedBatch> {
    const made = this.#before.then(async () => {
      if (this.#failed) throw this.#failed.error;
      try {
        return await this.#make();
      } catch (error) {
        this.#failed ??= { error };
        throw error;
      }
    });
    this.#before = made.catch(() => {}); // who takes the batch hears of it
    return made;
  }

  async #make(): Promise<LoadedBatch> {
    this.#held ??= await this.#restore();
    const prepared = await this.#fill(this.#held);
    this.feed.expect(prepared.length);
    const batch = makeBatch(prepared, this.options);
    for (const { task, tokens } of batch.samples) {
      this.#made.drawn[task].samples++;
      this.#made.drawn[task].tokens += tokens;
    }
    this.#made.buffer = this.#held.buffer.map(({ ref }) => ref);
    this.#made.hand = this.#held.hand?.ref ?? null;
    return { ...batch, after: structuredClone(this.#made) };
  }

  async #fill(held: Held<PreparedSample>): Promise<PreparedSample[]> {
    const { batch, reference } = this.options;
    if ("samples" in batch) this.feed.expect(batch.samples);
    const draw: DrawSample<PreparedSample> = (task) => this.#draw(task);
    if ("samples" in batch) {
      const prepared: PreparedSample[] = [];
      while (prepared.length < batch.samples) prepared.push(await draw());
      return prepared;
    }
    const { expectedTokens, maxTokens, preferBufferBefore, buffer, mandatory = [] } = batch;
    const limits = {
      expected: expectedTokens,
      max: maxTokens,
      preferBufferBefore,
      buffer,
      mandatory,
    };
    if (!reference) return await takeBatch(held, limits, draw);
    return await takeBatchAsReference(
      held,
      { ...limits, maxPerSample: mostPerSample(this.options) },
      draw,
    );
  }

  async #draw(task?: Task): Promise<PreparedSample> {
    const most = this.options.reference ? MOST_EMPTY_REFERENCE : MOST_EMPTY;
    for (let empty = 0; empty < most; empty++) {
      const arrived = await this.feed.take(task);
      if (task === undefined) this.#made.position = arrived.after;
      else this.#made.mandatory[task] = arrived.after;
      this.#note(arrived);
      if (arrived.ready) return arrived.ready;
      if ("samples" in this.options.batch) break; // a slot of its own may not be passed over
    }
    const { bad, long } = this.#made;
    throw new InputError(
      `Cannot fill a batch: hardly a record can be used; ${bad.count} are bad, ${long.count} too long`,
      { help: "Allow more tokens per sample, smaller images, or repair the data" },
    );
  }

  /** Counts what was left out. @throws {InputError} If it is too much */
  #note({ read, refused }: PreparedSlot): void {
    const made = this.#made;
    made.read += read;
    for (const { kind, message } of refused) {
      const list = made[kind];
      list.count++;
      if (list.listed.length < MOST_LISTED) list.listed.push(message);
      this.options.onBad?.(message);
    }
    const { mostBad = 0 } = this.options;
    const bad = refused.filter(({ kind }) => kind === "bad").map(({ message }) => message);
    const tally = { read: made.read, bad: made.bad.count };
    if (bad.length > 0) refuseTooManyBad(tally, mostBad, bad, "data.mostBad");
  }

  /** Samples that waited when the state was taken. */
  async #restore(): Promise<Held<PreparedSample>> {
    const { buffer, hand } = this.start;
    const held: Held<PreparedSample> = { buffer: [], hand: null };
    for (const ref of buffer) {
      const { ready, refused } = await this.feed.again(ref);
      this.#note({ read: 0, refused }); // it was counted as read before
      if (ready) held.buffer.push(ready);
    }
    if (hand) {
      const { ready, refused } = await this.feed.again(hand);
      this.#note({ read: 0, refused });
      held.hand = ready ?? null;
    }
    return held;
  }
}
