// A communicator over Open MPI. All operations are its non-blocking ones, tested from the event loop: while ranks wait
// for each other, read-backs arrive, signals are heard, and a rank that waits too long says so.

import { ResourceError } from "../errors.ts";
import { checkCounts, checkRoot, type Communicator } from "./communicator.ts";
import { loadMpi, type MpiLibrary } from "./mpi_library.ts";

const FUNNELED = 1; // threads are the runtime's; only this one calls MPI
const SUCCESS = 0;
const ERROR_BYTES = 256; // MPI_MAX_ERROR_STRING
const MOST = 2 ** 31 - 1; // counts are 32-bit
/** MPI_IN_PLACE: the result replaces what is sent. */
const IN_PLACE = 1n;
/** Tests of a new operation before the event loop is given a turn: short ones among ranks of one machine end here. */
const FIRST_TESTS = 100;

/** Settings of {@link openMpi}. */
export interface MpiOptions {
  /** Path of the library. Default: where packages put it. */
  library?: string;
  /** Number of this process on its machine. Default: 0. */
  localRank?: number;
  /** Longest wait for the other ranks in one operation, in milliseconds. Default: 30 minutes. */
  patienceMs?: number;
}

/** One operation on its way, with everything that must stay where it is until it is done. */
interface Pending {
  what: string;
  request: BigUint64Array<ArrayBuffer>;
  kept: readonly unknown[];
  started: number;
  done: (error?: Error) => void;
}

/**
 * Joins the group that mpirun started.
 *
 * @throws {ResourceError} If Open MPI is not there or refuses
 */
export function openMpi(options: MpiOptions = {}): Communicator {
  return new Mpi(loadMpi(options.library), options);
}

class Mpi implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly localRank: number;

  readonly #library: MpiLibrary;
  readonly #patienceMs: number;
  readonly #flag = still(new Int32Array(1));
  #pending: Pending[] = [];
  #polling = false;
  #finalized = false;

  constructor(library: MpiLibrary, options: MpiOptions) {
    this.#library = library;
    this.#patienceMs = options.patienceMs ?? 30 * 60_000;
    const { call, constants: { world, errorsReturn } } = library;
    const number = still(new Int32Array(1));
    this.#check("start", call.MPI_Init_thread(null, null, FUNNELED, number));
    if (number[0] < FUNNELED) {
      throw new ResourceError(
        `Cannot start MPI: it offers thread level ${number[0]} of ${FUNNELED}`,
      );
    }
    this.#check("set its errors", call.MPI_Comm_set_errhandler(world, errorsReturn));
    this.#check("ask the rank", call.MPI_Comm_rank(world, number));
    this.rank = number[0];
    this.#check("ask the size", call.MPI_Comm_size(world, number));
    this.size = number[0];
    this.localRank = options.localRank ?? 0;
  }

  sum(values: Float32Array): Promise<void> {
    return this.#sum(values, this.#library.constants.float);
  }

  async sumNumbers(values: readonly number[]): Promise<number[]> {
    const sums = still(new Float64Array(values.length));
    sums.set(values);
    await this.#sum(sums, this.#library.constants.double);
    return [...sums];
  }

  broadcast(values: Uint8Array | Float32Array, root: number): Promise<void> {
    checkRoot(this, root);
    const { call, constants: { byte, world } } = this.#library;
    const count = int32(values.byteLength);
    return this.#start(
      "broadcast",
      (request) => call.MPI_Ibcast(still(values), count, byte, root, world, request),
      [values],
    );
  }

  async reduceScatter(values: Float32Array, counts: readonly number[]): Promise<Float32Array> {
    const wanted = counts.reduce((a, b) => a + b, 0);
    checkCounts(this, counts, { length: values.length, wanted });
    const own = still(new Float32Array(counts[this.rank]));
    const sizes = int32s(counts);
    const { call, constants: { float, sum, world } } = this.#library;
    await this.#start(
      "reduce-scatter",
      (request) =>
        call.MPI_Ireduce_scatter(
          still(values),
          still(own),
          sizes,
          float,
          sum,
          world,
          request,
        ),
      [values, own, sizes],
    );
    return own;
  }

  async allGather(own: Uint8Array, counts: readonly number[]): Promise<Uint8Array> {
    checkCounts(this, counts, { length: own.length, wanted: counts[this.rank] ?? 0 });
    let size = 0;
    const starts = int32s(counts.map((n) => (size += n) - n));
    const all = still(new Uint8Array(int32(size)));
    const sizes = int32s(counts);
    const { call, constants: { byte, world } } = this.#library;
    await this.#start(
      "all-gather",
      (request) =>
        call.MPI_Iallgatherv(
          still(own),
          own.length,
          byte,
          all,
          sizes,
          starts,
          byte,
          world,
          request,
        ),
      [own, all, sizes, starts],
    );
    return all;
  }

  barrier(): Promise<void> {
    const { call, constants: { world } } = this.#library;
    return this.#start("barrier", (request) => call.MPI_Ibarrier(world, request), []);
  }

  progress(): void {
    const [oldest] = this.#pending;
    if (oldest) this.#test(oldest); // one test advances all
  }

  abort(code: number): never {
    this.#library.call.MPI_Abort(this.#library.constants.world, code);
    Deno.exit(code);
  }

  finalize(): void {
    if (this.#finalized) return;
    if (this.#pending.length > 0) {
      throw new Error(`internal: MPI is left with a ${this.#pending[0].what} on its way`);
    }
    this.#finalized = true;
    this.#check("end", this.#library.call.MPI_Finalize());
  }

  #sum(values: Float32Array | Float64Array, type: Deno.PointerObject): Promise<void> {
    const { call, constants: { sum, world } } = this.#library;
    const count = int32(values.length);
    return this.#start(
      "all-reduce",
      (request) => call.MPI_Iallreduce(IN_PLACE, still(values), count, type, sum, world, request),
      [values],
    );
  }

  /** Starts an operation; what it reads and writes is kept in place until it is done. */
  #start(
    what: string,
    begin: (request: BigUint64Array<ArrayBuffer>) => number,
    kept: readonly unknown[],
  ): Promise<void> {
    if (this.#finalized) throw new Error(`internal: a ${what} after MPI ended`);
    const request = still(new BigUint64Array(1));
    this.#check(what, begin(request));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const done = (error?: Error) => error ? reject(error) : resolve();
    const pending: Pending = { what, request, kept, started: performance.now(), done };
    this.#pending.push(pending);
    for (let i = 0; i < FIRST_TESTS; i++) if (this.#test(pending)) return promise;
    this.#poll();
    return promise;
  }

  /** Whether an operation is done; then its promise is settled. */
  #test(pending: Pending): boolean {
    const code = this.#library.call.MPI_Test(pending.request, this.#flag, null);
    if (code === SUCCESS && this.#flag[0] === 0) return false;
    this.#pending = this.#pending.filter((other) => other !== pending);
    pending.done(code === SUCCESS ? undefined : this.#failure(pending.what, code));
    return true;
  }

  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    while (this.#pending.length > 0) {
      await new Promise((resolve) => setTimeout(resolve));
      for (const pending of [...this.#pending]) {
        if (this.#test(pending)) continue;
        const waited = performance.now() - pending.started;
        if (waited < this.#patienceMs) continue;
        this.#pending = this.#pending.filter((other) => other !== pending);
        pending.done(
          new ResourceError(
            `Cannot go on: rank ${this.rank} waited ${Math.round(waited / 1000)} s for the other ` +
              `${this.size - 1} in one ${pending.what}`,
            { help: "see which rank hangs; start again with --resume" },
          ),
        );
      }
    }
    this.#polling = false;
  }

  #check(what: string, code: number): void {
    if (code !== SUCCESS) throw this.#failure(what, code);
  }

  #failure(what: string, code: number): ResourceError {
    const text = new Uint8Array(ERROR_BYTES);
    const length = still(new Int32Array(1));
    this.#library.call.MPI_Error_string(code, text, length);
    const said = new TextDecoder().decode(text.subarray(0, length[0])) || `error ${code}`;
    return new ResourceError(`Cannot go on: MPI failed to ${what}: ${said}`, {
      help: "start again with --resume; the last checkpoint stands",
    });
  }
}

/**
 * Values whose address stays the same for as long as somebody holds them: small arrays lie in the collector's own heap,
 * which moves them, until their buffer is asked for.
 */
function still<T extends ArrayBufferView>(values: T): T & ArrayBufferView<ArrayBuffer> {
  void values.buffer.byteLength;
  return values as T & ArrayBufferView<ArrayBuffer>;
}

function int32s(numbers: readonly number[]): Int32Array {
  const list = still(new Int32Array(numbers.length));
  list.set(numbers.map(int32));
  return list;
}

function int32(n: number): number {
  if (n > MOST) throw new RangeError(`Cannot send ${n} values at once: MPI counts to ${MOST}`);
  return n;
}
