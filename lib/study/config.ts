// Settings of a run from layers: defaults < preset < file < `--set a.b=c`. The defaults are the schema:
// a layer may only change a field that exists there, to a value of the same kind. Where each value came
// from is kept, so that a run record can say so.

import { nearestName } from "../data/edit_distance.ts";
import { fileReason, jsonReason } from "../data/jsonl.ts";
import { InputError, UsageError } from "../errors.ts";

/** Anything JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** One layer of settings. */
export interface Layer {
  /** Where it comes from, as printed: `preset quick`, `tiny.json`, `--set`. */
  origin: string;
  /** A record nested like the defaults, holding only what it changes. */
  values: unknown;
}

/** Settings with their provenance. */
export interface ResolvedConfig<T> {
  values: T;
  /** Dotted path of every leaf → the origin of its value; `default` if no layer changed it. */
  origins: Record<string, string>;
}

/**
 * Applies layers to defaults, later ones winning field by field.
 *
 * Kinds: a number must be finite; a list replaces the whole list and its elements must be of the kind of
 * the default's first; where the default is null, any string, number, boolean or null is taken.
 *
 * @param defaults complete settings, JSON values only
 * @throws {UsageError} If a layer names an unknown field or gives a value of another kind
 */
export function resolveConfig<T extends object>(
  defaults: T,
  layers: readonly Layer[],
): ResolvedConfig<T> {
  const values = structuredClone(defaults);
  const origins: Record<string, string> = {};
  for (const path of Object.keys(flatten(defaults as Json))) origins[path] = "default";
  for (const { origin, values: changes } of layers) {
    if (!isRecord(changes)) {
      throw new UsageError(`Cannot use ${origin}: it holds ${kindOf(changes)}, not a record`, {
        help: FILE_HELP,
      });
    }
    apply(values as { [key: string]: Json }, changes, [], origin, origins);
  }
  return { values, origins };
}

const FILE_HELP = 'Settings are one JSON record of the fields to change, such as {"steps": 240}';

/**
 * Reads one layer from a JSON file; a `$schema` field at its top is allowed and dropped.
 *
 * @throws {InputError} If the file is missing, unreadable or not a JSON record
 */
export function readConfigFile(path: string): Layer {
  let values: unknown;
  try {
    values = JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "no such file"
      : error instanceof SyntaxError
      ? `it is not JSON: ${jsonReason(error)}`
      : fileReason(error);
    const help = error instanceof SyntaxError
      ? FILE_HELP
      : "Give the path of a readable JSON file with the fields to change";
    throw new InputError(`Cannot read settings from ${path}: ${reason}`, { cause: error, help });
  }
  if (!isRecord(values)) {
    throw new InputError(`Cannot read settings from ${path}: it holds ${kindOf(values)}`, {
      help: FILE_HELP,
    });
  }
  delete values.$schema;
  return { origin: path, values };
}

/**
 * One layer from `--set` flags, `a.b=value`. Values are read as the kind of the default they change:
 * text stays text, lists are JSON or comma-separated (`seeds=0,4,7`).
 *
 * @param flags each `path=value`
 * @param defaults the same defaults that {@linkcode resolveConfig} gets
 * @throws {UsageError} If a flag has no `=`, or names an unknown field, or its value cannot be read
 */
export function setLayer(flags: readonly string[], defaults: object): Layer {
  const values: { [key: string]: Json } = Object.create(null);
  for (const flag of flags) {
    const equals = flag.indexOf("=");
    if (equals < 1) {
      throw new UsageError(`Cannot use --set ${flag}: it is not of the form field=value`, {
        help: `The fields are ${Object.keys(flatten(defaults as Json)).join(", ")}`,
      });
    }
    const path = flag.slice(0, equals).split(".");
    let at: { [key: string]: Json } = values;
    let known = defaults as Json;
    path.forEach((key, depth) => {
      if (!isRecord(known) || !Object.hasOwn(known, key)) {
        throw unknownField("--set", path.slice(0, depth + 1), isRecord(known) ? known : {});
      }
      known = known[key];
      if (depth === path.length - 1) {
        at[key] = readAs(known, flag.slice(equals + 1), path.join("."));
      } else at = (at[key] ??= {}) as { [key: string]: Json };
    });
  }
  return { origin: "--set", values };
}

/** The value a flag's text stands for; text that does not fit stays text, for the kind check to name. */
function readAs(model: Json, text: string, path: string): Json {
  if (typeof model === "string") return text;
  if (Array.isArray(model) && !text.startsWith("[")) {
    return text === ""
      ? []
      : text.split(",").map((item) => readAs(model[0] ?? null, item.trim(), path));
  }
  const literal = /^(true|false|null|-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)$/i.test(text);
  if (literal && text !== "" && !Number.isNaN(Number(text))) return Number(text);
  const structured = Array.isArray(model) || isRecord(model);
  if (!literal && !structured) return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`Cannot use ${path} from --set: "${text}" is not JSON`, {
      cause: error,
      help: structured ? repair(model, path, "--set") : "Write true, false and null in lower case",
    });
  }
}

function apply(
  target: { [key: string]: Json },
  changes: Record<string, unknown>,
  above: string[],
  origin: string,
  origins: Record<string, string>,
): void {
  for (const [key, value] of Object.entries(changes)) {
    const path = [...above, key];
    if (!Object.hasOwn(target, key)) throw unknownField(origin, path, target);
    const old = target[key];
    if (isRecord(old) && isRecord(value)) {
      apply(old, value, path, origin, origins);
      continue;
    }
    checkKind(old, value, path.join("."), origin);
    target[key] = structuredClone(value as Json);
    origins[path.join(".")] = origin;
  }
}

/**
 * @param help the repair; by default that of the field itself, elements of a list get the list's
 * @throws {UsageError} If `value` is not of the kind of `model`
 */
function checkKind(
  model: Json,
  value: unknown,
  path: string,
  origin: string,
  help = repair(model, path, origin),
): void {
  const wrong = (wanted: string) => {
    const shown = JSON.stringify(value) ?? String(value);
    return new UsageError(`Cannot use ${path} from ${origin}: ${shown} is not ${wanted}`, { help });
  };
  if (typeof value === "number" && !Number.isFinite(value)) throw wrong("a finite number");
  if (model === null) {
    if (value !== null && !["string", "number", "boolean"].includes(typeof value)) {
      throw wrong("a string, number, boolean or null");
    }
    return;
  }
  if (kindOf(model) !== kindOf(value)) throw wrong(kindOf(model));
  if (Array.isArray(model) && Array.isArray(value) && model.length > 0) {
    value.forEach((item, i) => checkKind(model[0], item, `${path}[${i}]`, origin, help));
  }
}

/** What to write instead: the field with the value it has now, or the fields of a record. */
function repair(model: Json, path: string, origin: string): string {
  if (isRecord(model)) {
    const fields = Object.keys(model).map((key) => `${path}.${key}`);
    return fields.length === 0 ? `Leave ${path} out: it has no fields` : `Set ${oneOf(fields)}`;
  }
  const kind = model === null ? "a string, number, boolean or null" : kindOf(model);
  const value = JSON.stringify(model);
  const flagValue = typeof model === "string"
    ? model
    : Array.isArray(model)
    ? listText(model)
    : value;
  const example = origin === "--set"
    ? `--set ${path}=${flagValue}`
    : `"${path.slice(path.lastIndexOf(".") + 1)}": ${value}`;
  return `Give ${kind}, such as ${example}`;
}

/** A list as a flag spells it: commas where its elements allow. */
function listText(list: Json[]): string {
  return list.every((item) => typeof item === "number") ? list.join(",") : JSON.stringify(list);
}

/** `a, b or c`. */
function oneOf(names: string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function unknownField(origin: string, path: string[], siblings: object): UsageError {
  const names = Object.keys(siblings);
  const wanted = path.at(-1)!;
  const above = path.slice(0, -1);
  const full = (name: string) => [...above, name].join(".");
  const close = nearestName(wanted, names);
  const help = close !== undefined
    ? `The nearest name is ${full(close)}`
    : names.length === 0
    ? `${above.join(".")} has no fields`
    : `The fields are ${names.map(full).join(", ")}`;
  return new UsageError(`Cannot use ${origin}: unknown field ${path.join(".")}`, { help });
}

/** Dotted path → value of everything that is not a record with fields. */
export function flatten(value: Json, above: string[] = []): Record<string, Json> {
  if (!isRecord(value) || Object.keys(value).length === 0) return { [above.join(".")]: value };
  return Object.assign(
    {},
    ...Object.entries(value).map(([key, inner]) => flatten(inner, [...above, key])),
  );
}

function isRecord(value: unknown): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a record" : `a ${typeof value}`;
}
