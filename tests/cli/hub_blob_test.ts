// One file over a connection that is cut, lies, or stays silent: what is asked for again, byte for byte, and that
// nothing wrong gets a blob's name.

import assert from "node:assert/strict";
import type { HubWorld } from "../../lib/cli/hub_world.ts";
import {
  assertBytes,
  contentOf,
  downloadHere,
  type Fault,
  gitSha1,
  LoopbackHub,
  openPart,
  partFile,
  sha256,
  sizeOf,
  TemporaryFolder,
} from "./hub_server.ts";

const SIZE = 100_003;
const BYTES = contentOf(SIZE, 1);
const NAME = "model.safetensors";
const BLOB = `models--org--model/blobs/${sha256(BYTES)}`;
/** Where connections are cut: at both ends, at and beside the border of a chunk, in the middle. */
const OFFSETS = [1, 16_383, 16_384, 50_000, SIZE - 1];

/** A hub with one large file, and an empty cache. */
function setting(faults: (Fault | undefined)[] = []) {
  const hub = new LoopbackHub();
  hub.files.set(NAME, BYTES);
  hub.faults.push(...faults);
  const cache = new TemporaryFolder();
  const part = `${cache.path}/${BLOB}.incomplete`;
  return {
    hub,
    cache,
    part,
    run: (options?: Parameters<typeof downloadHere>[2]) => downloadHere(hub, cache.path, options),
    /** Puts bytes where an earlier call would have left them. */
    leave: (bytes: Uint8Array) => {
      Deno.mkdirSync(part.slice(0, part.lastIndexOf("/")), { recursive: true });
      Deno.writeFileSync(part, bytes);
    },
    /** The file is in the cache as it should be, and nothing else is. */
    assertWhole: () => {
      assertBytes(`${cache.path}/${BLOB}`, BYTES);
      assert.equal(cache.tree().filter((path) => path.includes("/blobs/")).length, 1);
    },
    /** No file under a final name. */
    assertNothingFinal: () => {
      const left = cache.tree().filter((path) => !path.endsWith(".incomplete"));
      assert.deepEqual(left, []);
    },
    [Symbol.asyncDispose]: async () => {
      await hub[Symbol.asyncDispose]();
      cache[Symbol.dispose]();
    },
  };
}

for (const offset of OFFSETS) {
  Deno.test(`a download cut at byte ${offset} asks for the rest and for nothing twice`, async () => {
    await using s = setting([{ cutAt: offset }]);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE);
    assert.deepEqual(ran.waits, [1000]);
    const asked = s.hub.seen.filter(({ at }) => at === "store").map(({ range }) => range);
    assert.deepEqual(asked, [null, `bytes=${offset}-`]);
  });

  Deno.test(`a later call goes on at byte ${offset}, where the earlier one was killed`, async () => {
    await using s = setting();
    s.leave(BYTES.subarray(0, offset));
    const ran = await s.run({ args: ["--json"] });
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE - offset);
    const events = ran.stdout.trim().split("\n").map((line) => JSON.parse(line));
    const { resumedFrom, receivedBytes } = events.find(({ event }) => event === "file");
    assert.deepEqual([resumedFrom, receivedBytes], [offset, SIZE - offset]);
  });

  Deno.test(`Ctrl-C at byte ${offset} keeps those bytes and exits 130; the next call sends the rest`, async () => {
    await using s = setting([{ stallAt: offset }]);
    let interrupt = (_: "SIGINT") => {};
    const stopped = await s.run({
      args: ["--json"],
      shell: { onSignal: (listener) => interrupt = listener },
      world: {
        // As soon as the last byte before the silence is here.
        now: () => {
          const here = sizeOf(s.part);
          if (here === offset) queueMicrotask(() => interrupt("SIGINT"));
          return performance.now();
        },
      },
    });
    assert.equal(stopped.code, 130);
    assert.match(stopped.stderr, /the same command goes on from there/);
    assertBytes(s.part, BYTES.subarray(0, offset));
    s.assertNothingFinal();
    s.hub.sentBytes = 0;
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE - offset);
  });

  Deno.test(`a server that ignores the range from byte ${offset} is read from the start, not appended`, async () => {
    await using s = setting([{ cutAt: offset }, { ignoreRange: true }]);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, offset + SIZE);
  });

  for (
    const [what, range] of [
      ["begins elsewhere", `bytes ${offset - 1}-${SIZE - 1}/${SIZE}`],
      ["is of another size", `bytes ${offset}-${SIZE - 1}/${SIZE + 1}`],
      ["cannot be read", "pages 1-2"],
    ]
  ) {
    Deno.test(`a Content-Range from byte ${offset} that ${what} is not appended`, async () => {
      await using s = setting([{ cutAt: offset }, { headers: { "Content-Range": range } }]);
      const ran = await s.run();
      assert.equal(ran.code, 0, ran.stderr);
      s.assertWhole();
      // From then on no more ranges: the whole file is asked for.
      assert.equal(s.hub.deliveries.at(-1)?.range, null);
      assert.ok(ran.stderr.includes(`${range} for bytes from ${offset}`), ran.stderr);
    });
  }

  Deno.test(`content that changed after byte ${offset} is read anew where If-Range is heeded`, async () => {
    const old = { ETag: '"old"' };
    await using s = setting([{ cutAt: offset, headers: old, bytes: contentOf(SIZE, 2) }]);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.deliveries.at(-1)?.ifRange, '"old"');
  });

  Deno.test(`content that changed after byte ${offset} is not appended where If-Range is ignored`, async () => {
    const other = contentOf(SIZE, 2);
    await using s = setting([
      { cutAt: offset, headers: { ETag: '"old"' }, bytes: other },
      { answer: () => partOf(BYTES, offset, '"new"') },
    ]);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.match(ran.stderr, /has other content now/);
  });

  Deno.test(`an etag that the hub changed after byte ${offset} ends with exit code 3`, async () => {
    await using s = setting([{ cutAt: offset }]);
    s.hub.hubHeaders = (_, headers) => {
      if (s.hub.sentBytes > 0) headers.set("X-Linked-Etag", `"${"b".repeat(64)}"`);
    };
    const ran = await s.run();
    assert.equal(ran.code, 3);
    assert.match(
      ran.stderr,
      /Cannot download model\.safetensors: the hub now gives b{64}, and listed/,
    );
    s.assertNothingFinal();
  });

  Deno.test(`a body without a length that ends at byte ${offset} is completed by range`, async () => {
    await using s = setting([{ cutAt: offset, unsized: true }]);
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE);
    assert.match(ran.stderr, new RegExp(`ended model.safetensors at byte ${offset} of ${SIZE}`));
  });

  Deno.test(`a connection that falls silent at byte ${offset} is cut and resumed`, async () => {
    await using s = setting([{ stallAt: offset }]);
    let rung = false;
    // Rings once, as soon as the last byte before the silence is on the disk.
    const alarm = (_: number, ring: () => void) => {
      const timer = setInterval(() => {
        if (rung || sizeOf(s.part) !== offset) return;
        rung = true;
        ring();
      }, 5);
      return () => clearInterval(timer);
    };
    const ran = await s.run({ world: { alarm } });
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE);
    assert.match(ran.stderr, /127\.0\.0\.1:\d+ sends nothing; trying again in 1 s/);
  });

  Deno.test(`bytes of another file before byte ${offset} are noticed at the end, and fetched anew once`, async () => {
    await using s = setting();
    s.leave(contentOf(offset, 7));
    const ran = await s.run();
    assert.equal(ran.code, 0, ran.stderr);
    s.assertWhole();
    assert.equal(s.hub.sentBytes, SIZE - offset + SIZE);
    assert.match(ran.stderr, /what an earlier call left belongs to another file; starting over/);
  });
}

Deno.test("a part longer than the file is dropped, a part as long as it is checked without a request", async () => {
  await using s = setting();
  s.leave(contentOf(SIZE + 5, 1));
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(ran.waits, []);
  s.assertWhole();
  assert.equal(s.hub.sentBytes, SIZE);

  await using t = setting();
  t.leave(BYTES);
  assert.equal((await t.run()).code, 0);
  t.assertWhole();
  assert.deepEqual(t.hub.deliveries, []);
});

Deno.test("a range that the server says is not there makes it read the whole file", async () => {
  await using s = setting([{ answer: () => new Response(null, { status: 416 }) }]);
  s.leave(BYTES.subarray(0, 500));
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  s.assertWhole();
  assert.equal(s.hub.sentBytes, SIZE);
});

Deno.test("five cuts in a row are survived, a sixth ends with exit code 1 and keeps what came", async () => {
  const cuts = OFFSETS.map((cutAt) => ({ cutAt }));
  await using s = setting(cuts);
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  s.assertWhole();
  assert.equal(s.hub.sentBytes, SIZE);
  assert.deepEqual(ran.waits, [1000, 2000, 4000, 8000, 16_000]);

  await using t = setting([...cuts, { cutAt: SIZE - 1 }]);
  const failed = await t.run();
  assert.equal(failed.code, 1);
  assert.match(
    failed.stderr,
    /error: Cannot download model\.safetensors: the connection to 127\.0\.0\.1:\d+ failed: .*\(tried 6 times\)\nhelp: run the same command again/,
  );
  assert.equal(sizeOf(t.part), SIZE - 1);
  t.assertNothingFinal();
});

Deno.test("four MiB between two cuts are progress: seven such cuts are survived, each after one second", async () => {
  const step = 4 * 2 ** 20 + 1000;
  const bytes = contentOf(8 * step, 9);
  await using s = setting(Array.from({ length: 7 }, (_, i) => ({ cutAt: (i + 1) * step })));
  s.hub.files.set(NAME, bytes);
  const ran = await s.run();
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(ran.waits, Array(7).fill(1000));
  assert.equal(s.hub.sentBytes, bytes.length);
});

Deno.test("wrong bytes are removed and end with exit code 3, for sha256 and for git's sha1", async () => {
  await using s = setting([{ bytes: contentOf(SIZE, 2) }]);
  const ran = await s.run();
  assert.equal(ran.code, 3);
  assert.match(
    ran.stderr,
    /Cannot download model\.safetensors: its bytes have another sha256 than/,
  );
  assert.deepEqual(s.cache.tree(), []);

  await using t = setting();
  const config = new TextEncoder().encode('{"a": 1}');
  t.hub.files.set("config.json", config);
  t.hub.faults.push(undefined, { bytes: new TextEncoder().encode('{"a": 2}') });
  const small = await t.run();
  assert.equal(small.code, 3);
  assert.match(
    small.stderr,
    new RegExp(`another git-sha1 than the hub lists \\(${gitSha1(config)}`),
  );
  assert.deepEqual(t.cache.tree(), [BLOB]); // the file before it stays, unlinked
});

for (
  const [what, faults, message] of [
    ["shorter", { bytes: BYTES.slice(0, SIZE - 9) }, `sends ${SIZE - 9} bytes for ${NAME}`],
    ["longer", { bytes: contentOf(SIZE + 9, 1), unsized: true }, `more than the ${SIZE} bytes`],
  ] as const
) {
  Deno.test(`a body that stays ${what} than listed ends with exit code 3 after six tries`, async () => {
    await using s = setting(Array(6).fill(faults));
    const ran = await s.run();
    assert.equal(ran.code, 3);
    assert.ok(ran.stderr.includes(message), ran.stderr);
    assert.match(ran.stderr, /\(tried 6 times\)/);
    assert.equal(s.hub.deliveries.length, 6);
    s.assertNothingFinal();
  });
}

for (const code of ["ENOSPC", "EIO"]) {
  Deno.test(`${code} at any call of the file system ends with exit code 4, and the next call completes`, async () => {
    const failed = new Set<string>();
    for (let k = 1;; k++) {
      await using s = setting([{ cutAt: 50_000 }, { ignoreRange: true }]); // truncates too
      const failing = failingAt(k, code);
      const freeBytes = () => Promise.resolve(2 * SIZE);
      const ran = await s.run({ world: { ...failing.world, freeBytes } });
      if (failing.failed === undefined) {
        assert.equal(ran.code, 0, ran.stderr);
        break;
      }
      failed.add(failing.failed);
      assert.equal(ran.code, 4, ran.stderr);
      const message = code === "ENOSPC"
        ? `the disk is full, ${SIZE - (sizeOf(s.part) ?? 0)} more bytes are needed and ${2 * SIZE}`
        : `Cannot write ${NAME} to ${s.cache.path}`;
      assert.ok(ran.stderr.includes(message), ran.stderr);
      s.assertNothingFinal();
      s.hub.faults.length = 0;
      assert.equal((await s.run()).code, 0);
      s.assertWhole();
    }
    assert.deepEqual([...failed].sort(), ["rename", "sync", "truncate", "write"]);
  });
}

Deno.test("a second process at the same file ends with exit code 6 and touches nothing", async () => {
  await using s = setting();
  s.leave(BYTES.subarray(0, 10));
  using holder = Deno.openSync(s.part, { read: true, write: true });
  holder.lockSync(true);
  const ran = await s.run();
  assert.equal(ran.code, 6);
  assert.match(ran.stderr, /Cannot download model\.safetensors: another process is at it/);
  assert.equal(sizeOf(s.part), 10);
  assert.deepEqual(s.hub.deliveries, []);
});

/** A world whose k-th call that changes a file fails. */
function failingAt(
  k: number,
  code: string,
): { world: Partial<HubWorld>; failed: string | undefined } {
  let calls = 0;
  const count = (name: string) => {
    if (++calls !== k) return;
    failing.failed = name;
    throw Object.assign(new Error(`failing: ${code}`), { code });
  };
  const world: Partial<HubWorld> = {
    open: async (path) => {
      const file = await openPart(path);
      return partFile(file, {
        write: async (bytes) => (count("write"), await file.write(bytes)),
        truncate: async (size) => (count("truncate"), await file.truncate(size)),
        sync: async () => (count("sync"), await Promise.resolve()),
      });
    },
    rename: async (from, to) => (count("rename"), await Deno.rename(from, to)),
  };
  const failing: ReturnType<typeof failingAt> = { world, failed: undefined };
  return failing;
}

/** Bytes on from an offset, whatever If-Range said. */
function partOf(bytes: Uint8Array<ArrayBuffer>, from: number, etag: string): Response {
  return new Response(bytes.slice(from), {
    status: 206,
    headers: { ETag: etag, "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
  });
}
