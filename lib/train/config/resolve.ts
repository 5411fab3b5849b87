// A training config from its layers: defaults < preset < file < `--set a.b=c`. Whatever is misspelt or of a wrong
// kind is refused with the place it came from; whether the values make sense together is for check.ts.

import { fileReason } from "../../data/jsonl.ts";
import { JsonNumber, parseStrictJson, type StrictJson } from "../../data/strict_json.ts";
import { nearestName } from "../../data/edit_distance.ts";
import { InputError, UsageError } from "../../errors.ts";
import { DEFAULTS } from "./defaults.ts";
import { branches, fieldsAt, unknownFieldHelp, wanted } from "./fields.ts";
import {
  type ConfigLayer,
  isRecord,
  type Json,
  originsOf,
  over,
  traced,
  valuesOf,
} from "./layers.ts";
import { originOf, type PresetName, TRAIN_PRESETS } from "./presets.ts";
import { TRAIN_CONFIG, type TrainConfig } from "./schema.ts";

/** A complete config and where each value came from. */
export interface ResolvedTrainConfig {
  values: TrainConfig;
  /** Dotted path of every value (`stages.0.steps`) → `default`, `preset tiny (ours)`, a file's path or `--set`. */
  origins: Record<string, string>;
}

/** A config file as read. */
export interface ConfigFile extends ConfigLayer {
  origin: string;
  /** The preset that it begins with. */
  extends: string | null;
}

/** Where settings come from. */
export interface ConfigInputs {
  /** Name of a preset; instead of the one that the file extends. */
  preset?: string;
  file?: ConfigFile;
  /** Each `path=value`. */
  set?: readonly string[];
}

const FILE_HELP = 'A config is one JSON record, such as {"extends": "tiny", "seed": 1}';

/**
 * Reads a config file. `extends` names a preset; `$schema` is for editors and dropped.
 *
 * @throws {InputError} If the file is missing, unreadable or not a JSON record
 */
export function readConfigFile(path: string): ConfigFile {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound ? "no such file" : fileReason(cause);
    throw new InputError(`Cannot read the config ${path}: ${reason}`, {
      cause,
      help: "Give the path of a readable JSON file",
    });
  }
  return parseConfigFile(text, path);
}

/**
 * A config file from its text.
 *
 * @param origin its path, or what else it is called in messages
 * @throws {InputError} If it is not a JSON record, or repeats a field
 */
export function parseConfigFile(text: string, origin: string): ConfigFile {
  let values: Json;
  try {
    values = plainJson(parseStrictJson(text.replace(/^\ufeff/, "")));
  } catch (cause) {
    throw new InputError(`Cannot read the config ${origin}: ${placed(cause as Error, text)}`, {
      cause,
      help: FILE_HELP,
    });
  }
  const bad = (what: string) =>
    new InputError(`Cannot read the config ${origin}: ${what}`, { help: FILE_HELP });
  if (!isRecord(values)) throw bad(`it holds ${shown(values)}, not a record`);
  const { $schema: _, extends: preset = null, ...rest } = values;
  if (preset !== null && typeof preset !== "string") {
    throw bad(`extends is ${shown(preset)}, not the name of a preset`);
  }
  return { origin, extends: preset, values: rest };
}

/** The message with line and column instead of the character it counts to. */
function placed(error: Error, text: string): string {
  return error.message.replace(/ at character (\d+) of the JSON text$/, (_, at) => {
    const before = text.slice(0, Number(at)).split("\n");
    return `, line ${before.length} column ${before.at(-1)!.length + 1}`;
  });
}

function plainJson(value: StrictJson): Json {
  if (value instanceof JsonNumber) return Number(value.text);
  if (Array.isArray(value)) return value.map(plainJson);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, inner]) => [key, plainJson(inner)]));
}

/**
 * Resolves a config from its layers.
 *
 * @throws {UsageError} On an unknown preset or field (with the nearest name), a value of the wrong kind, or a
 *   required field that nothing sets
 */
export function resolveTrainConfig(inputs: ConfigInputs): ResolvedTrainConfig {
  const layers: ConfigLayer[] = [];
  const preset = inputs.preset ?? inputs.file?.extends ?? undefined;
  if (preset !== undefined) layers.push(presetLayer(preset, inputs));
  if (inputs.file) layers.push(inputs.file);
  for (const flag of inputs.set ?? []) layers.push(setLayer(flag));
  let tree = traced(DEFAULTS as unknown as Json, "default");
  for (const { values, origin } of layers) tree = over(tree, values, origin);
  const values = valuesOf(tree);
  const origins = originsOf(tree);
  const result = TRAIN_CONFIG.safeParse(values);
  if (!result.success) {
    throw refusal(result.error.issues as Issue[], values, (path) => originAt(origins, path));
  }
  return { values: result.data, origins };
}

function presetLayer(name: string, inputs: ConfigInputs): ConfigLayer {
  if (!Object.hasOwn(TRAIN_PRESETS, name)) {
    const names = Object.keys(TRAIN_PRESETS);
    const near = nearestName(name, names);
    const source = inputs.preset === undefined ? `extends in ${inputs.file!.origin}` : "--preset";
    throw new UsageError(
      `Cannot use the preset ${JSON.stringify(name)} from ${source}: it is not known`,
      {
        help: near ? `The nearest name is ${near}` : `The presets are ${names.join(", ")}`,
      },
    );
  }
  const known = name as PresetName;
  return {
    origin: (path) => `preset ${known} (${originOf(known, path)})`,
    values: TRAIN_PRESETS[known].values as unknown as Json,
  };
}

/** The layer of one `--set path=value`; the text is read as what the field holds. */
function setLayer(flag: string): ConfigLayer {
  const equals = flag.indexOf("=");
  if (equals < 1) {
    throw new UsageError(`Cannot use --set ${flag}: it is not of the form field=value`, {
      help: "Such as --set stages.foundation.steps=100 or --set seed=1",
    });
  }
  const path = flag.slice(0, equals).split(".");
  const schemas = fieldsAt(path);
  if (schemas.length === 0) {
    const known = path.findIndex((_, i) => fieldsAt(path.slice(0, i + 1)).length === 0);
    const wrong = path.slice(0, known + 1);
    throw new UsageError(`Cannot use --set: unknown field ${wrong.join(".")}`, {
      help: unknownFieldHelp(wrong),
    });
  }
  const text = flag.slice(equals + 1);
  const types = new Set(schemas.flatMap(branches).map((schema) => schema.type));
  const value = valueOf(text, types, path.join("."));
  return {
    origin: "--set",
    values: path.reduceRight<Json>((inner, key) => ({ [key]: inner }), value),
  };
}

/** The value a text stands for; text that fits nothing stays text, for the check of kinds to name. */
function valueOf(text: string, types: ReadonlySet<string | undefined>, path: string): Json {
  if (text === "null" && types.has("null")) return null;
  if (types.has("string")) return text;
  const structured = types.has("object") || (types.has("array") && text.startsWith("["));
  if (types.has("array") && !structured) {
    return text === "" ? [] : text.split(",").map((t) => t.trim());
  }
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  if (number && !structured) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  if (!structured) return text;
  try {
    return plainJson(parseStrictJson(text));
  } catch (cause) {
    throw new UsageError(
      `Cannot use ${path} from --set: ${text} is not JSON: ${(cause as Error).message}`,
      {
        cause,
        help: `Give ${wanted(fieldsAt(path.split(".")))}`,
      },
    );
  }
}

/** What zod found wrong, as far as it is read here. */
interface Issue {
  code: string;
  path: PropertyKey[];
  keys?: string[];
  errors?: Issue[][];
}

/** One thing that is wrong. */
interface Fault {
  path: string[];
  message: string;
  help: string;
}

/** The error for all issues: the first in full, the others by their paths. */
function refusal(issues: Issue[], values: Json, from: (path: string) => string): UsageError {
  const faults = issues.flatMap((issue) => faultsOf(issue, values, from));
  const [first, ...more] = faults;
  const rest = more.length === 0
    ? ""
    : `; also wrong: ${more.slice(0, 8).map((f) => f.path.join(".")).join(", ")}${
      more.length > 8 ? ` and ${more.length - 8} more` : ""
    }`;
  return new UsageError(`${first.message}${rest}`, { help: first.help });
}

function faultsOf(issue: Issue, values: Json, from: (path: string) => string): Fault[] {
  const path = issue.path.map(String);
  if (issue.code === "invalid_union" && path.length === 1 && path[0] === "batch") {
    const batch = isRecord(values) ? values.batch : undefined;
    if (isRecord(batch)) {
      const inner = issue.errors![("samples" in batch) ? 0 : 1];
      return inner.flatMap((i) => faultsOf({ ...i, path: ["batch", ...i.path] }, values, from));
    }
  }
  if (issue.code === "unrecognized_keys") {
    return issue.keys!.map((key) => {
      const at = [...path, key];
      const dotted = at.join(".");
      return {
        path: at,
        message: `Cannot use ${from(dotted)}: unknown field ${dotted}`,
        help: path[0] === "batch" && fieldsAt(at).length > 0
          ? "A batch holds a number of samples or a budget of tokens, not both"
          : unknownFieldHelp(at),
      };
    });
  }
  const dotted = path.join(".");
  const value = at(values, path);
  const want = wanted(fieldsAt(path));
  if (value === undefined) {
    return [{
      path,
      message: `Cannot use the config: ${dotted} is missing`,
      help: `Give ${dotted} (${want}), or begin with a preset by "extends" or --preset`,
    }];
  }
  return [{
    path,
    message: `Cannot use ${dotted} from ${from(dotted)}: ${shown(value)} is not ${want}`,
    help: fieldsAt(path)[0]?.description ?? FILE_HELP,
  }];
}

function at(value: Json | undefined, path: readonly string[]): Json | undefined {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, Json>)[key];
  }
  return value;
}

/** The origin of a path, of what it holds, or of what holds it. */
function originAt(origins: Record<string, string>, path: string): string {
  if (Object.hasOwn(origins, path)) return origins[path];
  const inside = Object.keys(origins).find((key) => key.startsWith(`${path}.`));
  if (inside !== undefined) return origins[inside];
  const outside = Object.keys(origins).findLast((key) => path.startsWith(`${key}.`));
  return outside !== undefined ? origins[outside] : "the config";
}

function shown(value: Json): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
