// Sweeps: values of config fields to be tried, as `--array "seed=0..5"` says them, and the runs they make.

import { UsageError } from "../errors.ts";

/** One field and the values to try. */
export interface Axis {
  /** Path of the config field: `seed`, `optimizer.beta2`. */
  field: string;
  /** As typed after `--set field=`. */
  values: string[];
}

/** One run of a sweep. */
export interface SweepRun {
  /** `<name>-<number>` */
  name: string;
  /** Its values, as `field=value`. */
  settings: string[];
  /** Arm of the study that it is in: runs that differ in nothing but their seed share one. */
  arm: string;
}

/** Slurm's usual MaxArraySize is 1001, of which the last is not allowed. */
const MOST_RUNS = 1000;

const HELP = 'write --array "seed=0..5" or --array "optimizer.beta2=0.9,0.95"';

/**
 * Reads `field=first..last` (whole numbers, both ends included) or `field=a,b,c`.
 *
 * @throws {UsageError} If the text is neither, has a value twice, or its range is empty or too long
 */
export function readAxis(text: string): Axis {
  const parts = /^([A-Za-z][\w.]*)=(.+)$/.exec(text);
  if (!parts) {
    throw new UsageError(`Cannot sweep over "${text}": it is not field=values`, { help: HELP });
  }
  const [, field, listed] = parts;
  const range = /^(-?\d+)\.\.(-?\d+)$/.exec(listed);
  if (!range && listed.includes("..")) {
    throw new UsageError(`Cannot sweep over "${text}": ends of a range are whole numbers`, {
      help: HELP,
    });
  }
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    const count = last - first + 1;
    if (!(count >= 1 && count <= MOST_RUNS)) {
      throw new UsageError(`Cannot sweep over "${text}": ${count} values, of 1 to ${MOST_RUNS}`, {
        help: HELP,
      });
    }
    return { field, values: Array.from({ length: count }, (_, i) => String(first + i)) };
  }
  const values = listed.split(",").map((value) => value.trim());
  const twice = values.find((value, i) => value === "" || values.indexOf(value) !== i);
  if (twice !== undefined) {
    throw new UsageError(
      `Cannot sweep over "${text}": ${twice === "" ? "a value is empty" : `${twice} comes twice`}`,
    );
  }
  return { field, values };
}

/**
 * Every combination of the axes' values, the last axis fastest.
 *
 * @param name of the sweep: `[a-z0-9-]`
 * @throws {UsageError} If a field comes twice, there are too many combinations, or the name is no name of a run
 */
export function sweepRuns(name: string, axes: readonly Axis[]): SweepRun[] {
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) {
    throw new UsageError(`Cannot name runs after "${name}": use a-z, 0-9 and -`);
  }
  const fields = axes.map(({ field }) => field);
  const twice = fields.find((field, i) => fields.indexOf(field) !== i);
  if (twice) {
    throw new UsageError(`Cannot sweep over ${twice} twice`, {
      help: "list all its values in one --array",
    });
  }
  const count = axes.reduce((n, { values }) => n * values.length, 1);
  if (axes.length === 0 || count > MOST_RUNS) {
    throw new UsageError(
      `Cannot make a sweep of ${axes.length === 0 ? 0 : count} runs: 1 to ${MOST_RUNS}`,
    );
  }
  let combinations: string[][] = [[]];
  for (const { field, values } of axes) {
    combinations = combinations.flatMap((before) =>
      values.map((v) => [...before, `${field}=${v}`])
    );
  }
  const arms = armsOf(combinations);
  return combinations.map((settings, i) => ({ name: `${name}-${i}`, settings, arm: arms[i] }));
}

/** Longest name of an arm; folders must stay readable. */
const MOST_ARM = 60;

/** Names of arms, from all values but the seed's: `beta2-0-95`; `train` where there are none. */
function armsOf(combinations: readonly (readonly string[])[]): string[] {
  const kinds = combinations.map((settings) => settings.filter((text) => !/^seed=/.test(text)));
  const word = (text: string) =>
    text.replace(/^.*?([^.=]+)=/, "$1-").toLowerCase().replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "");
  const keys = kinds.map((kind) => kind.join("\n"));
  const names = kinds.map((kind) => kind.map(word).join("-") || "train");
  const clear = new Set(keys).size === new Set(names).size &&
    names.every((name) => name.length <= MOST_ARM);
  const distinct = [...new Set(keys)];
  return clear ? names : keys.map((key) => `arm-${distinct.indexOf(key)}`);
}
