// What a demo's settings and folder must satisfy, checked before anything is computed.

import { ResourceError, UsageError } from "../../lib/errors.ts";
import type { DemoConfig } from "./config.ts";

/** Whole numbers and the least that makes sense of each. */
const COUNTS: [field: string, value: (c: DemoConfig) => number, least: number][] = [
  ["seed", (c) => c.seed, 0],
  ["steps", (c) => c.steps, 1],
  ["images", (c) => c.images, 1],
  ["questions", (c) => c.questions, 1],
  ["drawings", (c) => c.drawings, 1],
  ["warmup", (c) => c.warmup, 0],
  ["labelled", (c) => c.labelled, 2],
  ["generated", (c) => c.generated, 2],
  ["starved", (c) => c.starved, 1],
  ["tests", (c) => c.tests, 10],
  ["probes", (c) => c.probes, 50],
  ["gate.pictures", (c) => c.gate.pictures, 8],
  ["gate.points", (c) => c.gate.points, 2],
];

/** Other numbers and the range each lies in, ends included. */
const RANGES: [field: string, value: (c: DemoConfig) => number, from: number, to: number][] = [
  ["learningRate", (c) => c.learningRate, 0, 1],
  ["lesionAmplitude", (c) => c.lesionAmplitude, 0, 1],
  ["disguise.planted", (c) => c.disguise.planted, 0, 1],
  ["disguise.natural", (c) => c.disguise.natural, 0, 1],
  ["shift.planted", (c) => c.shift.planted, 1e-3, 1e3],
  ["shift.natural", (c) => c.shift.natural, 1e-3, 1e3],
  ["shift.data", (c) => c.shift.data, 1e-3, 1e3],
  ["gate.threshold", (c) => c.gate.threshold, 0.125, 1],
];

/** @throws {UsageError} Naming the field, its value and what it may be */
export function checkSettings(config: DemoConfig): void {
  const refuse = (field: string, value: number, wanted: string) => {
    throw new UsageError(`Cannot run the demo: ${field} is ${value}`, {
      help: `set ${field} to ${wanted}`,
    });
  };
  for (const [field, value, least] of COUNTS) {
    const v = value(config);
    if (!Number.isSafeInteger(v) || v < least) refuse(field, v, `a whole number from ${least} up`);
  }
  for (const [field, value, from, to] of RANGES) {
    const v = value(config);
    if (!(v >= from && v <= to)) refuse(field, v, `a number from ${from} to ${to}`);
  }
  if (!(config.maxNorm > 0)) refuse("maxNorm", config.maxNorm, "a number above 0");
  if (config.starved > config.labelled) {
    refuse("starved", config.starved, `at most the ${config.labelled} labelled images`);
  }
}

/**
 * Makes a folder that results will go to.
 *
 * @param allowed where the task's permissions let it write
 * @throws {UsageError | ResourceError} If it cannot be written
 */
export async function checkFolder(out: string, allowed: string): Promise<void> {
  try {
    await Deno.mkdir(out, { recursive: true });
    const probe = await Deno.makeTempFile({ dir: out });
    await Deno.remove(probe);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) {
      throw new UsageError(`Cannot write to ${out}: the task may only write below ${allowed}`, {
        cause,
        help: `choose a place below ${allowed}`,
      });
    }
    throw new ResourceError(`Cannot write to ${out}: ${(cause as Error).message}`, {
      cause,
      help: "check that the folder is writable and the disk has space, or choose another --out",
    });
  }
}

/** Outputs of an earlier demo in `out`: replaced together, so that a folder never mixes two runs. */
export async function removeOutputs(out: string): Promise<void> {
  const names = ["demo.html", "demo.svg", "demo.png", "demo.csv", "demo.json"];
  for (const name of [...names, "config.json", "metrics.csv"]) {
    try {
      await Deno.remove(`${out}/${name}`);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
}
