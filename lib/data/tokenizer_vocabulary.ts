// A byte-level vocabulary, checked before it is used: ids without holes or repeats, every byte a token, every
// other token made by exactly one merge. A file that is cut short, mixed with another checkpoint's or damaged
// would otherwise still encode, to wrong ids.

import { InputError } from "../errors.ts";
import { MAX_MERGES, type Merges } from "./bpe.ts";

/** A token that is not made of bytes by merges, such as `<|im_end|>`. */
export interface AddedToken {
  content: string;
  /** What came as its id; checked with the others. */
  id: unknown;
}

/** A vocabulary as files hold it, and how to name its places in errors. */
export interface VocabularyParts {
  /** Token, in the byte alphabet, to id. */
  vocab: unknown;
  /** By rank: "left right" or ["left", "right"]. */
  merges: readonly unknown[];
  /** Undefined where no file lists them: then Qwen2.5's, after the last id. */
  added: readonly AddedToken[] | undefined;
  /** The place of the vocabulary: `DIR/vocab.json`. */
  vocabName: string;
  /** The place of a merge: `DIR/merges.txt line 7`. */
  mergeName(rank: number): string;
  /** The place of the added tokens. */
  addedName: string;
}

/** A checked vocabulary. */
export interface Vocabulary {
  /** By id: ordinary tokens in the byte alphabet, added ones as they are written. */
  tokens: readonly string[];
  /** Added tokens to their ids; no merge makes one. */
  added: ReadonlyMap<string, number>;
  /** (256) ids of the single bytes. */
  byteIds: Int32Array;
  merges: Merges;
}

/** What delimits texts and images, in the order in which missing ones are added. */
export const DELIMITERS = {
  bos: "<|im_start|>",
  eos: "<|im_end|>",
  soi: "<|vision_start|>",
  eoi: "<|vision_end|>",
} as const;

/** Qwen2.5's added tokens, from id 151643 on. */
const QWEN_ADDED = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|object_ref_start|>",
  "<|object_ref_end|>",
  "<|box_start|>",
  "<|box_end|>",
  "<|quad_start|>",
  "<|quad_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|vision_pad|>",
  "<|image_pad|>",
  "<|video_pad|>",
  "<tool_call>",
  "</tool_call>",
  "<|fim_prefix|>",
  "<|fim_middle|>",
  "<|fim_suffix|>",
  "<|fim_pad|>",
  "<|repo_name|>",
  "<|file_sep|>",
];

/**
 * The character that stands for each byte in GPT-2's alphabet: visible Latin-1 for itself, the 68 others
 * from U+0100 on, in order.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = byte >= 33 && byte <= 126 || byte >= 161 && byte !== 173;
    return String.fromCharCode(visible ? byte : 256 + others++);
  });
})();

const HELP = "Get the tokenizer files of the checkpoint again; all must come from the same one";

/** @throws {InputError} Naming the place of whatever is wrong */
export function checkVocabulary(parts: VocabularyParts): Vocabulary {
  const { vocab, vocabName } = parts;
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) {
    throw bad(vocabName, "expected an object of tokens and their ids");
  }
  const ids = new Map<string, unknown>();
  for (const token in vocab) ids.set(token, (vocab as Record<string, unknown>)[token]);

  const added = new Map<string, number>();
  let next = ids.size;
  const known = (content: string) => ({ content, id: ids.get(content) ?? next++ });
  for (const { content, id } of parts.added ?? QWEN_ADDED.map(known)) {
    if (added.has(content)) throw bad(parts.addedName, `${quote(content)} is there twice`);
    if (ids.has(content) && ids.get(content) !== id) {
      const other = `${shown(ids.get(content))} in ${vocabName}`;
      throw bad(parts.addedName, `${quote(content)} has id ${shown(id)}, but ${other}`);
    }
    added.set(content, id as number);
    ids.delete(content); // so that no merge can make it
  }

  const missing = Object.values(DELIMITERS).filter((token) => !added.has(token));
  for (const token of missing.filter((token) => ids.has(token))) {
    added.set(token, ids.get(token) as number);
    ids.delete(token);
  }

  const tokens = new Array<string>(ids.size + added.size).fill("");
  for (const [token, id] of ids) place(tokens, token, id, vocabName);
  for (const [token, id] of added) place(tokens, token, id, parts.addedName);
  for (const token of missing) if (!added.has(token)) added.set(token, tokens.push(token) - 1);

  const numbers = ids as Map<string, number>;
  const byteIds = Int32Array.from(BYTE_CHARACTERS, (character, byte) => {
    const id = numbers.get(character);
    if (id !== undefined) return id;
    throw bad(vocabName, `there is no token for byte ${byte} (${quote(character)})`);
  });
  const made = new Uint8Array(tokens.length);
  for (const id of [...byteIds, ...added.values()]) made[id] = 1;
  const merges = checkMerges(parts, numbers, tokens, made);
  const orphan = made.indexOf(0);
  if (orphan >= 0) {
    const last = parts.mergeName(parts.merges.length - 1);
    throw bad(vocabName, `no merge makes ${quote(tokens[orphan])} (id ${orphan}); ${last} is last`);
  }
  return { tokens, added, byteIds, merges };
}

/** Puts a token at its id. `tokens` is as long as there are tokens, so ids without repeats have no holes. */
function place(tokens: string[], token: string, id: unknown, name: string): void {
  if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
    throw bad(name, `the id of ${quote(token)} is ${shown(id)}, not a whole number from 0`);
  }
  if (token === "") throw bad(name, `the token of id ${id} is empty`);
  if (id >= tokens.length) {
    const what = `${quote(token)} has id ${id}, but there are ${tokens.length} tokens`;
    throw bad(name, `${what}: the ids have holes`);
  }
  if (tokens[id] !== "") {
    throw bad(name, `${quote(tokens[id])} and ${quote(token)} both have id ${id}`);
  }
  tokens[id] = token;
}

/** Merges as ids; marks in `made` what they make. */
function checkMerges(
  { merges, mergeName, vocabName }: VocabularyParts,
  ids: ReadonlyMap<string, number>,
  tokens: readonly string[],
  made: Uint8Array,
): Merges {
  const count = merges.length;
  if (count >= MAX_MERGES) throw bad(mergeName(MAX_MERGES), `there are ${count} merges`);
  const [left, right, merged] = [0, 1, 2].map(() => new Int32Array(count));
  let guess = BYTE_CHARACTERS.length; // Qwen's ids are in the order of the merges: no need to look them up
  for (let rank = 0; rank < count; rank++) {
    const pair = halves(merges[rank]);
    if (!pair) {
      const got = shown(merges[rank]);
      throw bad(mergeName(rank), `expected two tokens with a space between them, got ${got}`);
    }
    const [a, b] = pair;
    const id = isJoint(tokens[guess], a, b) ? guess : ids.get(a + b);
    for (const token of pair) {
      if (!ids.has(token)) throw bad(mergeName(rank), `${quote(token)} is not in ${vocabName}`);
    }
    if (id === undefined) throw bad(mergeName(rank), `${quote(a + b)} is not in ${vocabName}`);
    if (made[id] !== 0) {
      throw bad(
        mergeName(rank),
        `it makes ${quote(a + b)}, as a byte, an added token or another merge does`,
      );
    }
    made[id] = 1;
    left[rank] = ids.get(a)!;
    right[rank] = ids.get(b)!;
    merged[rank] = id;
    guess = id + 1;
  }
  return { left, right, merged };
}

/** The two tokens of a merge, or undefined if it is not one. */
function halves(merge: unknown): readonly [string, string] | undefined {
  if (typeof merge === "string") {
    const space = merge.indexOf(" ");
    const ends = space <= 0 || space === merge.length - 1 || merge.includes(" ", space + 1);
    return ends ? undefined : [merge.slice(0, space), merge.slice(space + 1)];
  }
  if (!Array.isArray(merge) || merge.length !== 2) return undefined;
  const [a, b] = merge;
  const texts = typeof a === "string" && typeof b === "string" && a !== "" && b !== "";
  return texts ? [a, b] : undefined;
}

function isJoint(token: string | undefined, a: string, b: string): boolean {
  return token?.length === a.length + b.length && token.startsWith(a) && token.endsWith(b);
}

const quote = (text: string) => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);

const shown = (value: unknown) => (JSON.stringify(value) ?? "nothing").slice(0, 60);

function bad(place: string, what: string): InputError {
  return new InputError(`Cannot read ${place}: ${what}`, { help: HELP });
}
