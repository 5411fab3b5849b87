// Workers that turn records into samples, so that decoding, resizing and tokenising keep no step waiting. With
// none of them the same work is done in this thread, with the same results.

import { EXIT, InputError, LabError } from "../../errors.ts";
import type { Sample } from "../sample.ts";
import { type ImageRules, Planner } from "./plan.ts";
import type { TrainingRecord } from "./record.ts";
import { openTokenizerSpec, type TokenizerSpec } from "./tokenizer_spec.ts";

/** What every worker needs to know once. */
export interface PrepareSettings {
  tokenizer: TokenizerSpec;
  images: ImageRules;
}

/** To a worker: the settings first, then one record at a time; at the end, that the rest is not wanted. */
export type PrepareRequest =
  | { settings: PrepareSettings }
  | { id: number; record: TrainingRecord }
  | { end: true };

/** From a worker: ready for records, a sample, or why there is none. */
export type PrepareReply =
  | { ready: true }
  | { id: number; sample: Sample }
  | { id?: number; fault: PrepareFault };

/** An error as it crosses threads. */
export interface PrepareFault {
  /** Whether the input is at fault, not the program. */
  input: boolean;
  message: string;
  help?: string;
}

/** Makes samples of records, several at a time. */
export interface PreparePool {
  /** @throws {InputError} If the record's texts or images cannot be used */
  prepare(record: TrainingRecord): Promise<Sample>;
  /** Ends the workers once they have nothing in hand any more; what they had is refused. */
  close(): Promise<void>;
}

/**
 * Opens a pool.
 *
 * @param workers 0: the work is done in this thread
 * @throws {InputError} If the tokenizer cannot be opened
 */
export async function openPreparePool(
  workers: number,
  settings: PrepareSettings,
): Promise<PreparePool> {
  if (workers > 0) return await WorkerPool.open(workers, settings);
  const planner = new Planner(await openTokenizerSpec(settings.tokenizer), settings.images);
  return { prepare: (record) => planner.sample(record), close: () => Promise.resolve() };
}

/** The error for {@link PrepareFault}. */
export function errorOf({ input, message, help }: PrepareFault): Error {
  if (!input) return new Error(`internal: a loader's worker failed: ${message}`);
  return new InputError(message, help === undefined ? {} : { help });
}

/** What of an error crosses threads. */
export function faultOf(error: unknown): PrepareFault {
  if (error instanceof LabError && error.exitCode === EXIT.input) {
    const { message, help } = error;
    return { input: true, message, ...(help === undefined ? {} : { help }) };
  }
  return { input: false, message: (error as Error).stack ?? String(error) };
}

interface Job {
  resolve: (sample: Sample) => void;
  reject: (error: Error) => void;
}

/** A worker and what it has in hand. */
interface Hand {
  worker: Worker;
  jobs: Map<number, Job>;
  /** Records that were sent and not answered. */
  sent: number;
}

class WorkerPool implements PreparePool {
  readonly #hands: Hand[];
  #next = 0;
  #ended: Error | undefined;
  /** Called when nothing is in hand any more. */
  #idle: (() => void) | undefined;

  private constructor(workers: Worker[]) {
    this.#hands = workers.map((worker) => ({ worker, jobs: new Map(), sent: 0 }));
    for (const hand of this.#hands) {
      hand.worker.onmessage = ({ data }: MessageEvent<PrepareReply>) => this.#reply(hand, data);
      hand.worker.onerror = (event) => {
        event.preventDefault();
        this.#fail(new Error(`internal: a loader's worker failed: ${event.message}`));
      };
    }
  }

  static async open(count: number, settings: PrepareSettings): Promise<WorkerPool> {
    const workers = Array.from({ length: count }, () => {
      return new Worker(new URL("./prepare_worker.ts", import.meta.url), { type: "module" });
    });
    try {
      await Promise.all(workers.map((worker) => started(worker, settings)));
    } catch (error) {
      for (const worker of workers) worker.terminate();
      throw error;
    }
    return new WorkerPool(workers);
  }

  /** Records are handed over at once: a worker must not run dry while this thread is held up by a step. */
  prepare(record: TrainingRecord): Promise<Sample> {
    if (this.#ended) return Promise.reject(this.#ended);
    const hand = this.#hands.reduce((a, b) => (b.jobs.size < a.jobs.size ? b : a));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      hand.jobs.set(id, { resolve, reject });
      hand.sent++;
      hand.worker.postMessage({ id, record } satisfies PrepareRequest);
    });
  }

  /** A worker is not ended while native code decodes for it: that has crashed the process at its exit. */
  async close(): Promise<void> {
    this.#refuse(new Error("Cannot prepare a record: the loader is closed"));
    for (const { worker } of this.#hands) {
      worker.postMessage({ end: true } satisfies PrepareRequest);
    }
    if (this.#hands.some(({ sent }) => sent > 0)) {
      await new Promise<void>((resolve) => this.#idle = resolve);
    }
    for (const { worker } of this.#hands) worker.terminate();
  }

  #reply(hand: Hand, reply: PrepareReply): void {
    if ("ready" in reply || reply.id === undefined) return;
    hand.sent--;
    const job = hand.jobs.get(reply.id);
    hand.jobs.delete(reply.id);
    if ("fault" in reply) job?.reject(errorOf(reply.fault));
    else job?.resolve(reply.sample);
    if (this.#hands.every(({ sent }) => sent === 0)) this.#idle?.();
  }

  /** After a worker failed: what it had in hand is never answered. */
  #fail(error: Error): void {
    this.#refuse(error);
    for (const hand of this.#hands) {
      hand.worker.terminate();
      hand.sent = 0;
    }
    this.#idle?.();
  }

  #refuse(error: Error): void {
    this.#ended ??= error;
    for (const { jobs } of this.#hands) {
      for (const job of jobs.values()) job.reject(error);
      jobs.clear();
    }
  }
}

/** Sends the settings and waits until the worker is ready for records. */
function started(worker: Worker, settings: PrepareSettings): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<PrepareReply>) => {
      if ("fault" in data) reject(errorOf(data.fault));
      else resolve();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(`internal: a loader's worker failed: ${event.message}`));
    };
    worker.postMessage({ settings } satisfies PrepareRequest);
  });
}
