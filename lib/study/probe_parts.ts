// Which rows a probe fits, validates and holds out: folds made of whole groups, or a given split.

import { seededRandom } from "./random.ts";
import type { Groups } from "./statistics.ts";

/** Role of a row in a fixed split. */
export type Part = "train" | "validation" | "test";

/** One fit: ridge strength from `train` to `validation`, then both together to `test`. */
export interface Round {
  /** Part numbers. */
  train: number[];
  validation: number;
  test: number;
}

/** Rows divided into numbered parts, and the rounds that use them. */
export interface Partition {
  /** Part of each row. */
  of: Int32Array;
  /** Number of parts. */
  count: number;
  rounds: Round[];
  /** Rows held out in some round, ascending. */
  heldOut: Int32Array;
  /** Rows of one part, ascending. */
  rowsOf(part: number): Int32Array;
}

const PARTS: readonly Part[] = ["train", "validation", "test"];

/**
 * Divides rows by `split` if given, otherwise into `folds` parts of whole groups, about equal in rows.
 *
 * @throws {TypeError} If sizes disagree, or both folds and split are given
 * @throws {RangeError} If a part would be empty, or a group of the split sits in two parts
 */
export function partition(
  rows: number,
  options: { seed: number; folds?: number; split?: readonly Part[]; groups?: Groups },
): Partition {
  const { seed, split, groups } = options;
  if (split !== undefined && options.folds !== undefined) {
    throw new TypeError("Cannot fit a probe: give folds or a split, not both");
  }
  for (const [name, list] of [["groups", groups], ["parts of the split", split]] as const) {
    if (list !== undefined && list.length !== rows) {
      throw new TypeError(`Cannot fit a probe: ${list.length} ${name} for ${rows} rows`);
    }
  }
  const folds = options.folds ?? 5;
  const of = split === undefined
    ? foldsOf(rows, folds, groups, seed)
    : Int32Array.from(split, (part) => PARTS.indexOf(part));
  if (split !== undefined) checkSplit(of, split, groups);
  const count = split === undefined ? folds : PARTS.length;

  const sizes = new Int32Array(count);
  for (const part of of) sizes[part] += 1;
  const empty = sizes.indexOf(0);
  if (empty >= 0) {
    throw new RangeError(
      `Cannot fit a probe: no row in ${split === undefined ? `fold ${empty}` : PARTS[empty]}`,
    );
  }
  const rounds: Round[] = split !== undefined
    ? [{ train: [0], validation: 1, test: 2 }]
    : Array.from({ length: folds }, (_, test) => {
      const validation = (test + 1) % folds;
      const train = Array.from({ length: folds }, (_, part) => part)
        .filter((part) => part !== test && part !== validation);
      return { train, validation, test };
    });
  const all = Int32Array.from({ length: rows }, (_, row) => row);
  return {
    of,
    count,
    rounds,
    heldOut: split === undefined ? all : all.filter((row) => of[row] === 2),
    rowsOf: (part) => all.filter((row) => of[row] === part),
  };
}

/** Shuffled groups, each to the fold with the fewest rows so far. */
function foldsOf(rows: number, folds: number, groups: Groups | undefined, seed: number) {
  if (!(Number.isInteger(folds) && folds >= 3)) {
    throw new RangeError(
      `Cannot fit a probe with ${folds} folds: train, validation and test need 3`,
    );
  }
  const sizes = new Map<number | string, number>();
  for (let row = 0; row < rows; row++) {
    const key = groups === undefined ? row : groups[row];
    sizes.set(key, (sizes.get(key) ?? 0) + 1);
  }
  if (sizes.size < folds) {
    throw new RangeError(`Cannot make ${folds} folds of ${sizes.size} groups`);
  }
  const filled = new Array<number>(folds).fill(0);
  const foldOf = new Map<number | string, number>();
  for (const key of seededRandom(seed).shuffle([...sizes.keys()])) {
    const fold = filled.indexOf(Math.min(...filled));
    filled[fold] += sizes.get(key)!;
    foldOf.set(key, fold);
  }
  return Int32Array.from({ length: rows }, (_, row) => {
    return foldOf.get(groups === undefined ? row : groups[row])!;
  });
}

function checkSplit(of: Int32Array, split: readonly Part[], groups: Groups | undefined): void {
  const unknown = of.indexOf(-1);
  if (unknown >= 0) {
    throw new RangeError(`Cannot fit a probe: row ${unknown} is in part "${split[unknown]}"`);
  }
  if (groups === undefined) return;
  const first = new Map<number | string, number>();
  for (let row = 0; row < of.length; row++) {
    const seen = first.get(groups[row]);
    if (seen === undefined) first.set(groups[row], of[row]);
    else if (seen !== of[row]) {
      throw new RangeError(
        `Cannot fit a probe: group ${groups[row]} is in ${PARTS[seen]} and in ${PARTS[of[row]]}`,
      );
    }
  }
}
