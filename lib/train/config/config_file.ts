// A config file: JSON in which a field may stand once, with the preset it begins with.

import { fileReason } from "../../data/jsonl.ts";
import { JsonNumber, parseStrictJson, type StrictJson } from "../../data/strict_json.ts";
import { InputError } from "../../errors.ts";
import { type ConfigLayer, isRecord, type Json } from "./layers.ts";

/** A config file as read. */
export interface ConfigFile extends ConfigLayer {
  origin: string;
  /** The preset that it begins with. */
  extends: string | null;
}

/** What a config file looks like. */
export const FILE_HELP = 'A config is one JSON record, such as {"extends": "tiny", "seed": 1}';

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

/** Plain JSON of what the strict parser gives. */
export function plainJson(value: StrictJson): Json {
  if (value instanceof JsonNumber) return Number(value.text);
  if (Array.isArray(value)) return value.map(plainJson);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, inner]) => [key, plainJson(inner)]));
}

/** A value as it is shown in a message. */
export function shown(value: Json): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
