import assert from "node:assert/strict";
import { splitWords, WORD_IDS, WordTokenizer } from "../../lib/data/words.ts";
import { InputError } from "../../lib/errors.ts";

const TEXTS = ["Is the lesion left?", "the lesion is LEFT, the other right."];

Deno.test("splitWords() lower-cases, cuts off punctuation and keeps hyphened words, in any script", () => {
  assert.deepEqual(splitWords("Chest X-ray, 3 cm (PA) - T1/T2?"), [
    ...["chest", "x-ray", ",", "3", "cm", "(", "pa", ")", "-", "t1", "/", "t2", "?"],
  ]);
  assert.deepEqual(splitWords("Ödem O\u0308dem 病变"), ["ödem", "ödem", "病变"]);
  assert.deepEqual(splitWords(" \n\t"), []);
});

Deno.test("WordTokenizer.fromTexts() orders by frequency, then by code unit", () => {
  const tokenizer = WordTokenizer.fromTexts(TEXTS);
  assert.deepEqual(tokenizer.words, [
    ...["the", "is", "left", "lesion", ",", ".", "?", "other", "right"],
  ]);
  assert.equal(tokenizer.size, 15);
  assert.deepEqual(WordTokenizer.fromTexts(TEXTS.toReversed()).words, tokenizer.words);
  assert.deepEqual(WordTokenizer.fromTexts(TEXTS, 8).words, ["the", "is"]);
  assert.throws(() => WordTokenizer.fromTexts(TEXTS, 6), /Cannot make a vocabulary of 6/);
});

Deno.test("WordTokenizer encodes unknown words as unk and counts them", () => {
  const tokenizer = WordTokenizer.fromTexts(TEXTS);
  assert.deepEqual(tokenizer.encode("the big lesion"), [6, WORD_IDS.unk, 9]);
  const { words, unknown } = tokenizer.countUnknown(["the big", "Big right"]);
  assert.equal(words, 4);
  assert.deepEqual([...unknown], [["big", 2]]);
});

Deno.test("WordTokenizer.decode() gives back lower-case text without special tokens", () => {
  const tokenizer = WordTokenizer.fromTexts([...TEXTS, "x-ray (h&e) t1/t2"]);
  const ids = [WORD_IDS.bos, ...tokenizer.encode("Is the X-RAY (H&E) left, T1/T2?"), WORD_IDS.eos];
  assert.equal(tokenizer.decode(ids), "is the x-ray (h&e) left, t1/t2?");
  assert.equal(tokenizer.decode([WORD_IDS.unk, 6]), "<unk> the");
  assert.equal(tokenizer.decode([tokenizer.size, 6, 1e9]), "the", "rows of a padded table");
  for (const id of [-1, 0.5, NaN]) {
    assert.throws(() => tokenizer.decode([id]), /RangeError: Cannot decode id/);
  }
});

Deno.test("WordTokenizer takes the strings of special tokens for words unless asked", () => {
  const tokenizer = WordTokenizer.fromTexts(TEXTS);
  const text = "<bos>the<EOI> lesion<eos>";
  const controls = new Set<number>([0, 2, 3, 4, 5]);
  assert.ok(tokenizer.encode(text).every((id) => !controls.has(id)));
  const { bos, eos, unk } = WORD_IDS;
  const ids = tokenizer.encode(text, { special: true });
  assert.deepEqual(ids, [bos, 6, unk, unk, unk, 9, eos]);
  assert.equal(
    tokenizer.decode(ids, { special: true }),
    "<bos> the <unk> <unk> <unk> lesion <eos>",
  );
  assert.equal(tokenizer.decode(ids), "the <unk> <unk> <unk> lesion");
});

Deno.test("WordTokenizer.stream() gives decode() in parts, and starts anew after end()", () => {
  const tokenizer = WordTokenizer.fromTexts([...TEXTS, "(a-b) c, d / e & f's x!"]);
  const stream = tokenizer.stream();
  for (let seed = 1; seed < 50; seed++) {
    const ids = Array.from(
      { length: 12 },
      (_, i) => (seed * 37 + i * i * 11) % (tokenizer.size + 2),
    );
    assert.equal(ids.map((id) => stream.push(id)).join("") + stream.end(), tokenizer.decode(ids));
  }
  const parts = tokenizer.encode("(the left) lesion").map((id) => stream.push(id));
  assert.deepEqual(parts, ["(", "the", " left", ")", " lesion"]);
});

Deno.test("WordTokenizer survives JSON and refuses what is not a vocabulary", () => {
  const tokenizer = WordTokenizer.fromTexts(TEXTS);
  const copy = WordTokenizer.fromJson(JSON.parse(JSON.stringify(tokenizer)));
  assert.deepEqual(copy.words, tokenizer.words);
  assert.deepEqual(copy.encode(TEXTS[1]), tokenizer.encode(TEXTS[1]));
  for (const value of [null, {}, { type: "words", words: [1] }, { type: "bpe", words: [] }]) {
    assert.throws(
      () => WordTokenizer.fromJson(value, "v.json"),
      (e) => e instanceof InputError && e.message.startsWith("Cannot read v.json: expected"),
    );
  }
  for (const words of [["a", "a"], ["A"], ["two words"], [""]]) {
    assert.throws(() => WordTokenizer.fromJson({ type: "words", words }), InputError);
    assert.throws(() => new WordTokenizer(words), RangeError);
  }
});
