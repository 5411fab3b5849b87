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

/** To a worker: the settings first, then one record at a time. */
export type PrepareRequest = { settings: PrepareSettings } | { id: number; record: TrainingRecord };

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
  /** Ends the workers; what they had in hand is refused. */
  close(): void;
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
  return { prepare: (record) => planner.sample(record), close: () => {} };
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

/** Records a worker has in hand: one it works on, one that waits. */
const IN_HAND = 2;

interface Job {
  record: TrainingRecord;
  resolve: (sample: Sample) => void;
  reject: (error: Error) => void;
}

class Hand {
  readonly jobs = new Map<number, Job>();
  constructor(readonly worker: Worker) {}
}

class WorkerPool implements PreparePool {
  readonly #hands: Hand[];
  readonly #waiting: Job[] = [];
  #next = 0;
  #ended: Error | undefined;

  private constructor(workers: Worker[]) {
    this.#hands = workers.map((worker) => new Hand(worker));
    for (const hand of this.#hands) {
      hand.worker.onmessage = ({ data }: MessageEvent<PrepareReply>) => this.#reply(hand, data);
      hand.worker.onerror = (event) => {
        event.preventDefault();
        this.#end(new Error(`internal: a loader's worker failed: ${event.message}`));
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

  prepare(record: TrainingRecord): Promise<Sample> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
      this.#hand();
    });
  }

  close(): void {
    this.#end(new Error("Cannot prepare a record: the loader is closed"));
  }

  #hand(): void {
    for (let load = 0; load < IN_HAND; load++) {
      for (const { jobs, worker } of this.#hands) {
        if (jobs.size > load) continue;
        const job = this.#waiting.shift();
        if (!job) return;
        const id = this.#next++;
        jobs.set(id, job);
        worker.postMessage({ id, record: job.record } satisfies PrepareRequest);
      }
    }
  }

  #reply(hand: Hand, reply: PrepareReply): void {
    if ("ready" in reply || reply.id === undefined) return;
    const job = hand.jobs.get(reply.id)!;
    hand.jobs.delete(reply.id);
    this.#hand();
    if ("fault" in reply) job.reject(errorOf(reply.fault));
    else job.resolve(reply.sample);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { worker, jobs } of this.#hands) {
      worker.terminate();
      for (const job of jobs.values()) job.reject(error);
      jobs.clear();
    }
    for (const job of this.#waiting.splice(0)) job.reject(error);
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
