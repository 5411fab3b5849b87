// What the comparison asks of an engine: ours, or a peer's adapter in a file of its own.

import type { HostArray, Work } from "./peers_cases.ts";

/** One case on one engine, its inputs on the device. */
export interface Job {
  /** Submits the work once. All of it must run, although only the outputs of the last launch are kept. */
  launch(): void;
  /**
   * Outputs of the last launch: `[y]` of a product, `[y, dx]` of softmax, `[y, dx, dweight]` of RMSNorm, the loss and
   * the gradients of every input but the loss weights of a block.
   */
  read(): Promise<Float32Array[]>;
  /** Frees inputs and outputs. */
  dispose(): void;
}

/** A way to compute the cases on the adapter. */
export interface Engine {
  readonly name: string;
  /** How its public interface is used, for readers of the numbers. */
  readonly way: string;
  /** What its adapter calls itself. */
  readonly adapter: string;
  /** Errors that its device reported and nobody caught: results after one count as wrong. */
  readonly errors: string[];
  /**
   * Uploads inputs. Products take a and b as they are stored; softmax x and dy; RMSNorm x, weight and dy; the block
   * its inputs in order and the loss weights.
   */
  prepare(work: Work, inputs: readonly HostArray[]): Job;
  /** Resolves when everything submitted has run. */
  settle(): Promise<void>;
  close(): void;
}

/** What the adapter of a device calls itself. */
export function adapterOf(device: GPUDevice): string {
  const { description, device: model, vendor } = device.adapterInfo;
  return description || model || vendor || "unnamed adapter";
}

/** Collects what a device reports when nobody catches it; wrong commands are dropped silently otherwise. */
export function listen(device: GPUDevice, errors: string[]): void {
  device.addEventListener("uncapturederror", (event) => {
    event.preventDefault();
    errors.push((event as GPUUncapturedErrorEvent).error.message.split("\n")[0]);
  });
}
