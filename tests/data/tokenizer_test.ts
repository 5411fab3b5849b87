import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { Tokenizer as Reference } from "@huggingface/tokenizers";
import { openTokenizer, type Tokenizer } from "../../lib/data/tokenizer.ts";
import { QWEN_PATTERN } from "../../lib/data/tokenizer_qwen.ts";
import { BYTE_CHARACTERS } from "../../lib/data/tokenizer_vocabulary.ts";
import { InputError } from "../../lib/errors.ts";

const QWEN = new URL("../../../shared/data/qwen2-tokenizer/", import.meta.url).pathname;
const present = existsSync(`${QWEN}vocab.json`);
const suffix = present ? "" : " (skipped: ../shared/data/qwen2-tokenizer is absent)";
let opened: Promise<Tokenizer> | undefined;
const qwen = () => opened ??= openTokenizer(QWEN);

/** Seeded numbers from 0 below n. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0;
    return ((state ^ state >>> 13) >>> 0) % n;
  };
}

const SPACES = [" ", "  ", "\n", "\r", "\r\n", "\t", "\v", "\u0085", "\u00a0", "\ufeff", "\u180e"];
const MORE_SPACES = ["\u200b", "\u2028", "\u3000", "\u1680", "\x1c", "\x1f", "\u202f"];
const MARKS = ["'s", "'S", "'ſ", "'T", "'re", "'vE", "'ll", "'D", "''", "’s", "'K", "!", "..."];
const LETTERS = ["a", "Z", "é", "e\u0301", "ß", "ſ", "病变", "Å", "ᄀ\u1161\u11a8", "क्", "𝒜", "ª"];
const NUMBERS = ["1", "23", "٣", "½", "Ⅷ", "〇", "𝟗", "①"];
const OTHERS = ["🚀", "😶‍🌫️", "👨‍👩‍👧", "\u0338", ">", "<", "|", "\0", "\u200d", "\ufffd", "\u{10ffff}"];
const SPECIALS = [
  "<|im_start|>",
  "<|im_end|>",
  "<|vision_start|>",
  "<tool_call>",
  "<|im_",
  "end|>",
];
const PARTS = [SPACES, MORE_SPACES, MARKS, LETTERS, NUMBERS, OTHERS, SPECIALS];

/** A text of odd parts: unusual spaces, marks that combine, contractions, strings of special tokens. */
function oddText(next: (n: number) => number): string {
  return Array.from({ length: 1 + next(14) }, () => {
    const part = PARTS[next(PARTS.length)];
    return part[next(part.length)];
  }).join("");
}

Deno.test({
  name: `QwenTokenizer agrees with @huggingface/tokenizers on odd texts, in both modes${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    const info = JSON.parse(readFileSync(`${QWEN}tokenizer_info.json`, "utf8"));
    assert.equal(info.pretokenizer_regex, QWEN_PATTERN);
    const files = {
      normalizer: { type: "NFC" },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: QWEN_PATTERN }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
        ],
      },
      decoder: { type: "ByteLevel" },
      post_processor: null,
      model: {
        type: "BPE",
        vocab: JSON.parse(readFileSync(`${QWEN}vocab.json`, "utf8")),
        merges: readFileSync(`${QWEN}merges.txt`, "utf8").split("\n").slice(1, -1),
      },
      added_tokens: Object.entries<number>(info.special_tokens).map(([content, id]) => (
        { content, id, special: true, normalized: false }
      )),
    };
    // deno-lint-ignore no-explicit-any -- its constructor takes any JSON
    const reference = new Reference(files as any, {});
    const next = random(7);
    for (let i = 0; i < 1500; i++) {
      const text = oddText(next);
      const expected = reference.encode(text, { add_special_tokens: false }).ids;
      const ids = tokenizer.encode(text, { special: true });
      assert.deepEqual(ids, expected, JSON.stringify(text));
      // Without special tokens the two differ only where a text holds one.
      if (!expected.some((id) => id >= 151643)) assert.deepEqual(tokenizer.encode(text), ids);
    }
  },
});

Deno.test({
  name: `QwenTokenizer never says a special token for a user's text: case, joins, NFC${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    const { special_tokens } = JSON.parse(readFileSync(`${QWEN}tokenizer_info.json`, "utf8"));
    for (const [content, id] of Object.entries<number>(special_tokens)) {
      const half = content.length >> 1;
      const texts = [content, content.toUpperCase(), `a${content}b`, content.repeat(3)];
      texts.push(` ${content}\n`, `${content.slice(0, half)}${content}${content.slice(half)}`);
      texts.push(content.slice(0, half) + "\u200d" + content.slice(half), `${content}\u0338`);
      texts.push(content.replace("k", "\u212a"), content.normalize("NFD"), `\ud800${content}`);
      for (const text of texts) {
        const ids = tokenizer.encode(text);
        assert.ok(ids.every((id) => id < 151643), JSON.stringify(text));
        assert.equal(tokenizer.decode(ids), text.toWellFormed().normalize("NFC"));
      }
      assert.deepEqual(tokenizer.encode(content, { special: true }), [id]);
      assert.equal(tokenizer.decode([id]), "");
      assert.equal(tokenizer.decode([id], { special: true }), content);
    }
    assert.deepEqual(tokenizer.special, { bos: 151644, eos: 151645, soi: 151652, eoi: 151653 });
    assert.equal(tokenizer.size, 151665);
  },
});

Deno.test({
  name: `QwenTokenizer keeps texts through encode and decode, and replaces half a pair${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    const next = random(11);
    for (let i = 0; i < 1000; i++) {
      const text = oddText(next);
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text.normalize("NFC"));
    }
    assert.deepEqual(tokenizer.encode(""), []);
    assert.deepEqual(tokenizer.encode("\ud83d x \udc00"), tokenizer.encode("\ufffd x \ufffd"));
    assert.equal(tokenizer.decode([]), "");
  },
});

Deno.test({
  name:
    `QwenTokenizer.encode() takes long texts without a break, and says when one is too long${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    for (const [part, each] of [["a", 8], [" ", 128], ["\n", 32], ["!", 8], ["病", 1]] as const) {
      const text = part.repeat(100_000);
      const ids = tokenizer.encode(text);
      assert.ok(ids.length >= 100_000 / each && ids.length <= 100_000, `${part} ${ids.length}`);
      assert.equal(tokenizer.decode(ids), text);
    }
    assert.throws(
      () => tokenizer.encode("病".repeat(10_000_000)),
      (e) => e instanceof InputError && /10000000 characters: a word in it is too/.test(e.message),
    );
  },
});

Deno.test({
  name: `QwenTokenizer.stream() gives decode() in whole characters, for any ids${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    const next = random(13);
    const bytes = BYTE_CHARACTERS.map((_, byte) => byte).filter((byte) => byte >= 0x7f);
    const emoji = tokenizer.encode("😶‍🌫️ 病 é");
    const plain = tokenizer.stream();
    const loud = tokenizer.stream({ special: true });
    for (let i = 0; i < 3000; i++) {
      const ids = Array.from({ length: next(12) }, () => {
        const kind = next(4);
        if (kind === 0) return bytes[next(bytes.length)]; // mostly no UTF-8
        if (kind === 1) return 151640 + next(430); // special, padded, beyond the table
        return kind === 2 ? emoji[next(emoji.length)] : next(151643);
      });
      const parts = ids.map((id) => plain.push(id));
      for (const part of parts) assert.ok(part.isWellFormed());
      assert.equal(parts.join("") + plain.end(), tokenizer.decode(ids), `${ids}`);
      const shown = ids.map((id) => loud.push(id)).join("") + loud.end();
      assert.equal(shown, tokenizer.decode(ids, { special: true }), `${ids}`);
    }
    const face = tokenizer.encode(" 😶");
    assert.equal(face.length, 2, "the first token ends within the character");
    assert.deepEqual(face.map((id) => plain.push(id)), [" ", "😶"]);
    assert.equal(plain.push(face[0]) + plain.end(), " \ufffd");
  },
});

Deno.test({
  name:
    `QwenTokenizer.decode() keeps marks, replaces broken bytes and refuses what is no id${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await qwen();
    const bom = tokenizer.encode("\ufeffa");
    assert.equal(tokenizer.decode(bom), "\ufeffa");
    const [e4, b8] = [0xe4, 0xb8].map((byte) => tokenizerByte(byte));
    assert.equal(tokenizer.decode([e4, b8]), "\ufffd", "one for the part of a character");
    assert.equal(tokenizer.decode([b8, b8, 64]), "\ufffd\ufffda");
    assert.equal(tokenizer.decode([151700, 64, 152063, 1e12]), "a");
    for (const id of [-1, 1.5, NaN, Infinity]) {
      assert.throws(() => tokenizer.decode([id]), /RangeError: Cannot decode id/);
      assert.throws(() => tokenizer.stream().push(id), /RangeError: Cannot decode id/);
    }
  },
});

/** The id of a single byte: Qwen's first 256 are the byte alphabet in the order of its characters. */
function tokenizerByte(byte: number): number {
  return [...BYTE_CHARACTERS].sort().indexOf(BYTE_CHARACTERS[byte]);
}
