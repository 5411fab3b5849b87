// The tokenizer files of a checkpoint: `tokenizer.json`, or `vocab.json` and `merges.txt` with the added tokens
// of `tokenizer_config.json` or `added_tokens.json`. Settings that would need another algorithm are refused.

import { InputError } from "../errors.ts";
import { fileReason, jsonReason } from "./jsonl.ts";
import { QWEN_PATTERN } from "./tokenizer_qwen.ts";
import { type AddedToken, checkVocabulary, type Vocabulary } from "./tokenizer_vocabulary.ts";

/** Largest tokenizer file read, in bytes; Qwen2.5's have 1 to 11 MB. */
const MAX_BYTES = 100_000_000;

const HELP = "Get the tokenizer files of the checkpoint again";
const QWEN_HELP =
  "Only Qwen2.5's tokenizer is understood: use the files of the published checkpoint";

type Json = Record<string, unknown>;

/**
 * Reads the vocabulary of a folder that has `tokenizer.json`, or `vocab.json` and `merges.txt`.
 *
 * @param names what is in the folder
 * @throws {InputError} Naming the file and the field
 */
export async function readVocabulary(
  dir: string,
  names: ReadonlySet<string>,
): Promise<Vocabulary> {
  if (names.has("tokenizer.json")) {
    const path = `${dir}/tokenizer.json`;
    const json = await readObject(path);
    const model = checkSettings(json, path);
    const listed = json.added_tokens === undefined ? [] : listOf(json.added_tokens, path);
    const other = listed.length > 0 ? undefined : await readAdded(dir, names);
    return checkVocabulary({
      vocab: model.vocab,
      merges: model.merges,
      vocabName: `${path}: model.vocab`,
      mergeName: (rank) => `${path}: model.merges[${rank}]`,
      added: listed.length > 0 ? listed : other?.added,
      addedName: other?.name ?? `${path}: added_tokens`,
    });
  }
  const path = `${dir}/merges.txt`;
  const lines = (await readText(path)).split("\n").map((line) => line.replace(/\r$/, ""));
  if (lines.at(-1) === "") lines.pop();
  const version = lines[0]?.startsWith("#version") ? 1 : 0;
  const { added, name } = await readAdded(dir, names);
  return checkVocabulary({
    vocab: await readObject(`${dir}/vocab.json`),
    merges: lines.slice(version),
    vocabName: `${dir}/vocab.json`,
    mergeName: (rank) => `${path} line ${rank + 1 + version}`,
    added,
    addedName: name,
  });
}

/** Parses a JSON file whose top level is an object. @throws {InputError} If it cannot be read or is none */
export async function readObject(path: string): Promise<Json> {
  let value: unknown;
  try {
    value = JSON.parse(await readText(path));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw bad(path, `it is not JSON: ${jsonReason(cause)}`, HELP, cause);
  }
  if (isObject(value)) return value;
  throw bad(path, "expected a JSON object");
}

async function readText(path: string): Promise<string> {
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_BYTES) {
      throw bad(path, `it has ${size} bytes, a tokenizer's at most ${MAX_BYTES}`);
    }
    return await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw bad(path, fileReason(cause), HELP, cause);
  }
}

/** Added tokens listed beside the vocabulary: undefined where no file lists any. */
async function readAdded(
  dir: string,
  names: ReadonlySet<string>,
): Promise<{ added: AddedToken[] | undefined; name: string }> {
  if (names.has("tokenizer_config.json")) {
    const path = `${dir}/tokenizer_config.json`;
    const { added_tokens_decoder: decoder } = await readObject(path);
    const name = `${path}: added_tokens_decoder`;
    if (decoder !== undefined && !isObject(decoder)) throw bad(name, "expected an object");
    const entries = Object.entries(decoder ?? {});
    const withId = entries.map(([id, entry]) => ({ ...entry as Json, id: numberOf(id) }));
    if (entries.length > 0) return { added: withId.map((entry) => checkAdded(entry, name)), name };
  }
  const name = `${dir}/added_tokens.json`;
  if (!names.has("added_tokens.json")) return { added: undefined, name };
  const entries = Object.entries(await readObject(name));
  const added = entries.map(([content, id]) => checkAdded({ content, id }, name));
  return { added: added.length > 0 ? added : undefined, name };
}

/** A key that is written as a whole number, as one; anything else as it is, to be refused by its place. */
const numberOf = (key: string): unknown => /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key;

function listOf(value: unknown, path: string): AddedToken[] {
  if (!Array.isArray(value)) throw bad(`${path}: added_tokens`, "expected a list");
  return value.map((entry, i) => checkAdded(entry, `${path}: added_tokens[${i}]`));
}

function checkAdded(entry: unknown, name: string): AddedToken {
  const { content, id, ...flags } = isObject(entry) ? entry : {};
  if (typeof content !== "string" || content === "") {
    throw bad(name, `expected a token with a content that is a text, got ${shown(entry)}`);
  }
  for (const flag of ["lstrip", "rstrip", "single_word"]) {
    if (flags[flag] === true) throw bad(name, `${flag} of ${shown(content)} is set`, QWEN_HELP);
  }
  return { content, id };
}

/** The model part of a `tokenizer.json`, once all its settings are those of Qwen2.5. */
function checkSettings(json: Json, path: string): { vocab: unknown; merges: readonly unknown[] } {
  const { model, normalizer, pre_tokenizer: splitter, decoder } = json;
  const refuse = (field: string, wanted: string, got: unknown) =>
    bad(`${path}: ${field}`, `expected ${wanted}, got ${shown(got)}`, QWEN_HELP);

  if (!isObject(model)) throw refuse("model", "an object", model);
  if ((model.type ?? "BPE") !== "BPE") throw refuse("model.type", "BPE", model.type);
  for (const field of ["byte_fallback", "ignore_merges", "dropout"]) {
    if (model[field]) throw refuse(`model.${field}`, "it to be off", model[field]);
  }
  for (const field of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[field]) throw refuse(`model.${field}`, "none", model[field]);
  }
  if (!Array.isArray(model.merges)) throw refuse("model.merges", "a list", model.merges);

  const steps = (part: unknown, list: string): (Json | undefined)[] => {
    const all = isObject(part) && part.type === "Sequence" ? part[list] : [part];
    return Array.isArray(all) ? all.map((step) => isObject(step) ? step : undefined) : [];
  };
  const [normal, ...normalMore] = steps(normalizer, "normalizers");
  if (normal?.type !== "NFC" || normalMore.length > 0) {
    throw refuse("normalizer", "NFC", normalizer);
  }
  const [split, bytes, ...more] = steps(splitter, "pretokenizers");
  const pattern = isObject(split?.pattern) ? split.pattern.Regex : undefined;
  const splits = split?.type === "Split" && split.behavior === "Isolated" && !split.invert;
  const asBytes = bytes?.type === "ByteLevel" && !bytes.add_prefix_space &&
    bytes.use_regex === false;
  if (!splits || !asBytes || more.length > 0 || pattern !== QWEN_PATTERN) {
    throw refuse("pre_tokenizer", "a Split by Qwen2.5's pattern, then ByteLevel", splitter);
  }
  if (!isObject(decoder) || decoder.type !== "ByteLevel") {
    throw refuse("decoder", "ByteLevel", decoder);
  }
  return { vocab: model.vocab, merges: model.merges };
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const shown = (value: unknown) => {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};

function bad(place: string, what: string, help = HELP, cause?: unknown): InputError {
  return new InputError(`Cannot read ${place}: ${what}`, {
    help,
    ...(cause === undefined ? {} : { cause }),
  });
}
