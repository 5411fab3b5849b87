// A tokenizer named in a way that can be written into a config and sent to a worker.

import { InputError } from "../../errors.ts";
import { PHANTOM_WORDS } from "../phantoms/factors.ts";
import { openTokenizer, type Tokenizer } from "../tokenizer.ts";
import { readObject } from "../tokenizer_files.ts";
import { WordTokenizer } from "../words.ts";

/** Which tokenizer. */
export type TokenizerSpec =
  /** Whole words: those given, those of a `words.json`, or (default) the phantoms' language. */
  | { kind: "words"; words?: readonly string[] | string }
  /** Qwen2.5's byte pairs, from the folder of a checkpoint. */
  | { kind: "qwen2"; dir: string };

/**
 * Opens the tokenizer.
 *
 * @throws {InputError} If its files are missing or wrong, or the folder of "qwen2" has another kind
 */
export async function openTokenizerSpec(spec: TokenizerSpec): Promise<Tokenizer> {
  if (spec.kind === "words") {
    const { words = PHANTOM_WORDS } = spec;
    if (typeof words !== "string") return new WordTokenizer(words);
    return WordTokenizer.fromJson(await readObject(words), words);
  }
  const tokenizer = await openTokenizer(spec.dir);
  if (tokenizer instanceof WordTokenizer) {
    throw new InputError(`Cannot use the tokenizer in ${spec.dir}: it is of words, not qwen2`, {
      help: 'Set the tokenizer\'s "kind" to "words", or give the folder of a published checkpoint',
    });
  }
  return tokenizer;
}
