// A word-level tokenizer for the small models: lower-case words and single punctuation marks. Six
// special tokens have fixed ids; a vocabulary made twice from the same texts is the same.

import { InputError } from "../errors.ts";
import type { SpecialOption, TextStream, Tokenizer } from "./tokenizer.ts";

/** Ids of the special tokens, the same in every vocabulary. */
export const WORD_IDS = { pad: 0, unk: 1, bos: 2, eos: 3, soi: 4, eoi: 5 } as const;

const SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<soi>", "<eoi>"];
const SPECIAL_PATTERN = new RegExp(`(${SPECIAL.join("|")})`);

/** Letters (with marks) and digits, hyphens between them; or any other single visible character. */
const TOKEN = /[\p{L}\p{M}\p{N}]+(?:-[\p{L}\p{M}\p{N}]+)*|[^\s\p{L}\p{M}\p{N}]/gu;

/** Marks that take no space before them, after them, and on either side. */
const CLOSING = /^[.,;:!?)\]%]$/;
const OPENING = /^[(\[]$/;
const JOINING = /^[-/'’&]$/;

const WORDS_HELP = "Copy the vocabulary of the small model again, as it was saved with its weights";

/** Splits text into lower-case words and punctuation marks, after Unicode normalisation (NFC). */
export function splitWords(text: string): string[] {
  return text.normalize("NFC").toLowerCase().match(TOKEN) ?? [];
}

/** Maps texts to ids and back. */
export class WordTokenizer implements Tokenizer {
  readonly special = WORD_IDS;
  /** Words by id - 6. */
  readonly words: readonly string[];
  readonly #ids: Map<string, number>;

  /** @throws {RangeError} If a word repeats or is not one token of {@link splitWords} */
  constructor(words: readonly string[]) {
    this.words = [...words];
    this.#ids = new Map(this.words.map((word, i) => [word, SPECIAL.length + i]));
    for (const word of words) {
      const parts = splitWords(word);
      if (parts.length !== 1 || parts[0] !== word) {
        throw new RangeError(`Cannot use ${JSON.stringify(word)} as a word: it is not one token`);
      }
    }
    if (this.#ids.size !== words.length) {
      const twice = words.find((word, i) => words.indexOf(word) !== i);
      throw new RangeError(`Cannot make a vocabulary with ${JSON.stringify(twice)} twice`);
    }
  }

  /**
   * The vocabulary of some texts: the most frequent words, equally frequent ones in code unit order.
   *
   * @param maxSize most entries, special tokens included (default: all words)
   */
  static fromTexts(texts: Iterable<string>, maxSize = Infinity): WordTokenizer {
    if (!(maxSize > SPECIAL.length)) {
      throw new RangeError(
        `Cannot make a vocabulary of ${maxSize}: ${SPECIAL.length} are special tokens`,
      );
    }
    const counts = new Map<string, number>();
    for (const text of texts) {
      for (const word of splitWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const order = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
    return new WordTokenizer(order.slice(0, maxSize - SPECIAL.length).map(([word]) => word));
  }

  /** Number of ids: special tokens and words. */
  get size(): number {
    return SPECIAL.length + this.words.length;
  }

  /**
   * Ids of the words; unknown ones become `unk`. Nothing is added at either end.
   *
   * With `special`, `<bos>` and the like in the text become their ids; without, they are brackets and words.
   */
  encode(text: string, { special = false }: SpecialOption = {}): number[] {
    const parts = special ? text.split(SPECIAL_PATTERN) : [text];
    // With one group in the pattern, every second part is what it matched.
    return parts.flatMap((part, i) =>
      i % 2 === 1
        ? [SPECIAL.indexOf(part)]
        : splitWords(part).map((word) => this.#ids.get(word) ?? WORD_IDS.unk)
    );
  }

  /**
   * Words joined by spaces, none before closing punctuation, after opening brackets or beside
   * - / ' &. Special tokens are left out but for `<unk>`, unless `special`. Spacing is normalised, so that
   * text may differ from what was encoded. Ids at or above `size` are left out.
   *
   * @throws {RangeError} On an id that is not a whole number from 0
   */
  decode(ids: ArrayLike<number>, options: SpecialOption = {}): string {
    const stream = this.stream(options);
    return Array.from(ids, (id) => stream.push(id)).join("") + stream.end();
  }

  /** Decodes id by id; each word comes at once, with the space before it if it has one. */
  stream({ special = false }: SpecialOption = {}): TextStream {
    let last = "";
    return {
      push: (id) => {
        if (!Number.isInteger(id) || id < 0) {
          throw new RangeError(`Cannot decode id ${id}: expected a whole number from 0`);
        }
        if (id >= this.size || id < SPECIAL.length && id !== WORD_IDS.unk && !special) return "";
        const word = SPECIAL[id] ?? this.words[id - SPECIAL.length];
        const glued = last === "" || CLOSING.test(word) || JOINING.test(word) ||
          OPENING.test(last) || JOINING.test(last);
        last = word;
        return glued ? word : ` ${word}`;
      },
      end: () => {
        last = "";
        return "";
      },
    };
  }

  /** How many words of the texts there are, and how many of them are unknown, by word. */
  countUnknown(texts: Iterable<string>): { words: number; unknown: Map<string, number> } {
    const unknown = new Map<string, number>();
    let words = 0;
    for (const text of texts) {
      for (const word of splitWords(text)) {
        words++;
        if (!this.#ids.has(word)) unknown.set(word, (unknown.get(word) ?? 0) + 1);
      }
    }
    return { words, unknown };
  }

  /** What {@link WordTokenizer.fromJson} reads; `JSON.stringify` calls this. */
  toJSON(): { type: "words"; words: readonly string[] } {
    return { type: "words", words: this.words };
  }

  /** @param value a parsed JSON value @param name what to call it in errors */
  static fromJson(value: unknown, name = "vocabulary"): WordTokenizer {
    const { type, words } = (value ?? {}) as { type?: unknown; words?: unknown };
    if (type !== "words" || !Array.isArray(words) || !words.every((w) => typeof w === "string")) {
      throw new InputError(
        `Cannot read ${name}: expected {"type": "words", "words": [a list of texts]}`,
        { help: WORDS_HELP },
      );
    }
    try {
      return new WordTokenizer(words);
    } catch (cause) {
      throw new InputError(`Cannot read ${name}: ${(cause as Error).message}`, {
        cause,
        help: WORDS_HELP,
      });
    }
  }
}
