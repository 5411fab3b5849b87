// What the subcommands of `deno task runs` share: the folder of runs, its index, a run by a part of its name, and how
// numbers and text from records are shown.

import { nearestName } from "../data/edit_distance.ts";
import { InputError, UsageError } from "../errors.ts";
import { compact } from "../show/progress.ts";
import { openIndex, type RunIndex } from "../study/run_index.ts";
import type { Flags } from "./flags.ts";

/** The flag that says where runs are. */
export const ROOT_FLAG = {
  root: { type: "string", default: "runs", unit: "DIR", help: "folder that holds the runs" },
} as const satisfies Flags;

/** Exit codes of all of them. */
export const RUNS_EXITS = {
  2: "usage: unknown flag, run or metric",
  3: "a run's record is missing or damaged",
} as const;

/**
 * Opens the index, brought up to date.
 *
 * @param note told when the index cannot be kept
 * @throws {InputError} If there is no such folder
 */
export function indexOf(root: string, note: (text: string) => void, rebuild = false): RunIndex {
  try {
    const index = openIndex(root, { rebuild });
    if (index.unwritable !== null) {
      note(`the index of ${root} is not kept: ${clean(index.unwritable)}`);
    }
    return index;
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory)) {
      throw cause;
    }
    throw new InputError(`Cannot look for runs in ${root}: no such folder`, {
      cause,
      help: "give the folder by --root, such as --root results/demo/runs",
    });
  }
}

/** A run that was asked for. */
export interface FoundRun {
  /** As listed. */
  name: string;
  dir: string;
}

/**
 * The run that a text names: a run folder, a name below the root, or a part of one that no other run has.
 *
 * @throws {UsageError} If none or several do
 */
export function findRun(text: string, root: string, names: readonly string[]): FoundRun {
  const trimmed = text.replace(/(.)\/+$/, "$1");
  const found = (name: string) => ({ name, dir: `${root}/${name}` });
  if (names.includes(trimmed)) return found(trimmed);
  if (isRun(trimmed)) return { name: trimmed, dir: trimmed };
  const parts = names.filter((name) => name.includes(trimmed));
  if (parts.length === 1) return found(parts[0]);
  if (parts.length > 1) {
    throw new UsageError(`Cannot choose a run: ${parts.length} have ${trimmed} in their name`, {
      help: `give more of ${parts.slice(0, 6).join(", ")}${parts.length > 6 ? ", …" : ""}`,
    });
  }
  const near = nearestName(trimmed, names);
  throw new UsageError(`Cannot find run ${trimmed} in ${root}`, {
    help: near
      ? `the nearest name is ${near}`
      : names.length === 0
      ? `there are no runs in ${root}: give another folder by --root`
      : `\`deno task runs --root ${root}\` lists ${names.length}`,
  });
}

/**
 * The run that a text names; the root may be missing if the text is a run folder.
 *
 * @throws {LabError} If none or several do, or there is no such root
 */
export function namedRun(text: string, root: string, note: (text: string) => void): FoundRun {
  let names: string[] = [];
  let absent: InputError | undefined;
  try {
    using index = indexOf(root, note);
    names = runNames(index);
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    absent = cause;
  }
  try {
    return findRun(text, root, names);
  } catch (cause) {
    throw absent ?? cause;
  }
}

function isRun(dir: string): boolean {
  try {
    return Deno.statSync(`${dir}/run.json`).isFile;
  } catch (cause) {
    const absent = [Deno.errors.NotFound, Deno.errors.NotADirectory];
    if (absent.some((kind) => cause instanceof kind)) return false;
    throw cause;
  }
}

/** The names of the runs below a folder, from its index. */
export function runNames(index: RunIndex): string[] {
  return index.db.prepare("SELECT name FROM run ORDER BY name").all().map((row) =>
    String(row.name)
  );
}

/** `text 1.02 flow 0.310`. */
export function valuesText(
  values: Readonly<Record<string, number>>,
  names: readonly string[],
): string {
  return names.map((name) => `${name} ${compact(values[name])}`).join("  ");
}

/** A value as JSON can hold it: NaN and the infinities as text. */
export function told<T>(value: T): T | string {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

/** Text from a record for one line of a terminal: no control characters. */
export function clean(text: string): string {
  // deno-lint-ignore no-control-regex -- these are what must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "\ufffd");
}

/** Lines with columns, all left-aligned; the first row is the head. */
export function columnsText(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => [...row[c]].length)));
  const pad = (text: string, width: number) =>
    text + " ".repeat(Math.max(0, width - [...text].length));
  return rows.map((row) => row.map((text, c) => pad(text, widths[c])).join("  ").trimEnd()).join(
    "\n",
  );
}
