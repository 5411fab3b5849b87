import assert from "node:assert/strict";
import { BytePairs } from "../../lib/data/bpe.ts";

/** Seeded numbers from 0 below n. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0;
    return ((state ^ state >>> 13) >>> 0) % n;
  };
}

Deno.test("BytePairs joins the pair of lowest rank first, the leftmost of equals", () => {
  const byteIds = Int32Array.from({ length: 256 }, (_, byte) => byte);
  // 0: b c → 256, 1: a b → 257, 2: a a → 258, 3: 258 a → 259
  const pairs = new BytePairs(byteIds, {
    left: Int32Array.of(98, 97, 97, 258),
    right: Int32Array.of(99, 98, 97, 97),
    merged: Int32Array.of(256, 257, 258, 259),
  });
  const encode = (text: string) => pairs.encode(new TextEncoder().encode(text));
  assert.deepEqual(encode("abc"), [97, 256]);
  assert.deepEqual(encode("abab"), [257, 257]);
  assert.deepEqual(encode("aaaaa"), [258, 259]);
  assert.deepEqual(encode("x"), [120]);
  assert.deepEqual(encode(""), []);
});

Deno.test("BytePairs agrees with joining one pair at a time, by any merges", () => {
  const next = random(3);
  for (let round = 0; round < 200; round++) {
    const byteIds = Int32Array.from({ length: 256 }, (_, byte) => byte % 4);
    const known = new Map<string, [rank: number, id: number]>();
    const merges = { left: [] as number[], right: [] as number[], merged: [] as number[] };
    for (let id = 4; id < 16; id++) {
      const [a, b] = [next(id), next(id)];
      if (known.has(`${a} ${b}`)) continue;
      known.set(`${a} ${b}`, [merges.left.length, id]);
      merges.left.push(a);
      merges.right.push(b);
      merges.merged.push(id);
    }
    const pairs = new BytePairs(byteIds, {
      left: Int32Array.from(merges.left),
      right: Int32Array.from(merges.right),
      merged: Int32Array.from(merges.merged),
    });
    const bytes = Uint8Array.from({ length: next(80) }, () => next(256));
    const ids = Array.from(bytes, (byte) => byteIds[byte]);
    while (true) {
      let best: [rank: number, id: number, at: number] = [Infinity, 0, 0];
      for (let i = 0; i + 1 < ids.length; i++) {
        const found = known.get(`${ids[i]} ${ids[i + 1]}`);
        if (found && found[0] < best[0]) best = [...found, i];
      }
      if (best[0] === Infinity) break;
      ids.splice(best[2], 2, best[1]);
    }
    assert.deepEqual(pairs.encode(bytes), ids);
  }
});
