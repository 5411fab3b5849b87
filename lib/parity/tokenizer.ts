// Test vectors of a tokenizer, `[{text, ids, mode, source}]`, against one of ours: ids exact in both modes, and
// the way back, at once and id by id.

import type { Tokenizer } from "../data/tokenizer.ts";
import { QwenTokenizer } from "../data/tokenizer_qwen.ts";
import { InputError } from "../errors.ts";
import { type CheckedCase, readVectorList } from "./vector_list.ts";

/** One test vector. */
export interface TokenizerVector {
  text: string;
  ids: number[];
  /** `special`: the strings of special tokens in the text are recognised; `plain`: they are not. */
  mode: "plain" | "special";
}

const FORMAT = {
  shape: "{text, ids, mode, source}",
  help: "Give a file of tokenizer vectors, such as ../shared/data/qwen2-tokenizer/vectors.json",
};

/**
 * Reads a file of vectors; without a mode a vector is plain.
 *
 * @throws {InputError} Naming the file, the vector (from 0) and the field
 */
export async function readTokenizerVectors(path: string): Promise<TokenizerVector[]> {
  const list = await readVectorList(path, FORMAT);
  return list.map(({ text, ids, mode = "plain" }, i) => {
    const fail = (what: string) =>
      new InputError(`Cannot read ${path}: ${what} of vector ${i} is not as in ${FORMAT.shape}`, {
        help: FORMAT.help,
      });
    if (typeof text !== "string") throw fail("text");
    const isId = (id: unknown) => Number.isInteger(id) && id as number >= 0;
    if (!Array.isArray(ids) || !ids.every(isId)) throw fail("ids");
    if (mode !== "plain" && mode !== "special") throw fail("mode");
    return { text, ids, mode };
  });
}

/**
 * Checks one vector: `encode` gives its ids; `decode` of its ids gives its text again, normalised (NFC), where
 * the tokenizer keeps texts (words do not); `stream` gives what `decode` gives.
 */
export function checkTokenizerVector(
  tokenizer: Tokenizer,
  { text, ids, mode }: TokenizerVector,
  index: number,
): CheckedCase {
  const options = { special: mode === "special" };
  const misses: string[] = [];
  const got = tokenizer.encode(text, options);
  const at = ids.findIndex((id, i) => got[i] !== id);
  if (at >= 0 || got.length !== ids.length) {
    const place = at >= 0 ? at : ids.length;
    const [here, wanted] = [got, ids].map((list) => list[place] ?? "the end");
    misses.push(
      `encode: at ${place} got ${here}, expected ${wanted} (${got.length} ids, expected ${ids.length})`,
    );
  }
  const back = tokenizer.decode(ids, options);
  const wanted = text.toWellFormed().normalize("NFC");
  if (tokenizer instanceof QwenTokenizer && back.normalize("NFC") !== wanted) {
    misses.push(`decode: got ${short(back)}, expected ${short(wanted)}`);
  }
  const stream = tokenizer.stream(options);
  const parts = ids.map((id) => stream.push(id)).join("") + stream.end();
  if (parts !== back) misses.push(`stream: got ${short(parts)}, decode gives ${short(back)}`);
  return { name: `${index} ${short(text)}`, kind: mode, misses };
}

function short(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
