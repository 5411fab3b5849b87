// Looks at images in workers, several at a time; with none of them in this thread, with the same results.

import { type ImageLook, lookAt } from "./image_look.ts";
import { errorOf, type PrepareFault } from "./prepare_pool.ts";
import type { ImageRef } from "./record.ts";

/** To a worker: one image at a time; at the end, that the rest is not wanted. */
export type LookRequest = { id: number; image: ImageRef; where: string } | { end: true };

/** From a worker. */
export type LookReply = { id: number; look: ImageLook } | { id: number; fault: PrepareFault };

/** Looks at images. */
export interface LookPool {
  /** @throws {InputError} If the image cannot be decoded */
  look(image: ImageRef, where: string): Promise<ImageLook>;
  /** Ends the workers, each after the image it has in hand. */
  close(): Promise<void>;
}

/** Opens a pool. @param workers 0: the work is done in this thread */
export function openLookPool(workers: number): LookPool {
  return workers > 0 ? new WorkerPool(workers) : { look: lookAt, close: () => Promise.resolve() };
}

interface Job {
  resolve(look: ImageLook): void;
  reject(error: Error): void;
}

class WorkerPool implements LookPool {
  readonly #workers: { worker: Worker; jobs: Map<number, Job> }[];
  #next = 0;
  #idle: (() => void) | undefined;

  constructor(count: number) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(new URL("./look_worker.ts", import.meta.url), { type: "module" });
      const jobs = new Map<number, Job>();
      worker.onmessage = ({ data }: MessageEvent<LookReply>) => {
        const job = jobs.get(data.id)!;
        jobs.delete(data.id);
        if ("fault" in data) job.reject(errorOf(data.fault));
        else job.resolve(data.look);
        if (jobs.size === 0) this.#idle?.();
      };
      worker.onerror = (event) => {
        event.preventDefault();
        for (const job of jobs.values()) {
          job.reject(new Error(`internal: a worker that looks at images failed: ${event.message}`));
        }
        jobs.clear();
        this.#idle?.();
      };
      return { worker, jobs };
    });
  }

  look(image: ImageRef, where: string): Promise<ImageLook> {
    const least = this.#workers.reduce((a, b) => (b.jobs.size < a.jobs.size ? b : a));
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      least.jobs.set(id, { resolve, reject });
      least.worker.postMessage({ id, image, where } satisfies LookRequest);
    });
  }

  /** A worker is not ended while native code decodes for it: that has crashed the process at its exit. */
  async close(): Promise<void> {
    for (const { worker, jobs } of this.#workers) {
      worker.postMessage({ end: true } satisfies LookRequest);
      while (jobs.size > 0) await new Promise<void>((resolve) => this.#idle = resolve);
      worker.terminate();
    }
  }
}
