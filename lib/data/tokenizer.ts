// What a tokenizer does, whichever vocabulary it has, and how a checkpoint folder's is found: Qwen2.5's byte
// pairs for the published models, words for the small ones.

import { InputError } from "../errors.ts";
import { fileReason } from "./jsonl.ts";
import { QwenTokenizer } from "./tokenizer_qwen.ts";
import { readObject, readVocabulary } from "./tokenizer_files.ts";
import { WordTokenizer } from "./words.ts";

/** Ids of the tokens that delimit text and images; no text ever encodes to them by itself. */
export interface SpecialIds {
  /** Begins a text. */
  readonly bos: number;
  /** Ends a text. */
  readonly eos: number;
  /** Begins an image. */
  readonly soi: number;
  /** Ends an image. */
  readonly eoi: number;
}

/** Whether special tokens take part. */
export interface SpecialOption {
  /**
   * When encoding: their strings in the text (`<|im_end|>`) become their ids, so only for texts that are
   * ours. When decoding: their ids become their strings. Default: false.
   */
  special?: boolean;
}

/** Decodes ids as they come. What was returned so far is always whole characters. */
export interface TextStream {
  /** The text that is certain after one more id; often "" in the middle of a character. */
  push(id: number): string;
  /** What was held back; an unfinished character is U+FFFD. The stream may be used again. */
  end(): string;
}

/** Maps texts to ids and back. */
export interface Tokenizer {
  readonly special: SpecialIds;
  /** One more than the largest id; a model's table may have more rows (padding). */
  readonly size: number;

  /** Ids of a text; nothing is added at either end. */
  encode(text: string, options?: SpecialOption): number[];

  /**
   * The text of some ids. Bytes that are no UTF-8 become U+FFFD. Ids at or above `size`, which an untrained
   * or padded model may say, have no text and are left out.
   *
   * @throws {RangeError} On an id that is not a whole number from 0
   */
  decode(ids: ArrayLike<number>, options?: SpecialOption): string;

  /** Decodes id by id: the parts together are what {@link Tokenizer.decode} gives for all ids. */
  stream(options?: SpecialOption): TextStream;
}

/**
 * The tokenizer of a folder: from `tokenizer.json`, else from `vocab.json` and `merges.txt` (with the added
 * tokens of `tokenizer_config.json` or `added_tokens.json` if there), else from `words.json`.
 *
 * @throws {InputError} If the folder has none of them, or naming the file and field that is wrong
 */
export async function openTokenizer(dir: string): Promise<Tokenizer> {
  const names = await fileNames(dir);
  if (names.has("tokenizer.json") || names.has("vocab.json") && names.has("merges.txt")) {
    return new QwenTokenizer(await readVocabulary(dir, names));
  }
  if (names.has("words.json")) {
    const path = `${dir}/words.json`;
    return WordTokenizer.fromJson(await readObject(path), path);
  }
  const half = names.has("vocab.json")
    ? "it has vocab.json but no merges.txt"
    : names.has("merges.txt")
    ? "it has merges.txt but no vocab.json"
    : "it has no tokenizer files";
  throw new InputError(`Cannot open a tokenizer in ${dir}: ${half}`, {
    help:
      "Put the checkpoint's tokenizer.json there, or its vocab.json and merges.txt, or a small model's words.json",
  });
}

async function fileNames(dir: string): Promise<Set<string>> {
  const names = new Set<string>();
  try {
    for await (const entry of Deno.readDir(dir)) names.add(entry.name);
  } catch (cause) {
    throw new InputError(`Cannot open a tokenizer in ${dir}: ${fileReason(cause)}`, {
      cause,
      help: "Give the folder that holds the checkpoint's tokenizer files",
    });
  }
  return names;
}
