import assert from "node:assert/strict";
import { openDevice } from "../../lib/gpu/device.ts";
import {
  readTuned,
  textHash,
  tunedFile,
  type TunedKey,
  tunedKey,
  tunedText,
} from "../../lib/gpu/tuned.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

const KEY: TunedKey = {
  adapter: "Acme 3000 (LLVM 15)",
  vendor: "acme",
  device: "7",
  runtime: "Deno/2",
};

/** A folder that is gone after the test. */
async function inFolder(work: (folder: URL) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempDir({ prefix: "tuned" });
  try {
    await work(new URL(`file://${path}/`));
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

Deno.test("readTuned() finds what tunedText() wrote, and nothing where there is no file", async () => {
  await inFolder(async (folder) => {
    assert.deepEqual(await readTuned(KEY, folder), { key: KEY, tables: {} });
    const tables = { matmul: { tiles: {} }, other: [1] };
    await Deno.writeTextFile(tunedFile(KEY, folder), tunedText(KEY, tables));
    assert.deepEqual(await readTuned(KEY, folder), { key: KEY, tables });
  });
});

Deno.test("tunedFile() tells apart every part of a key and keeps the adapter's name", () => {
  const folder = new URL("file:///somewhere/");
  const others = Object.keys(KEY).map((part) => ({ ...KEY, [part]: "another" }));
  const names = [KEY, ...others].map((key) => tunedFile(key, folder).href);
  assert.equal(new Set(names).size, 5);
  assert.match(names[0], /^file:\/\/\/somewhere\/acme_3000_llvm_15_[0-9a-f]{16}\.json$/);
});

Deno.test("readTuned() ignores a corrupt or foreign file with a note", async () => {
  await inFolder(async (folder) => {
    const path = tunedFile(KEY, folder);
    const noteOf = async (text: string) => {
      await Deno.writeTextFile(path, text);
      const { tables, note } = await readTuned(KEY, folder);
      assert.deepEqual(tables, {});
      const [file, why] = note!.split(" is ignored: ");
      assert.equal(file, path.pathname);
      return why;
    };
    const whole = tunedText(KEY, { matmul: {} });
    assert.equal(await noteOf(whole.slice(0, -9)), "it is no JSON");
    assert.equal(await noteOf(""), "it is no JSON");
    assert.equal(await noteOf("null"), "it was measured on another adapter");
    assert.equal(
      await noteOf(tunedText({ ...KEY, runtime: "Deno/3" }, {})),
      "it was measured on another adapter",
    );
    assert.equal(await noteOf(JSON.stringify({ key: KEY })), "it holds no measurements");
    await Deno.remove(path);
    await Deno.mkdir(path);
    assert.match((await readTuned(KEY, folder)).note!, /is ignored: .*directory/i);
  });
});

Deno.test({
  name: "readTuned() finds nothing without the permission to read, and does not ask",
  permissions: { read: false },
  fn: async () => {
    assert.deepEqual(await readTuned(KEY), { key: KEY, tables: {} });
  },
});

Deno.test(
  "openDevice() names the adapter and the runtime it would look for",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const { key } = gpu.tuned;
    assert.equal(key.adapter, gpu.adapter.name);
    assert.match(key.runtime, /^Deno\/\d/);
    assert.deepEqual(key, tunedKey(gpu.adapter, gpu.device.adapterInfo));
    const plain = await openDevice({ tuned: false });
    assert.deepEqual(plain.tuned, { key, tables: {} });
    plain.close();
  },
);

Deno.test("textHash() depends on every character and its place", () => {
  const texts = ["", "a", "b", "ab", "ba", "aab", "aba", "a".repeat(70), "a".repeat(71)];
  assert.equal(new Set(texts.map(textHash)).size, texts.length);
  assert.ok(texts.every((text) => /^[0-9a-f]{16}$/.test(textHash(text))));
});
