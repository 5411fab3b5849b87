// What keeps a training of days as large as one of minutes: idle buffers and the driver's garbage are given up.

import { GarbageWatch } from "../garbage.ts";
import type { Gpu } from "../gpu/device.ts";

/** Steps after which idle memory is given up: batches differ, and buffers of ever more sizes would be kept. */
const TRIM_EVERY = 100;

/** Keeps the memory of a training from growing. */
export class Upkeep {
  readonly #garbage = new GarbageWatch();

  constructor(private readonly gpu: Gpu) {}

  /** Call it after each step, while the device computes. @param made steps so far */
  after(made: number): void {
    if (made % TRIM_EVERY !== 0) {
      this.#garbage.look();
      return;
    }
    this.gpu.buffers.trim();
    this.#garbage.collect();
  }
}
