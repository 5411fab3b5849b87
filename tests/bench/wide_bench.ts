// What bench:wide times with: rows of a table, launches repeated until Deno's fixed wait is short beside them.

import type { Context } from "../../lib/cli/command.ts";
import type { Gpu } from "../../lib/gpu/device.ts";
import { tidy } from "../../lib/tensor.ts";
import { normals } from "../helpers.ts";
import { elapsed, median, repeatsFor } from "./measure.ts";

type Output = Pick<Context<Record<never, never>>, "print" | "emit">;

/** Samples of each row. */
export const ROUNDS = 5;
const SAMPLE_MS = 150;
const MOST_REPEATS = 400;
/** Values that are drawn; longer arrays repeat them. */
const DRAWN = 2 ** 20 + 3;

/** n values of one pattern: drawing hundreds of millions takes minutes. */
export function filled(n: number, seed: number, scale = 1): Float32Array {
  const drawn = normals(Math.min(n, DRAWN), seed, scale);
  const all = new Float32Array(n);
  for (let at = 0; at < n; at += drawn.length) all.set(drawn.subarray(0, n - at), at);
  return all;
}

/** Values as bf16, rounded to zero. */
export function upperHalves(values: Float32Array): Uint8Array {
  const halves = new Uint16Array(values.buffer).filter((_, i) => i % 2 === 1);
  return new Uint8Array(halves.buffer);
}

/** Times one thing after the other and counts what was wrong. */
export class WideBench {
  readonly #waitMs: number;
  /** The device that is measured. */
  readonly gpu: Gpu;
  readonly #context: Output;
  /** Results that were not as expected. */
  wrong = 0;

  constructor(gpu: Gpu, waitMs: number, context: Output) {
    this.gpu = gpu;
    this.#waitMs = waitMs;
    this.#context = context;
  }

  /** Prints the median time of a launch; `work` is its flop, or its bytes where `unit` is GB/s. */
  async row(name: string, work: number, run: () => void, unit = "TFLOP/s"): Promise<void> {
    const launch = () => tidy(run);
    const timed = { launch, settle: () => this.gpu.settle() };
    const start = performance.now();
    await elapsed(timed, 1, this.#waitMs); // compiles
    const firstMs = performance.now() - start;
    const repeats = await repeatsFor(timed, this.#waitMs, SAMPLE_MS, MOST_REPEATS);
    const samples: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      samples.push(await elapsed(timed, repeats, this.#waitMs) / repeats);
    }
    const ms = median(samples);
    const rate = work / ms / (unit === "GB/s" ? 1e6 : 1e9);
    this.#context.print(
      `${name.padEnd(44)} ${ms.toFixed(3).padStart(9)} ms ${
        rate.toFixed(unit === "GB/s" ? 0 : 2).padStart(8)
      } ${unit}  (${Math.min(...samples).toFixed(3)}–${Math.max(...samples).toFixed(3)}, first ${
        firstMs.toFixed(0)
      } ms)`,
    );
    this.#context.emit({ event: "row", name, ms, rate, unit, firstMs });
  }

  /** Says so where `got` is not `want` within `tolerance` of `scale`. */
  check(what: string, got: number, want: number, scale: number, tolerance: number): void {
    if (Math.abs(got - want) <= tolerance * scale) return;
    this.wrong++;
    this.#context.print(`WRONG ${what}: got ${got}, expected ${want}`);
  }
}
