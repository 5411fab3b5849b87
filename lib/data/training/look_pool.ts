// Looks at images in workers, several at a time; with none of them in this thread, with the same results.

import { type ImageLook, lookAt } from "./image_look.ts";
import { errorOf, type PrepareFault } from "./prepare_pool.ts";
import type { ImageRef } from "./record.ts";

/** To a worker. */
export interface LookRequest {
  id: number;
  image: ImageRef;
  where: string;
}

/** From a worker. */
export type LookReply = { id: number; look: ImageLook } | { id: number; fault: PrepareFault };

/** Looks at images. */
export interface LookPool {
  /** @throws {InputError} If the image cannot be decoded */
  look(image: ImageRef, where: string): Promise<ImageLook>;
  /** Ends the workers. */
  close(): void;
}

/** Opens a pool. @param workers 0: the work is done in this thread */
export function openLookPool(workers: number): LookPool {
  return workers > 0 ? new WorkerPool(workers) : { look: lookAt, close: () => {} };
}

interface Job {
  resolve(look: ImageLook): void;
  reject(error: Error): void;
}

class WorkerPool implements LookPool {
  readonly #workers: { worker: Worker; jobs: Map<number, Job> }[];
  #next = 0;

  constructor(count: number) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(new URL("./look_worker.ts", import.meta.url), { type: "module" });
      const jobs = new Map<number, Job>();
      worker.onmessage = ({ data }: MessageEvent<LookReply>) => {
        const job = jobs.get(data.id)!;
        jobs.delete(data.id);
        if ("fault" in data) job.reject(errorOf(data.fault));
        else job.resolve(data.look);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        for (const job of jobs.values()) {
          job.reject(new Error(`internal: a worker that looks at images failed: ${event.message}`));
        }
        jobs.clear();
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

  close(): void {
    for (const { worker } of this.#workers) worker.terminate();
  }
}
