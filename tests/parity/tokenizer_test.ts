import assert from "node:assert/strict";
import type { Tokenizer } from "../../lib/data/tokenizer.ts";
import { openTokenizer } from "../../lib/data/tokenizer.ts";
import { WordTokenizer } from "../../lib/data/words.ts";
import { InputError } from "../../lib/errors.ts";
import { checkTokenizerVector, readTokenizerVectors } from "../../lib/parity/tokenizer.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const QWEN = new URL("../../../shared/data/qwen2-tokenizer", import.meta.url).pathname;
const present = await Deno.stat(QWEN).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/data/qwen2-tokenizer is absent)";

/** Runs `body` with the path of a JSON file of this value, beside a tokenizer of the words a and b. */
async function withFile<T>(value: unknown, body: (path: string, dir: string) => Promise<T>) {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/v.json`, JSON.stringify(value));
    await Deno.writeTextFile(`${dir}/words.json`, JSON.stringify(new WordTokenizer(["a", "b"])));
    return await body(`${dir}/v.json`, dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** `deno task parity` as a process of its own, with the permissions the task has. */
async function command(...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["run", "--no-prompt", "--allow-read", "lib/cli/parity.ts", ...args],
    cwd: ROOT,
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test({
  name: `QwenTokenizer gives the published ids of every vector, in both modes${suffix}`,
  ignore: !present,
  fn: async () => {
    const tokenizer = await openTokenizer(QWEN);
    const vectors = await readTokenizerVectors(`${QWEN}/vectors.json`);
    assert.deepEqual(new Set(vectors.map(({ mode }) => mode)), new Set(["plain", "special"]));
    const checked = vectors.map((vector, i) => checkTokenizerVector(tokenizer, vector, i));
    assert.deepEqual(checked.flatMap(({ misses }) => misses), []);

    const { text, mode } = vectors[0];
    const wrong = { text, mode, ids: [...vectors[0].ids.slice(0, -1), 151643] };
    const { misses, kind } = checkTokenizerVector(tokenizer, wrong, 0);
    assert.equal(kind, "plain");
    assert.deepEqual(misses.map((miss) => miss.split(":")[0]), ["encode", "decode"]);
    assert.match(misses[0], /^encode: at 1 got 21927, expected 151643 \(2 ids, expected 2\)$/);
  },
});

Deno.test("checkTokenizerVector() finds ids too many, too few, and a stream that differs", () => {
  const words = new WordTokenizer(["a", "b"]);
  const vector = (ids: number[]) => ({ text: "a b", ids, mode: "plain" as const });
  const misses = (ids: number[], tokenizer: Tokenizer = words) =>
    checkTokenizerVector(tokenizer, vector(ids), 3).misses;
  assert.deepEqual(misses([6, 7]), []);
  assert.deepEqual(misses([6]), ["encode: at 1 got 7, expected the end (2 ids, expected 1)"]);
  assert.deepEqual(misses([6, 7, 1]), ["encode: at 2 got the end, expected 1 (2 ids, expected 3)"]);
  assert.equal(checkTokenizerVector(words, vector([6]), 3).name, '3 "a b"');

  const late = Object.assign(new WordTokenizer(["a", "b"]), {
    stream: () => ({ push: () => "", end: () => "late" }),
    decode: (ids: number[]) => words.decode(ids),
  });
  assert.deepEqual(misses([6, 7], late), ['stream: got "late", decode gives "a b"']);
});

Deno.test("checkTokenizerVector() uses the mode of the vector", () => {
  const words = new WordTokenizer(["a", "eos"]);
  const check = (mode: "plain" | "special", ids: number[]) =>
    checkTokenizerVector(words, { text: "a<eos>", ids, mode }, 0).misses;
  assert.deepEqual(check("special", [6, 3]), []);
  assert.deepEqual(check("plain", [6, 1, 7, 1]), []);
  assert.equal(check("plain", [6, 3]).length, 1);
});

Deno.test("readTokenizerVectors() names the file, the vector and the field", async () => {
  const good = { text: "a", ids: [6], mode: "plain", source: "here" };
  const refusals: [unknown, RegExp][] = [
    [{}, /v\.json: expected a list of \{text, ids, mode, source\}$/],
    [[], /v\.json: expected a list/],
    [[good, 5], /v\.json: case 1 is no object/],
    [[good, { ...good, text: 5 }], /v\.json: text of vector 1 is not/],
    [[{ ...good, ids: [1.5] }], /v\.json: ids of vector 0 is not/],
    [[{ ...good, ids: [-1] }], /ids of vector 0/],
    [[{ ...good, ids: "1" }], /ids of vector 0/],
    [[{ ...good, mode: "both" }], /mode of vector 0/],
  ];
  for (const [value, message] of refusals) {
    await withFile(value, (path) =>
      assert.rejects(
        readTokenizerVectors(path),
        (e) => e instanceof InputError && message.test(e.message) && e.help !== undefined,
      ));
  }
  await withFile([{ text: "a", ids: [6] }], async (path) => {
    assert.deepEqual(await readTokenizerVectors(path), [{ text: "a", ids: [6], mode: "plain" }]);
    await assert.rejects(readTokenizerVectors(`${path}x`), /v\.jsonx: No such file/);
    await Deno.writeTextFile(path, "[{");
    await assert.rejects(readTokenizerVectors(path), /v\.json: it is not JSON/);
  });
});

Deno.test("parity tokenizer prints a line per miss and totals by mode, and ends with 0, 1 or 3", async () => {
  const good = { text: "a b", ids: [6, 7], mode: "plain" };
  const marked = { text: "<bos>a", ids: [2, 6], mode: "special" };
  await withFile([good, marked], async (path, dir) => {
    const { code, stdout, stderr } = await command("tokenizer", path, "--files", dir);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^ok {3}plain +1 of 1\nok {3}special +1 of 1\n/);
    assert.match(stdout, /^total: 2 cases, 2 as expected, 0 not$/m);
  });
  await withFile([good, { ...marked, ids: [2, 7] }], async (path, dir) => {
    const { code, stdout } = await command("tokenizer", path, "--files", dir);
    assert.equal(code, 1);
    assert.match(stdout, /^MISS special 1 "<bos>a": encode: at 1 got 6, expected 7 /);
    assert.match(stdout, /^MISS special +0 of 1$/m);
    const json = await command("tokenizer", path, "--files", dir, "--json");
    const events = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(events.filter(({ event }) => event === "case").map(({ ok }) => ok), [
      true,
      false,
    ]);
    const none = await command("tokenizer", path, "--files", `${dir}/none`);
    assert.equal(none.code, 3);
    assert.match(none.stderr, /^error: Cannot open a tokenizer in .*none: No such file/m);
    assert.equal((await command("tokenizer", `${dir}/words.json`, "--files", dir)).code, 3);
  });
});

Deno.test("parity refuses words and flags that do not go together (2), and its help shows all uses", async () => {
  const cases: [string[], RegExp][] = [
    [["tokenizer"], /^error: Cannot run parity tokenizer: VECTORS\.json is missing$/m],
    [["tokenizer", "v.json"], /^error: Cannot run parity tokenizer: --files DIR is missing$/m],
    [
      ["tokenizer", "v.json", "--only", "ops"],
      /with --only: it has no meaning there\nhelp: .*--files/,
    ],
    [
      ["safetensors"],
      /^error: Cannot run parity safetensors: CASES\.json is missing\nhelp: .*\.\/saf/m,
    ],
    [["dir", "--files", "x"], /^error: Cannot run parity dir with --files/m],
    [["dir", "other"], /unexpected argument other after the folder$/m],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await command(...args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
  const { code, stdout } = await command("--help");
  assert.equal(code, 0);
  for (const use of ["DIR --only", "tokenizer VECTORS.json --files", "safetensors CASES.json"]) {
    assert.ok(stdout.includes(`  deno task parity ${use}`), use);
  }
});
