// The part of @std/cli's parseArgs that this repository uses, for networks that cannot reach JSR. Names and
// meaning are those of upstream 1.0, except that types are not inferred from the options: switching
// back is one line of deno.json ("jsr:@std/cli@^1/parse-args"). Missing: stopEarly and dotted keys.
// node:util's parseArgs cannot carry it: there an undeclared `--name value` never takes its value.

/** What a flag can hold. */
export type ArgValue = string | number | boolean | (string | number | boolean)[] | undefined;

/** Parsed flags by name; `_` holds what is not a flag. */
export interface Args {
  /** Everything that is not a flag; numbers where it looks like one. */
  _: (string | number)[];
  /** What follows `--`, when the option `"--"` is set. */
  "--"?: string[];
  [name: string]: ArgValue;
}

/** Which flags there are and how to read them. */
export interface ParseOptions {
  /** Put what follows `--` into `result["--"]` rather than `_`. Default: false. */
  "--"?: boolean;
  /** Other names of a flag; the result has all of them. */
  alias?: Record<string, string | readonly string[]>;
  /** Flags without a value; absent means false. `true` makes every `--flag` without `=` one. */
  boolean?: boolean | string | readonly string[];
  /** Values of flags that are absent. */
  default?: Record<string, ArgValue>;
  /** Flags whose value stays a string; "" when given without a value. */
  string?: string | readonly string[];
  /** Flags that may be repeated and give an array; absent means []. */
  collect?: string | readonly string[];
  /** Flags for which `--no-flag` means false. */
  negatable?: string | readonly string[];
  /** Called for each argument that no option declares; returning false drops it. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

type Scalar = string | number | boolean;

/**
 * Splits command-line arguments into flags and the rest.
 *
 * `--name=value`, `--name value`, `--name`, `-abc`, `-n5`, `-n 5` and `--` are understood. Values that
 * look like numbers become numbers unless the flag is declared a string.
 *
 * ```ts
 * import { parseArgs } from "@std/cli/parse-args";
 * const args = parseArgs(["--steps", "20", "--quiet", "in.png"], { boolean: ["quiet"] });
 * if (args.steps !== 20 || args.quiet !== true || args._[0] !== "in.png") throw new Error("parse");
 * ```
 */
export function parseArgs(args: readonly string[], options: ParseOptions = {}): Args {
  const alias = aliases(options.alias ?? {});
  const family = (name: string) => [name, ...(alias.get(name) ?? [])];
  const names = (list?: string | readonly string[] | boolean) =>
    new Set(
      (typeof list === "string" ? [list] : Array.isArray(list) ? list : []).flatMap(family),
    ) as Set<string>;

  const booleans = names(options.boolean);
  const strings = names(options.string);
  const collected = names(options.collect);
  const negatables = names(options.negatable);
  const allBooleans = options.boolean === true;
  const known = new Set([...booleans, ...strings, ...collected, ...negatables, ...alias.keys()]);
  for (const key of Object.keys(options.default ?? {})) for (const k of family(key)) known.add(k);

  const result: Args = Object.assign(Object.create(null), { _: [] });
  const given = new Set<string>();

  function set(key: string, value: Scalar, arg: string): void {
    if (!known.has(key) && options.unknown?.(arg, key, value) === false) return;
    const typed = strings.has(key) || typeof value !== "string" ? value : numeric(value);
    for (const name of family(key)) {
      const old = given.has(name) ? result[name] : undefined;
      if (collected.has(name)) result[name] = [...(Array.isArray(old) ? old : []), typed];
      else result[name] = typed;
      given.add(name);
    }
  }
  function positional(arg: string): void {
    if (options.unknown?.(arg) === false) return;
    result._.push(strings.has("_") ? arg : numeric(arg));
  }
  const empty = (key: string): Scalar => strings.has(key) ? "" : true;

  const end = args.indexOf("--");
  const head = end < 0 ? args : args.slice(0, end);
  const tail = end < 0 ? [] : args.slice(end + 1);

  for (let i = 0; i < head.length; i++) {
    const arg = head[i];
    const next = head[i + 1];
    const takesNext = next !== undefined && (!next.startsWith("-") || isNegativeNumber(next));

    const long = /^--([^=]+)(?:=([\s\S]*))?$/.exec(arg);
    if (long) {
      const [, key, value] = long;
      const positive = key.startsWith("no-") ? key.slice(3) : "";
      if (value !== undefined) {
        set(key, booleans.has(key) ? value !== "false" : value, arg);
      } else if (positive && negatables.has(positive)) {
        set(positive, false, arg);
      } else if (booleans.has(key) || (allBooleans && !strings.has(key))) {
        if (next === "true" || next === "false") set(key, head[++i] === "true", arg);
        else set(key, true, arg);
      } else if (takesNext) {
        set(key, head[++i], arg);
      } else {
        set(key, empty(key), arg);
      }
    } else if (/^-[^-]/.test(arg)) {
      const letters = arg.slice(1);
      for (let at = 0; at < letters.length; at++) {
        const key = letters[at];
        const rest = letters.slice(at + 1);
        if (rest.startsWith("=")) {
          set(key, booleans.has(key) ? rest !== "=false" : rest.slice(1), arg);
          break;
        }
        if (!booleans.has(key) && rest && (strings.has(key) || isNumber(rest))) {
          set(key, rest, arg);
          break;
        }
        if (rest) set(key, empty(key), arg);
        else if (booleans.has(key)) set(key, true, arg);
        else if (takesNext) set(key, head[++i], arg);
        else set(key, empty(key), arg);
      }
    } else {
      positional(arg);
    }
  }

  for (const [key, value] of Object.entries(options.default ?? {})) {
    if (family(key).some((name) => given.has(name))) continue;
    for (const name of family(key)) result[name] = value;
  }
  for (const key of booleans) if (!(key in result)) result[key] = collected.has(key) ? [] : false;
  for (const key of collected) if (!(key in result)) result[key] = [];

  if (options["--"]) result["--"] = [...tail];
  else for (const arg of tail) result._.push(strings.has("_") ? arg : numeric(arg));
  return result;
}

function aliases(table: Record<string, string | readonly string[]>): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [name, others] of Object.entries(table)) {
    const group = [name, ...(typeof others === "string" ? [others] : others)];
    for (const key of group) groups.set(key, group.filter((k) => k !== key));
  }
  return groups;
}

const isNumber = (text: string) =>
  /^0x[0-9a-f]+$/i.test(text) || /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?$/i.test(text);
const isNegativeNumber = (text: string) => text.startsWith("-") && isNumber(text);
const numeric = (text: string) => isNumber(text) ? Number(text) : text;
