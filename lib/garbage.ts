// Garbage that looks small and is not. A command buffer, a bind group or a texture view is a few bytes to V8 and
// kilobytes to the driver: left alone, hundreds of MiB of them wait for a collection that seems not worth its while.
// The tasks that train also cap V8's space for young objects (`--max-semi-space-size`, MiB), which else doubles after
// an hour or so and never shrinks again.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Growth of resident memory that is worth a collection, in bytes. */
const WORTH_BYTES = 2 ** 25;
/** A collection takes about 0.1 s: they are this far apart, in milliseconds, at least. */
const APART_MS = 2000;

let collect: (() => void) | undefined;

/** Collects now, in this thread. */
export function collectGarbage(): void {
  if (!collect) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  collect();
}

/** Collects when the memory of the process has grown since the last time. */
export class GarbageWatch {
  #collectedAt = -Infinity;
  #residentBytes = 0;

  /**
   * @param resident resident memory in bytes
   * @param now milliseconds
   */
  constructor(
    private readonly resident = () => Deno.memoryUsage().rss,
    private readonly now = () => performance.now(),
    private readonly run = collectGarbage,
  ) {}

  /** Call it where the thread would wait anyhow: while the device computes. @returns true if it collected */
  look(): boolean {
    if (this.now() - this.#collectedAt < APART_MS) return false;
    if (this.resident() - this.#residentBytes < WORTH_BYTES) return false;
    this.collect();
    return true;
  }

  /** Collects whatever the memory is: a process that does so now and then stays as large as it was. */
  collect(): void {
    this.run();
    this.#collectedAt = this.now();
    this.#residentBytes = this.resident();
  }
}
