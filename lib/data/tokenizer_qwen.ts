// Qwen2.5's tokenizer: NFC, a split into pieces by one pattern, byte pairs within each piece. Added tokens are
// recognised only when asked: a user's "<|im_end|>" is five ordinary tokens.

import { InputError } from "../errors.ts";
import { BytePairs } from "./bpe.ts";
import type { SpecialIds, SpecialOption, TextStream, Tokenizer } from "./tokenizer.ts";
import { BYTE_CHARACTERS, DELIMITERS, type Vocabulary } from "./tokenizer_vocabulary.ts";

/** The split as `tokenizer.json` writes it (Oniguruma). */
export const QWEN_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The same here: JavaScript's \s has U+FEFF and lacks U+0085, so the Unicode property stands for it. */
const PIECES = new RegExp(
  QWEN_PATTERN.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}"),
  "gu",
);

/** Pieces kept with their ids: words come again. */
const CACHE_PIECES = 20_000;
const CACHE_LENGTH = 32;

/** Byte-level BPE; the files are read by `openTokenizer`. */
export class QwenTokenizer implements Tokenizer {
  readonly special: SpecialIds;
  readonly size: number;
  readonly #tokens: readonly string[];
  readonly #added: ReadonlyMap<string, number>;
  readonly #addedIds: ReadonlySet<number>;
  /** Matches the strings of added tokens, the longest first. */
  readonly #addedPattern: RegExp;
  readonly #pairs: BytePairs;
  readonly #cache = new Map<string, readonly number[]>();
  readonly #encoder = new TextEncoder();

  constructor({ tokens, added, byteIds, merges }: Vocabulary) {
    this.#tokens = tokens;
    this.#added = added;
    this.#addedIds = new Set(added.values());
    const longestFirst = [...added.keys()].sort((a, b) => b.length - a.length);
    this.#addedPattern = new RegExp(`(${longestFirst.map(escapePattern).join("|")})`);
    this.#pairs = new BytePairs(byteIds, merges);
    this.size = tokens.length;
    const id = (name: keyof typeof DELIMITERS) => added.get(DELIMITERS[name])!;
    this.special = { bos: id("bos"), eos: id("eos"), soi: id("soi"), eoi: id("eoi") };
  }

  /**
   * Ids of a text; nothing is added at either end. Half a surrogate pair counts as U+FFFD.
   *
   * With `special`, the strings of all added tokens are cut out before anything else, as `tokenizer.json`
   * asks; without, no text gives the id of an added token.
   *
   * @throws {InputError} If one word of the text has over a million characters and is too long to split
   */
  encode(text: string, { special = false }: SpecialOption = {}): number[] {
    const ids: number[] = [];
    const parts = special ? text.split(this.#addedPattern) : [text];
    parts.forEach((part, i) => {
      // With one group in the pattern, every second part is what it matched.
      if (i % 2 === 1) ids.push(this.#added.get(part)!);
      else this.#encodeOrdinary(part, ids);
    });
    return ids;
  }

  /**
   * The text of some ids; added tokens are left out unless `special`. Bytes that are no UTF-8 become U+FFFD,
   * ids of a padded table (151665 to 152063) nothing.
   *
   * @throws {RangeError} On an id that is not a whole number from 0
   */
  decode(ids: ArrayLike<number>, options: SpecialOption = {}): string {
    const bytes: number[] = [];
    for (let i = 0; i < ids.length; i++) this.#appendBytes(ids[i], options, bytes);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }

  /** Decodes id by id; a character whose bytes are spread over several tokens comes with the last of them. */
  stream(options: SpecialOption = {}): TextStream {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return {
      push: (id) => {
        const bytes: number[] = [];
        this.#appendBytes(id, options, bytes);
        return decoder.decode(Uint8Array.from(bytes), { stream: true });
      },
      end: () => decoder.decode(),
    };
  }

  #encodeOrdinary(text: string, ids: number[]): void {
    for (const piece of split(text.normalize("NFC"))) {
      let found = this.#cache.get(piece);
      if (found === undefined) {
        found = this.#pairs.encode(this.#encoder.encode(piece));
        if (piece.length <= CACHE_LENGTH) {
          if (this.#cache.size >= CACHE_PIECES) this.#cache.clear();
          this.#cache.set(piece, found);
        }
      }
      for (const id of found) ids.push(id);
    }
  }

  #appendBytes(id: number, { special = false }: SpecialOption, bytes: number[]): void {
    if (!Number.isInteger(id) || id < 0) {
      throw new RangeError(`Cannot decode id ${id}: expected a whole number from 0`);
    }
    if (id >= this.size) return;
    const token = this.#tokens[id];
    if (this.#addedIds.has(id)) {
      if (special) bytes.push(...this.#encoder.encode(token));
      return;
    }
    for (let i = 0; i < token.length; i++) bytes.push(BYTE_OF[token.charCodeAt(i)]);
  }
}

/** Byte by the code of its character in the byte alphabet. */
const BYTE_OF = new Uint8Array(512);
BYTE_CHARACTERS.forEach((character, byte) => BYTE_OF[character.charCodeAt(0)] = byte);

/** The pieces of a normalised text: together they are the text. */
function split(text: string): string[] {
  try {
    return text.match(PIECES) ?? [];
  } catch (cause) {
    // The engine's stack ends after some four million letters without a break.
    throw new InputError(
      `Cannot encode a text of ${text.length} characters: a word in it is too long to split`,
      { cause, help: "Break the text into lines or words; is it text at all?" },
    );
  }
}

const escapePattern = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
