import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { openSafetensors, writeSafetensors } from "../../lib/data/safetensors.ts";
import { InputError, ResourceError } from "../../lib/errors.ts";

const CASES = new URL("../../../shared/fixtures/safetensors/cases.json", import.meta.url);
const hasCases = existsSync(CASES);

/** Runs `body` with the path of a file of these bytes. */
async function withFile<T>(bytes: Uint8Array, body: (path: string) => Promise<T>): Promise<T> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/t.safetensors`, bytes);
    return await body(`${dir}/t.safetensors`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** A file with this header text and `dataBytes` zero bytes. */
function fileOf(header: string, dataBytes = 0): Uint8Array {
  const json = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

async function refusal(bytes: Uint8Array): Promise<string> {
  return await withFile(bytes, async (path) => {
    try {
      (await openSafetensors(path)).close();
    } catch (error) {
      assert.ok(error instanceof InputError, `${error}`);
      assert.ok(error.message.includes("t.safetensors"), error.message);
      return error.message;
    }
    return "accepted";
  });
}

Deno.test({
  name: hasCases
    ? "openSafetensors() gives the published verdict on every conformance case"
    : "openSafetensors() on conformance cases (skipped: ../shared/fixtures/safetensors is absent)",
  ignore: !hasCases,
  fn: async () => {
    const cases = JSON.parse(readFileSync(CASES, "utf8"));
    assert.ok(cases.length > 40);
    for (const { name, bytes_b64, expect, tensors } of cases) {
      const bytes = Uint8Array.from(atob(bytes_b64), (c) => c.charCodeAt(0));
      const verdict = await refusal(bytes);
      if (expect === "reject") {
        assert.notEqual(verdict, "accepted", name);
        continue;
      }
      assert.equal(verdict, "accepted", name);
      await withFile(bytes, async (path) => {
        const file = await openSafetensors(path);
        const found = [...file.tensors].map(([key, { dtype, shape }]) => [key, { dtype, shape }]);
        const expected = Object.entries<{ dtype: string; shape: number[]; first?: number[] }>(
          tensors,
        );
        assert.deepEqual(
          Object.fromEntries(found),
          Object.fromEntries(expected.map(([key, { dtype, shape }]) => [key, { dtype, shape }])),
          name,
        );
        for (const [key, { first }] of expected) {
          if (first) assert.deepEqual([...await file.readFloat32(key)].slice(0, 6), first);
        }
        file.close();
      });
    }
  },
});

Deno.test("openSafetensors() names the tensor and what is wrong with it", async () => {
  const one = (entry: string) => fileOf(`{"w":${entry}}`, 8);
  const good = `"dtype":"F32","shape":[2],"data_offsets":[0,8]`;
  assert.equal(await refusal(one(`{${good}}`)), "accepted");
  const expectations: [Uint8Array, RegExp][] = [
    [one(`{"dtype":"F32","shape":[3],"data_offsets":[0,8]}`), /"w" of shape \(3\).*needs 12 bytes/],
    [one(`{"dtype":"F99","shape":[2],"data_offsets":[0,8]}`), /"w" has the unknown dtype "F99"/],
    [one(`{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}`), /"w" has a shape/],
    [one(`{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}`), /"w" has data_offsets/],
    [one(`{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}`), /"w" has a shape/],
    [one(`{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}`), /"w" has a shape/],
    [one(`{${good}, "dtype":"I32"}`), /repeated key "dtype"/],
    [fileOf(`{"w":{${good}},"w":{${good}}}`, 8), /repeated key "w"/],
    [fileOf(`{"__proto__":{${good}}}`, 8), /"__proto__" has a reserved name/],
    [fileOf(`{"w":{${good}}}`, 9), /1 bytes follow the last tensor/],
    [fileOf(`{"w":{${good}}}`, 7), /"w" ends at byte/],
    [
      fileOf(`{"w":{${good}},"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12),
      /"v" overlaps/,
    ],
    [
      fileOf(`{"w":{${good}},"v":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16),
      /"v" leaves a hole/,
    ],
    [fileOf(`{"__metadata__":{"a":1}}`), /__metadata__\.a is not a string/],
    [fileOf(" {}"), /does not start with {/],
    [fileOf("{}").subarray(0, 5), /fewer than the 8/],
    [new Uint8Array(0), /fewer than the 8/],
  ];
  for (const [bytes, message] of expectations) assert.match(await refusal(bytes), message);
});

Deno.test("openSafetensors() refuses a header beyond 100 MB before reading it", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/t.safetensors`;
  await Deno.writeFile(path, fileOf("{}"));
  await Deno.truncate(path, 300_000_000); // sparse
  const file = await Deno.open(path, { write: true });
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, 200_000_000n, true);
  await file.write(length);
  file.close();
  const before = Deno.memoryUsage().rss;
  await assert.rejects(openSafetensors(path), /claims 200000000 bytes; at most 100000000/);
  assert.ok(Deno.memoryUsage().rss - before < 50e6);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("openSafetensors() survives 2000 random corruptions of a valid header", async () => {
  const valid = fileOf(
    `{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}`,
    11,
  );
  let state = 12345;
  const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
  let refused = 0;
  const dir = await Deno.makeTempDir();
  for (let i = 0; i < 2000; i++) {
    const bytes = valid.slice(0, random(4) === 0 ? random(valid.length) : valid.length);
    for (let k = random(3); k >= 0 && bytes.length > 0; k--) {
      bytes[random(bytes.length)] = random(256);
    }
    Deno.writeFileSync(`${dir}/f`, bytes);
    try {
      const file = await openSafetensors(`${dir}/f`);
      for (const { begin, end } of file.tensors.values()) {
        assert.ok(begin >= 8 && begin <= end && end <= bytes.length);
      }
      file.close();
    } catch (error) {
      assert.ok(error instanceof InputError, `${error}`);
      refused++;
    }
  }
  assert.ok(refused > 1000, `${refused}`);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("writeSafetensors() round-trips every dtype it writes", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/w.safetensors`;
  const values = new Float32Array([1, -2.5, 65504, 3.14159, 1e-8, -0]);
  await writeSafetensors(path, [
    ["u", { dtype: "U8", shape: [3], data: new Uint8Array([1, 2, 255]) }],
    ["f", { dtype: "F32", shape: [2, 3], data: values }],
    ["h", { dtype: "F16", shape: [6], data: values }],
    ["b", { dtype: "BF16", shape: [6], data: values }],
    ["i", { dtype: "I32", shape: [], data: new Int32Array([-7]) }],
  ], { step: "12" });
  const file = await openSafetensors(path);
  assert.equal(file.metadata.get("step"), "12");
  assert.deepEqual(await file.readFloat32("f"), values);
  assert.deepEqual(await file.readInt32("i"), new Int32Array([-7]));
  assert.deepEqual(await file.read("u"), new Uint8Array([1, 2, 255]));
  assert.deepEqual(
    await file.readFloat32("h"),
    new Float32Array([1, -2.5, 65504, 3.140625, 0, -0]),
  );
  // bf16 keeps 8 bits: 65504 → 65536, 3.14159 → 3.140625
  const b = await file.readFloat32("b");
  assert.deepEqual([...b.slice(0, 4)], [1, -2.5, 65536, 3.140625]);
  assert.ok(Math.abs(b[4] - 1e-8) < 1e-8 / 256);
  for (const { dtype, begin } of file.tensors.values()) {
    assert.equal(begin % { U8: 1, F32: 4, F16: 2, BF16: 2, I32: 4 }[dtype as "U8"], 0);
  }
  await assert.rejects(file.readInt32("f"), /Cannot read f of .* as i32: its dtype is F32/);
  await assert.rejects(file.readFloat32("nope"), /has no such tensor/);
  const both = await Promise.all([file.readFloat32("f"), file.readFloat32("h")]);
  assert.deepEqual(both[0], values);
  file.close();
  assert.deepEqual([...Deno.readDirSync(dir)].map((e) => e.name), ["w.safetensors"]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("writeSafetensors() leaves the old file and no rest when it fails", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/w.safetensors`;
  await Deno.writeTextFile(path, "old");
  const data = new Float32Array(2);
  await assert.rejects(
    writeSafetensors(path, [["a", { dtype: "F32", shape: [3], data }]]),
    (e) => e instanceof TypeError && /\(3\) holds 3 elements, its data 2/.test(e.message),
  );
  await assert.rejects(
    writeSafetensors(`${dir}/none/w.safetensors`, [["a", { dtype: "F32", shape: [2], data }]]),
    (e) => e instanceof ResourceError && /none\/w\.safetensors/.test(e.message),
  );
  await Deno.mkdir(`${dir}/taken`);
  await Deno.writeTextFile(`${dir}/taken/x`, "");
  await assert.rejects(
    writeSafetensors(`${dir}/taken`, [["a", { dtype: "F32", shape: [2], data }]]),
    ResourceError, // the rename fails, after the temporary file was written
  );
  assert.equal(await Deno.readTextFile(path), "old");
  assert.deepEqual([...Deno.readDirSync(dir)].map((e) => e.name).sort(), [
    "taken",
    "w.safetensors",
  ]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("openSafetensors() names a file that is missing or a folder", async () => {
  await assert.rejects(
    openSafetensors("no/such.safetensors"),
    (e) =>
      e instanceof InputError &&
      e.message === "Cannot open no/such.safetensors: No such file or directory" &&
      e.help === "Give the path of a readable .safetensors file",
  );
  await assert.rejects(openSafetensors("."), InputError);
});

Deno.test("readRange() gives any bytes of a tensor, into given memory too, and no others", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/w.safetensors`;
  const data = Uint8Array.from({ length: 200 }, (_, i) => i);
  await writeSafetensors(path, [
    ["a", { dtype: "U8", shape: [200], data }],
    ["b", { dtype: "U8", shape: [3], data: new Uint8Array([7, 8, 9]) }],
  ]);
  const file = await openSafetensors(path);
  assert.deepEqual(await file.readRange("a", 0, 200), data);
  assert.deepEqual(await file.readRange("a", 50, 53), data.slice(50, 53));
  assert.deepEqual(await file.readRange("b", 3, 3), new Uint8Array());
  const memory = new Uint8Array(8).fill(1);
  const part = memory.subarray(2, 5);
  assert.equal(await file.readRange("b", 0, 3, part), part);
  assert.deepEqual([...memory], [1, 1, 7, 8, 9, 1, 1, 1]);
  for (const [begin, end] of [[-1, 2], [0, 4], [3, 2], [0.5, 2], [0, NaN]]) {
    await assert.rejects(
      file.readRange("b", begin, end),
      (e) => e instanceof RangeError && /Cannot read bytes .* of b: it has 3$/.test(e.message),
    );
  }
  await assert.rejects(file.readRange("b", 0, 3, new Uint8Array(4)), TypeError);
  file.close();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("Safetensors reads that overlap do not disturb each other, more of them than handles", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/w.safetensors`;
  const data = Uint8Array.from({ length: 300_000 }, (_, i) => i * 7 + (i >> 8));
  await writeSafetensors(path, [["a", { dtype: "U8", shape: [data.length], data }]]);
  const file = await openSafetensors(path);
  const reads = Array.from(
    { length: 60 },
    (_, i) => file.readRange("a", 4000 * i, 4000 * i + 60_000),
  );
  file.close(); // those under way end, handles are given back
  const done = await Promise.all(reads);
  done.forEach((bytes, i) => assert.deepEqual(bytes, data.slice(4000 * i, 4000 * i + 60_000)));
  await assert.rejects(file.read("a"), /Cannot read .*: it was closed/);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a failed read leaves the file usable, and is not held against later reads", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/w.safetensors`;
  await writeSafetensors(path, [
    ["a", { dtype: "U8", shape: [100], data: new Uint8Array(100).fill(3) }],
    ["b", { dtype: "U8", shape: [100], data: new Uint8Array(100).fill(4) }],
  ]);
  const file = await openSafetensors(path);
  await Deno.truncate(path, file.info("b").begin + 10);
  await assert.rejects(
    file.read("b"),
    (e) => e instanceof InputError && /Cannot read .*: it ends at byte \d+$/.test(e.message),
  );
  assert.deepEqual(await file.read("a"), new Uint8Array(100).fill(3));
  file.close();
  await Deno.remove(dir, { recursive: true });
});
