import assert from "node:assert/strict";
import { InputError } from "../../lib/errors.ts";
import {
  checkSafetensorsCase,
  readSafetensorsCases,
  type SafetensorsCase,
} from "../../lib/parity/safetensors.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const CASES = new URL("../../../shared/fixtures/safetensors/cases.json", import.meta.url).pathname;
const present = await Deno.stat(CASES).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/fixtures/safetensors is absent)";

/** A file with this header and these data bytes. */
function fileOf(header: string, data: ArrayLike<number> = []): Uint8Array {
  const json = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + json.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.length);
  return bytes;
}

function misses(bytes: Uint8Array, rest: Partial<SafetensorsCase>): string[] {
  const base = {
    name: "t",
    bytes,
    expect: "accept",
    tensors: undefined,
    strictOnly: false,
  } as const;
  return checkSafetensorsCase({ ...base, ...rest }).misses;
}

Deno.test({
  name: `our header reader agrees with every published case${suffix}`,
  ignore: !present,
  fn: async () => {
    const cases = await readSafetensorsCases(CASES);
    const checked = cases.map(checkSafetensorsCase);
    assert.deepEqual(checked.filter(({ misses }) => misses.length > 0), []);
    const kinds = new Set(checked.map(({ kind }) => kind));
    assert.deepEqual(kinds, new Set(["accept", "reject", "reject beyond JSON.parse"]));
    // The other verdict on each is found.
    for (const one of cases) {
      const expect = one.expect === "accept" ? "reject" : "accept";
      assert.equal(checkSafetensorsCase({ ...one, expect }).misses.length, 1, one.name);
    }
  },
});

Deno.test("checkSafetensorsCase() compares names, dtypes, shapes and first values", () => {
  const bytes = fileOf(
    `{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}`,
    new Uint8Array(new Float32Array([1.5, -2, 0, 0]).buffer),
  );
  const w = { dtype: "F32", shape: [2], first: [1.5, -2] };
  const n = { dtype: "I64", shape: [1], first: [0] };
  const found = (tensors: NonNullable<SafetensorsCase["tensors"]>) => misses(bytes, { tensors });
  assert.deepEqual(found({ w, n }), []);
  assert.deepEqual(found({ w }), ["tensor n is not listed"]);
  assert.deepEqual(found({ w, n, v: w }), ["tensor v is missing"]);
  assert.deepEqual(found({ w: { ...w, shape: [1, 2] }, n }), [
    "tensor w is F32 (2), expected F32 (1,2)",
  ]);
  assert.deepEqual(found({ w, n: { ...n, dtype: "U64" } }), [
    "tensor n is I64 (1), expected U64 (1)",
  ]);
  assert.deepEqual(found({ w: { ...w, first: [1.5, 2] }, n }), [
    "tensor w begins 1.5,-2, expected 1.5,2",
  ]);
  assert.deepEqual(misses(bytes, {}), [], "without a list nothing is compared");
});

Deno.test("checkSafetensorsCase() reads first values of each dtype", () => {
  const dtypes: [string, number[], number[]][] = [
    ["BOOL", [1], [1]],
    ["U8", [200], [200]],
    ["I8", [0xff], [-1]],
    ["U16", [1, 2], [513]],
    ["I16", [0xfe, 0xff], [-2]],
    ["F16", [0, 0x3e], [1.5]],
    ["BF16", [0xc0, 0x3f], [1.5]],
    ["U32", [0, 0, 0, 0x80], [2 ** 31]],
    ["I32", [0, 0, 0, 0x80], [-(2 ** 31)]],
    ["F32", [0, 0, 0xc0, 0x3f], [1.5]],
    ["U64", [0, 0, 0, 0, 1, 0, 0, 0], [2 ** 32]],
    ["I64", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [-1]],
    ["F64", [0, 0, 0, 0, 0, 0, 0xf8, 0x3f], [1.5]],
  ];
  for (const [dtype, data, first] of dtypes) {
    const header = `{"w":{"dtype":"${dtype}","shape":[1],"data_offsets":[0,${data.length}]}}`;
    const tensors = { w: { dtype, shape: [1], first } };
    assert.deepEqual(misses(fileOf(header, data), { tensors }), [], dtype);
    tensors.w.first = [7];
    assert.equal(misses(fileOf(header, data), { tensors }).length, 1, dtype);
  }
  const f8 = { dtype: "F8_E4M3", shape: [1], first: [1] };
  const header = `{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}`;
  assert.match(misses(fileOf(header, [0]), { tensors: { w: f8 } })[0], /F8_E4M3 are not compared/);
});

Deno.test("checkSafetensorsCase() says what the reader did", () => {
  assert.deepEqual(misses(fileOf("{}"), { expect: "reject" }), ["read, expected to be refused"]);
  assert.deepEqual(misses(fileOf("[]"), { expect: "reject" }), []);
  assert.match(misses(fileOf("[]"), {})[0], /^refused, expected to be read: Cannot read .* t: /);
  assert.deepEqual(misses(new Uint8Array(0), { expect: "reject" }), []);
});

Deno.test("readSafetensorsCases() names the file, the case and the field", async () => {
  const good = { name: "a", bytes_b64: "AAAA", expect: "reject" };
  const refusals: [unknown, RegExp][] = [
    [[], /c\.json: expected a list of \{name, bytes_b64/],
    [[{ ...good, bytes_b64: "%" }], /c\.json: bytes_b64 of case 0 is not/],
    [[good, { ...good, bytes_b64: 5 }], /bytes_b64 of case 1/],
    [[{ ...good, expect: "maybe" }], /expect of case 0/],
    [[{ ...good, name: 1 }], /name of case 0/],
    [[{ ...good, tensors: [] }], /tensors of case 0/],
    [[{ ...good, tensors: { a: { dtype: "F32" } } }], /tensors of case 0/],
  ];
  const dir = await Deno.makeTempDir();
  for (const [value, message] of refusals) {
    await Deno.writeTextFile(`${dir}/c.json`, JSON.stringify(value));
    await assert.rejects(
      readSafetensorsCases(`${dir}/c.json`),
      (e) => e instanceof InputError && message.test(e.message) && e.help !== undefined,
    );
  }
  await Deno.remove(dir, { recursive: true });
});

Deno.test("parity safetensors prints a line per miss and totals, and ends with 0, 1 or 3", async () => {
  const dir = await Deno.makeTempDir();
  const run = async (cases: unknown) => {
    await Deno.writeTextFile(`${dir}/c.json`, JSON.stringify(cases));
    const { code, stdout, stderr } = await new Deno.Command("deno", {
      args: [
        "run",
        "--no-prompt",
        "--allow-read",
        "lib/cli/parity.ts",
        "safetensors",
        `${dir}/c.json`,
      ],
      cwd: ROOT,
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  };
  const empty = {
    name: "empty",
    bytes_b64: btoa("\x02\0\0\0\0\0\0\0{}"),
    expect: "accept",
    tensors: {},
  };
  const short = { name: "short", bytes_b64: btoa("\x02\0"), expect: "reject" };
  const good = await run([empty, { ...short, javascript_lenient_parse_differs: true }]);
  assert.equal(good.code, 0, good.stderr);
  assert.match(good.stdout, /^ok {3}accept +1 of 1\nok {3}reject beyond JSON\.parse +1 of 1\n/);
  assert.match(good.stdout, /^total: 2 cases, 2 as expected, 0 not$/m);
  const bad = await run([{ ...empty, expect: "reject" }, short]);
  assert.equal(bad.code, 1);
  assert.match(
    bad.stdout,
    /^MISS reject empty: read, expected to be refused\nMISS reject +1 of 2\n/,
  );
  const none = await run({});
  assert.equal(none.code, 3);
  assert.match(none.stderr, /^error: Cannot read .*c\.json: expected a list of/m);
  await Deno.remove(dir, { recursive: true });
});
