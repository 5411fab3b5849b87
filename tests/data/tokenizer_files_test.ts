import assert from "node:assert/strict";
import { openTokenizer, type Tokenizer } from "../../lib/data/tokenizer.ts";
import { QWEN_PATTERN } from "../../lib/data/tokenizer_qwen.ts";
import { BYTE_CHARACTERS } from "../../lib/data/tokenizer_vocabulary.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { InputError } from "../../lib/errors.ts";

/** A small vocabulary: the bytes, four merges, Qwen2.5's added tokens. */
const SMALL_MERGES = ["h e", "l l", "he ll", "Ġ t"];
const smallVocab = (): Record<string, number> =>
  Object.fromEntries(
    [...BYTE_CHARACTERS, "he", "ll", "hell", "Ġt"].map((token, id) => [token, id]),
  );
const smallMerges = (lines = SMALL_MERGES) => `#version: 0.2\n${lines.join("\n")}\n`;
const smallTokenizer = () => ({
  added_tokens: [{ id: 260, content: "<|im_start|>", special: true, normalized: false }],
  normalizer: { type: "NFC" },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: QWEN_PATTERN }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    ],
  },
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: smallVocab(), merges: SMALL_MERGES.map((m) => m.split(" ")) },
});

/** Opens a folder of these files; objects are written as JSON. */
async function open(files: Record<string, unknown>): Promise<Tokenizer> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await Deno.writeTextFile(`${dir}/${name}`, text);
    }
    return await openTokenizer(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function refusal(files: Record<string, unknown>): Promise<string> {
  try {
    await open(files);
  } catch (error) {
    assert.ok(error instanceof InputError, `${(error as Error).stack}`);
    assert.ok(error.help, error.message);
    return error.message;
  }
  return "accepted";
}

Deno.test("openTokenizer() reads tokenizer.json, vocab.json with merges.txt, and words.json", async () => {
  const vocabulary = { "vocab.json": smallVocab(), "merges.txt": smallMerges() };
  const fromVocab = await open(vocabulary);
  assert.deepEqual(fromVocab.encode("hello the"), [258, fromVocab.encode("o")[0], 259, 256]);
  assert.deepEqual(fromVocab.special, { bos: 261, eos: 262, soi: 269, eoi: 270 });
  assert.equal(fromVocab.size, 282, "Qwen2.5's 22 follow the last id");

  const fromJson = await open({ "tokenizer.json": smallTokenizer() });
  assert.deepEqual(fromJson.encode("hello the"), fromVocab.encode("hello the"));
  assert.deepEqual(fromJson.special, { bos: 260, eos: 261, soi: 262, eoi: 263 }, "three are added");
  assert.equal(fromJson.size, 264);
  const asTexts = smallTokenizer();
  (asTexts.model.merges as unknown) = SMALL_MERGES;
  const both = { ...vocabulary, "tokenizer.json": { ...asTexts, added_tokens: [] } };
  assert.deepEqual((await open(both)).special, fromVocab.special);

  const merges = smallMerges().split("\n").slice(1).join("\r\n"); // no version, CRLF
  assert.equal((await open({ ...vocabulary, "merges.txt": merges })).size, 282);

  const words = new WordTokenizer(["left", "lung"]);
  const fromWords = await open({ "words.json": words });
  assert.deepEqual(fromWords.encode("Left lung"), [6, 7]);
});

Deno.test("openTokenizer() takes added tokens from the files beside the vocabulary", async () => {
  const vocabulary = { "vocab.json": smallVocab(), "merges.txt": smallMerges() };
  const decoder = { 260: { content: "<|im_end|>" }, 261: { content: "<|im_start|>" } };
  const config = { "tokenizer_config.json": { added_tokens_decoder: decoder } };
  const list = { "added_tokens.json": { "<|vision_start|>": 260, "<|im_end|>": 261 } };
  const configured = await open({ ...vocabulary, ...config, ...list });
  assert.deepEqual(configured.special, { bos: 261, eos: 260, soi: 262, eoi: 263 });
  const nested = { "added_tokens.json": { "<|im": 260, "<|im_start|>": 261, "<|im_": 262 } };
  const longest = await open({ ...vocabulary, ...nested });
  assert.deepEqual(longest.encode("<|im_start|><|im_", { special: true }), [261, 262]);
  const listed = await open({ ...vocabulary, ...list, "tokenizer_config.json": {} });
  assert.deepEqual(listed.special, { bos: 262, eos: 261, soi: 260, eoi: 263 });
  // Some vocabularies hold the added tokens too, listed or not.
  const inside = { ...smallVocab(), "<|im_end|>": 260, "<|vision_end|>": 261 };
  const more = { 260: { content: "<|im_end|>" }, 262: { content: "<|im_start|>" } };
  const within = await open({
    ...{ "vocab.json": inside, "merges.txt": smallMerges() },
    "tokenizer_config.json": { added_tokens_decoder: more },
  });
  assert.deepEqual(within.special, { bos: 262, eos: 260, soi: 263, eoi: 261 });
  assert.ok(within.encode("<|im_end|><|vision_end|>").every((id) => id < 260));
  assert.deepEqual(within.encode("<|vision_end|>", { special: true }), [261]);
});

/** Each file set, and what its refusal says. */
async function assertRefused(cases: [Record<string, unknown>, RegExp][]): Promise<void> {
  for (const [files, message] of cases) assert.match(await refusal(files), message);
}

const withMerges = (...lines: string[]) => ({
  "vocab.json": smallVocab(),
  "merges.txt": smallMerges(lines),
});
const withVocab = (change: (vocab: Record<string, unknown>) => void) => {
  const vocab = smallVocab();
  change(vocab);
  return { "vocab.json": vocab, "merges.txt": smallMerges() };
};

Deno.test("openTokenizer() names the folder and what to put there", async () => {
  await assertRefused([
    [{}, /^Cannot open a tokenizer in \/\S+: it has no tokenizer files$/],
    [{ "vocab.json": smallVocab() }, /it has vocab\.json but no merges\.txt$/],
    [{ "merges.txt": smallMerges() }, /it has merges\.txt but no vocab\.json$/],
  ]);
  await assert.rejects(
    openTokenizer("no/such/folder"),
    (e) => e instanceof InputError && /no\/such\/folder: No such file or dir/.test(e.message),
  );
});

Deno.test("openTokenizer() names the file, line and token of a damaged vocabulary", async () => {
  const json = JSON.stringify(smallVocab());
  const cut = { "vocab.json": json.slice(0, -10), "merges.txt": smallMerges() };
  await assertRefused([
    [cut, /vocab\.json: it is not JSON: /],
    [{ ...cut, "vocab.json": "[1]" }, /vocab\.json: expected a JSON object/],
    [{ ...cut, "vocab.json": json.replace("258", "257") }, /"ll" and "hell" both have id 257/],
    [withVocab((v) => v.he = 999), /vocab\.json: "he" has id 999.* there are 282 .* holes/],
    [withVocab((v) => v.he = "256"), /vocab\.json: the id of "he" is "256", not a whole/],
    [withVocab((v) => v.he = -1), /the id of "he" is -1/],
    [withVocab((v) => v.he = 2.5), /the id of "he" is 2\.5/],
    [withVocab((v) => v.he = null), /the id of "he" is null/],
    [withVocab((v) => v[""] = 260), /the token of id 260 is empty/],
    [withVocab((v) => (v.ab = v.A, delete v.A)), /no token for byte 65 \("A"\)/],
    [withVocab((v) => v.zz = 260), /no merge makes "zz" \(id 260\); .*line 5 is last/],
    [withMerges(...SMALL_MERGES.slice(0, 3)), /no merge makes "Ġt"/],
    [withMerges(...SMALL_MERGES, "hello"), /merges\.txt line 6: expected two tokens.* "hello"$/],
    [withMerges("h e", "", "l l"), /merges\.txt line 3: expected two tokens/],
    [withMerges("h e", "l l x"), /line 3: expected two tokens/],
    [withMerges("h e", " l"), /line 3: expected two tokens/],
    [withMerges("h e", "q qq"), /line 3: "qq" is not in .*vocab\.json$/],
    [withMerges("h e", "x y"), /line 3: "xy" is not in .*vocab\.json$/],
    [
      withMerges("h e", "l l", "h e"),
      /line 4: it makes "he", as a byte, an added token or another merge does/,
    ],
  ]);
});

Deno.test("openTokenizer() refuses added tokens that collide, and merges that would make one", async () => {
  const added = (list: unknown) => ({
    ...withMerges(...SMALL_MERGES),
    "tokenizer_config.json": { added_tokens_decoder: list },
  });
  const listed = (list: unknown) => ({
    "tokenizer.json": { ...smallTokenizer(), added_tokens: list },
  });
  await assertRefused([
    [added({ 3: { content: "<|im_end|>" } }), /added_tokens_decoder: .* both have id 3$/],
    [added({ 262: { content: "<|im_end|>" } }), /"<\|im_end\|>" has id 262.* holes/],
    [added({ "0x104": { content: "<|im_end|>" } }), /the id of "<\|im_end\|>" is "0x104"/],
    [added({ 260: { content: 5 } }), /expected a token with a content/],
    [added({ 260: "<|im_end|>" }), /expected a token with a content/],
    [added({ 260: { content: "<|im_end|>", lstrip: true } }), /lstrip of "<\|im_end\|>" is set/],
    [added([1]), /added_tokens_decoder: expected an object/],
    [added({ 7: { content: "hell" } }), /"hell" has id 7, but 258 in/],
    [added({ 258: { content: "hell" } }), /line 4: it makes "hell", as a byte/],
    [{ ...withMerges(...SMALL_MERGES), "added_tokens.json": { "<a>": "260" } }, /<a>" is "260"/],
    [listed([{ id: 260, content: "<a>" }, { id: 261, content: "<a>" }]), /"<a>" is there twice/],
    [listed({}), /tokenizer\.json: added_tokens: expected a list/],
    [listed([null]), /added_tokens\[0\]: expected a token/],
  ]);
});

Deno.test("openTokenizer() refuses a tokenizer.json that needs another algorithm, by its field", async () => {
  const json = smallTokenizer();
  const changed = (change: Record<string, unknown>) => ({
    "tokenizer.json": { ...json, ...change },
  });
  const model = (change: Record<string, unknown>) =>
    changed({ model: { ...json.model, ...change } });
  const [split, bytes] = json.pre_tokenizer.pretokenizers;
  const pieces = (...pretokenizers: unknown[]) =>
    changed({ pre_tokenizer: { type: "Sequence", pretokenizers } });
  await assertRefused([
    [{ "tokenizer.json": "{" }, /tokenizer\.json: it is not JSON/],
    [model({ type: "Unigram" }), /tokenizer\.json: model\.type: expected BPE, got "Unigram"/],
    [model({ byte_fallback: true }), /model\.byte_fallback: expected it to be off, got true/],
    [model({ ignore_merges: true }), /model\.ignore_merges/],
    [model({ end_of_word_suffix: "</w>" }), /model\.end_of_word_suffix: expected none/],
    [model({ merges: "h e" }), /model\.merges: expected a list/],
    [model({ merges: [[1, 2]] }), /model\.merges\[0\]: expected two tokens.*got \[1,2\]/],
    [model({ vocab: [] }), /model\.vocab: expected an object/],
    [changed({ model: null }), /model: expected an object, got null/],
    [changed({ normalizer: null }), /normalizer: expected NFC, got null/],
    [changed({ normalizer: { type: "NFKC" } }), /normalizer: expected NFC/],
    [changed({ pre_tokenizer: { type: "Sequence" } }), /pre_tokenizer: expected a Split/],
    [pieces(split), /pre_tokenizer: expected a Split/],
    [pieces({ ...split, pattern: { Regex: "\\s+" } }, bytes), /pre_tokenizer: expected a Split/],
    [pieces(split, { ...bytes, add_prefix_space: true }), /pre_tokenizer: expected a Split/],
    [pieces(split, { type: "ByteLevel" }), /pre_tokenizer: expected a Split/],
    [changed({ decoder: undefined }), /decoder: expected ByteLevel, got nothing/],
    [{ "words.json": { type: "bpe" } }, /words\.json: expected/],
  ]);
});

Deno.test("openTokenizer() refuses a file too large for a tokenizer before reading it", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.writeTextFile(`${dir}/tokenizer.json`, "{}");
  await Deno.truncate(`${dir}/tokenizer.json`, 2e9); // sparse
  await assert.rejects(
    openTokenizer(dir),
    /it has 2000000000 bytes, a tokenizer's at most 100000000/,
  );
  await Deno.remove(dir, { recursive: true });
});
