// Device time per dispatch and copy, from timestamps at both ends of a pass of its own. A run so measured is slower:
// work that would share a pass no longer does.

import {
  type KernelTime,
  kernelTimes,
  Latest,
  Sums,
  type TimedCall,
  type Work,
} from "./timings.ts";
import { type ChromeTrace, chromeTrace, type HostSpan } from "./trace.ts";

/** Commands per submit: WebGPU allows 4096 queries in a set (W3C WebGPU, §20.1), each command takes two. */
const CAPACITY = 2048;
const BATCH_BYTES = 8 * 2 * CAPACITY;
/** Commands kept one by one, for traces and sequences; sums are over all. */
const MOST_CALLS = 200_000;
const MOST_SPANS = 50_000;
/** Batches that wait to be read, at most: a run without a single wait would pile them up. */
const MOST_WAITING = 256;

/** Commands of one submit, their timestamps on the way to the host. */
interface Batch {
  calls: { label: string; work: Work; first: boolean }[];
  /** Host milliseconds: first command recorded, and submitted. */
  openedAt: number;
  submittedAt: number;
  stamps: Stamps;
}

/** Where timestamps are resolved and read; reused. */
interface Stamps {
  resolved: GPUBuffer;
  read: GPUBuffer;
}

/**
 * Collects timestamps. `table()` sums them up by kernel, `sequence()` lists commands in order, `trace()` draws them on
 * a time line. Timestamps count as nanoseconds, as WebGPU defines them.
 */
export class Profile {
  readonly #device: GPUDevice;
  readonly #adapter: string;
  readonly #queries: GPUQuerySet;
  readonly #sums = new Sums();
  readonly #calls = new Latest<TimedCall>(MOST_CALLS);
  readonly #spans = new Latest<HostSpan>(MOST_SPANS);
  readonly #spare: Stamps[] = [];
  readonly #ran = new WeakSet<GPUComputePipeline>();
  #open: Omit<Batch, "submittedAt" | "stamps"> | undefined;
  #resolved: Batch | undefined;
  /** Submitted and not yet mapped. */
  #waiting: Batch[] = [];
  #collected: Promise<void> = Promise.resolve();
  #begun = 0;
  #untimed = 0;
  /** The first timestamp: `startNs` counts from it. */
  #origin: bigint | undefined;
  /** Host milliseconds at the first timestamp: no batch begins before it is submitted. */
  #originMs = -Infinity;

  /** @param adapter its name, for the trace */
  constructor(device: GPUDevice, adapter: string) {
    this.#device = device;
    this.#adapter = adapter;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * CAPACITY });
  }

  /** True when the batch in hand takes no more commands and must be submitted first. */
  get full(): boolean {
    return this.#open?.calls.length === CAPACITY;
  }

  /** Commands whose timestamps ran backwards: they count as 0 ms. Complete after a call of `table()`. */
  get untimed(): number {
    return this.#untimed;
  }

  /** Timestamps for the next pass, which holds one dispatch, or a command without a pipeline. */
  begin(
    label: string,
    work: Work = {},
    pipeline?: GPUComputePipeline,
  ): GPUComputePassTimestampWrites {
    this.#open ??= { calls: [], openedAt: performance.now() };
    const i = this.#open.calls.length;
    if (i >= CAPACITY) throw new Error("internal: more dispatches in one submit than timestamps");
    const first = pipeline !== undefined && !this.#ran.has(pipeline);
    if (first) this.#ran.add(pipeline);
    this.#open.calls.push({ label, work, first });
    this.#begun++;
    return {
      querySet: this.#queries,
      beginningOfPassWriteIndex: 2 * i,
      endOfPassWriteIndex: 2 * i + 1,
    };
  }

  /** Records commands that belong in no pass between two empty passes, which have the timestamps. */
  around(encoder: GPUCommandEncoder, label: string, bytes: number, record: () => void): void {
    const { querySet, beginningOfPassWriteIndex, endOfPassWriteIndex } = this.begin(label, {
      bytes,
    });
    const stamp = (at: Omit<GPUComputePassTimestampWrites, "querySet">) =>
      encoder.beginComputePass({ timestampWrites: { querySet, ...at } }).end();
    stamp({ beginningOfPassWriteIndex: beginningOfPassWriteIndex! });
    record();
    stamp({ endOfPassWriteIndex: endOfPassWriteIndex! });
  }

  /** Records the read-back of what was timed in this encoder; call {@link Profile.submitted} when it is submitted. */
  resolve(encoder: GPUCommandEncoder): void {
    if (!this.#open) return;
    const count = 2 * this.#open.calls.length;
    const stamps = this.#spare.pop() ?? this.#newStamps();
    encoder.resolveQuerySet(this.#queries, 0, count, stamps.resolved, 0);
    encoder.copyBufferToBuffer(stamps.resolved, 0, stamps.read, 0, 8 * count);
    this.#resolved = { ...this.#open, stamps, submittedAt: performance.now() };
    this.#open = undefined;
  }

  /** Begins to read the timestamps of the batch that was just submitted. */
  submitted(): void {
    const batch = this.#resolved;
    if (!batch) return;
    this.#resolved = undefined;
    const { openedAt, submittedAt } = batch;
    const commands = batch.calls.length;
    this.#spans.push({ name: "record", start: openedAt, end: submittedAt, facts: { commands } });
    this.#spans.push({ name: "submit", start: submittedAt, end: performance.now(), facts: {} });
    this.#waiting.push(batch);
    if (this.#waiting.length >= MOST_WAITING) this.#drain();
  }

  /**
   * Notes that the host begins to upload, or to wait until the device is idle; the function returned notes that it is
   * done.
   */
  host(name: "upload" | "wait", facts: Record<string, number> = {}): () => void {
    const start = performance.now();
    return () => {
      this.#spans.push({ name, start, end: performance.now(), facts });
      if (name === "wait") this.#drain(); // mapping blocks the host while the device works: not now
    };
  }

  /** A place in the sequence of commands: what is recorded from here on. */
  mark(): number {
    return this.#begun;
  }

  /**
   * Times per kernel, the slowest first. What was recorded must have been submitted (`gpu.flush()`).
   *
   * @param since only commands from this {@link Profile.mark} on; default: all of the run
   * @throws {RangeError} If commands since the mark are no longer kept
   */
  async table(since?: number): Promise<KernelTime[]> {
    if (since !== undefined) return kernelTimes(await this.sequence(since));
    await this.#drain();
    return this.#sums.rows();
  }

  /**
   * The commands in the order in which they ran. What was recorded must have been submitted (`gpu.flush()`).
   *
   * @param since a {@link Profile.mark}
   * @throws {RangeError} If commands since then are no longer kept
   */
  async sequence(since: number): Promise<TimedCall[]> {
    await this.#drain();
    if (since < this.#calls.leftOut) {
      throw new RangeError(
        `Cannot list the commands since number ${since}: only the last ${MOST_CALLS} are kept`,
      );
    }
    return this.#calls.from(since);
  }

  /** The latest commands and what the host did meanwhile, as Chrome trace events. */
  async trace(): Promise<ChromeTrace> {
    await this.#drain();
    const [calls, spans] = [this.#calls, this.#spans];
    return chromeTrace({
      adapter: this.#adapter,
      calls: calls.from(0),
      spans: spans.from(0),
      originMs: this.#originMs,
      callsLeftOut: calls.leftOut,
      spansLeftOut: spans.leftOut,
    });
  }

  /** Maps the batches that were submitted and takes their times in, in order. */
  #drain(): Promise<void> {
    const batches = this.#waiting.splice(0);
    if (batches.length === 0) return this.#collected;
    const mapped = batches.map(({ stamps }) => stamps.read.mapAsync(GPUMapMode.READ));
    this.#collected = Promise.all([this.#collected, ...mapped]).then(() => {
      for (const batch of batches) this.#collect(batch);
    });
    this.#collected.catch(() => {}); // told to whoever asks for the times
    return this.#collected;
  }

  #collect({ calls, submittedAt, stamps }: Batch): void {
    const times = new BigUint64Array(stamps.read.getMappedRange());
    this.#origin ??= times[0];
    const origin = this.#origin;
    calls.forEach(({ label, work: { flop = 0, bytes = 0 }, first }, i) => {
      const startNs = Number(times[2 * i] - origin);
      const ns = Number(times[2 * i + 1] - times[2 * i]);
      if (ns < 0) this.#untimed++;
      const call = { label, startNs, milliseconds: Math.max(0, ns) / 1e6, flop, bytes, first };
      this.#sums.add(call);
      this.#calls.push(call);
    });
    this.#originMs = Math.max(this.#originMs, submittedAt - Number(times[0] - origin) / 1e6);
    stamps.read.unmap();
    this.#spare.push(stamps);
  }

  #newStamps(): Stamps {
    const { COPY_DST, COPY_SRC, MAP_READ, QUERY_RESOLVE } = GPUBufferUsage;
    const make = (usage: number) =>
      this.#device.createBuffer({ label: "profile", size: BATCH_BYTES, usage });
    return { resolved: make(QUERY_RESOLVE | COPY_SRC), read: make(MAP_READ | COPY_DST) };
  }
}
