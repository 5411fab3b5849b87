// How a command declares its flags, and how their text becomes typed values. One table per command
// serves parsing, `--help` and the types of what the command gets.

import { type Args, parseArgs } from "@std/cli/parse-args";
import { UsageError } from "../errors.ts";
import { editDistance } from "../data/edit_distance.ts";

/** One flag. The record's key is its name in code: `saveEvery` is typed `--save-every`. */
export interface Flag {
  /** `bytes` reads 4GB, 512MB, 1GiB (its default too); `list` reads a,b,c and may be repeated. */
  type: "boolean" | "string" | "integer" | "number" | "bytes" | "list";
  /** Value when absent; without it the value is undefined (false for booleans). */
  default?: boolean | string | number | readonly string[];
  /** Unit or placeholder shown in the help: `steps`, `DIR`. */
  unit?: string;
  /** One line for the help. */
  help: string;
  /** The only values allowed (for a list: of each element). */
  choices?: readonly string[];
  /** Smallest number allowed. */
  min?: number;
}

/** A command's flags. */
export type Flags = Record<string, Flag>;

type ValueOf<F extends Flag> = F["type"] extends "boolean" ? boolean
  : F["type"] extends "integer" | "number" | "bytes" ? number
  : F["type"] extends "list" ? (F extends { choices: readonly (infer C)[] } ? C : string)[]
  : F extends { choices: readonly (infer C)[] } ? C
  : string;

/** The typed values of a command's flags. */
export type FlagValues<T extends Flags> = {
  [K in keyof T]: T[K]["type"] extends "boolean" ? boolean
    : T[K] extends { default: NonNullable<Flag["default"]> } ? ValueOf<T[K]>
    : ValueOf<T[K]> | undefined;
};

/** What the command line says. */
export interface Parsed<T extends Flags> {
  values: FlagValues<T>;
  positionals: string[];
  /** Flags that were typed, by their name in code; the rest are defaults. */
  given: Set<string>;
}

/** `saveEvery` → `save-every`. */
export const dashed = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * Reads arguments against declared flags.
 *
 * @throws {UsageError} On an unknown flag (naming the nearest), a missing or impossible value, or a flag given twice
 */
export function readFlags<const T extends Flags>(args: readonly string[], flags: T): Parsed<T> {
  const byFlag = new Map(Object.keys(flags).map((name) => [dashed(name), name]));
  const dashedNames = [...byFlag.keys()];
  const booleans = dashedNames.filter((d) => flags[byFlag.get(d)!].type === "boolean");
  const valued = dashedNames.filter((d) => !booleans.includes(d));
  const raw: Args = parseArgs(args, {
    boolean: booleans,
    string: ["_", ...valued],
    collect: valued,
    negatable: booleans,
    unknown: (arg, key) => {
      if (key === undefined) return true;
      throw new UsageError(`Cannot understand ${arg}: there is no such flag`, {
        help: suggestion(key, dashedNames),
      });
    },
  });

  const given = new Set<string>();
  const values: Record<string, unknown> = {};
  for (const [flag, name] of byFlag) {
    const spec = flags[name];
    if (spec.type === "boolean") {
      const typed = args.some((a) =>
        a === `--${flag}` || a === `--no-${flag}` || a.startsWith(`--${flag}=`)
      );
      if (typed) given.add(name);
      values[name] = typed ? raw[flag] : spec.default ?? false;
      continue;
    }
    const texts = raw[flag] as string[];
    if (texts.length === 0) {
      const sizeText = spec.type === "bytes" && typeof spec.default === "string";
      values[name] = sizeText ? readValue(`--${flag}`, spec.default as string, spec) : spec.default;
      continue;
    }
    if (texts.length > 1 && spec.type === "list") {
      given.add(name);
      values[name] = texts.flatMap((text) => readValue(`--${flag}`, text, spec));
      continue;
    }
    if (texts.length > 1) {
      throw new UsageError(`Cannot use --${flag} ${texts.length} times: it takes one value`);
    }
    given.add(name);
    values[name] = readValue(`--${flag}`, texts[0], spec);
  }
  return { values: values as FlagValues<T>, positionals: raw._.map(String), given };
}

function readValue(flag: string, text: string, spec: Flag): string | number | string[] {
  const wrong = (wanted: string) =>
    new UsageError(`Cannot read ${flag} ${text || '""'}: expected ${wanted}`);
  if (text === "") throw wrong(`a value${spec.unit ? ` (${spec.unit})` : ""}`);
  const allowed = (value: string) => {
    if (spec.choices && !spec.choices.includes(value)) {
      throw wrong(spec.choices.join(spec.type === "list" ? ", " : " or "));
    }
    return value;
  };
  if (spec.type === "string") return allowed(text);
  if (spec.type === "list") return text.split(",").map((part) => allowed(part.trim()));
  const value = spec.type === "bytes" ? bytesFrom(text) : Number(text);
  if (!Number.isFinite(value)) {
    throw wrong(spec.type === "bytes" ? "a size such as 4GB or 512MB" : "a number");
  }
  if (spec.type === "integer" && !Number.isInteger(value)) throw wrong("a whole number");
  if (spec.min !== undefined && value < spec.min) throw wrong(`at least ${spec.min}`);
  return value;
}

/** `4GB` → 4e9, `1GiB` → 2³⁰, `1000` → 1000; NaN when it is none of them. */
export function bytesFrom(text: string): number {
  const parts = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i.exec(text.trim());
  if (!parts) return NaN;
  const unit = (parts[2] ?? "").toLowerCase();
  const power = unit ? "kmgt".indexOf(unit[0]) + 1 : 0;
  return Math.round(Number(parts[1]) * (unit.endsWith("i") ? 1024 : 1000) ** power);
}

function suggestion(key: string, names: string[]): string {
  const close = nearest(key, names);
  return close ? `did you mean --${close}?` : "--help lists the flags";
}

/** The name nearest to `word` by edit distance, or undefined when none is close. */
export function nearest(word: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.ceil(word.length / 3)) + 1;
  for (const name of names) {
    const distance = editDistance(word, name);
    if (distance < least) [best, least] = [name, distance];
  }
  return best;
}
