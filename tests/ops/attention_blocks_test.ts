import assert from "node:assert/strict";
import { attentionBlocks, blockTurns } from "../../lib/ops/attention_blocks.ts";
import { type TokenMask, visibleKeys } from "../../lib/ops/attention_mask.ts";
import { allowed, mixedTokens, oneSplit, sliceTokens } from "./attention_reference.ts";

function blocksOf(queries: TokenMask, keys = queries, offset = 0) {
  return attentionBlocks(queries.sample, keys.sample, visibleKeys(queries, keys, offset));
}

Deno.test("attentionBlocks() cut every token into one block of at most 32", () => {
  for (let seed = 1; seed <= 8; seed++) {
    const { queries } = blocksOf(mixedTokens({ samples: [17, 1, 60, 40, 33], seed }));
    assert.equal(queries[0], 0);
    assert.equal(queries.at(-1), 151);
    queries.slice(1).forEach((end, b) => {
      assert.ok(end > queries[b] && end - queries[b] <= 32, `block ${b}`);
    });
  }
});

Deno.test("attentionBlocks() end a block with its sample unless it is short", () => {
  const sample = Int32Array.from([...Array(40).fill(0), ...Array(3).fill(1), ...Array(9).fill(2)]);
  const { queries } = blocksOf({ sample, split: sample, mode: sample.map(() => 1) });
  assert.deepEqual([...queries], [0, 32, 40, 52]);
});

Deno.test("attentionBlocks() have a tile for every pair the rule allows", () => {
  for (let seed = 1; seed <= 8; seed++) {
    const keys = mixedTokens({ samples: [17, 1, 60, 40], branches: seed % 2 === 0, seed });
    for (const offset of [0, 30, 117]) {
      const queries = offset === 0 ? keys : sliceTokens(keys, offset, 118);
      const blocks = blocksOf(queries, keys, offset);
      const blockOf = (starts: Int32Array, i: number) => starts.findLastIndex((s) => s <= i);
      for (let i = 0; i < queries.sample.length; i++) {
        for (let j = 0; j < keys.sample.length; j++) {
          if (!allowed(queries, keys, offset, i, j)) continue;
          const [b, key] = [blockOf(blocks.queries, i), blockOf(blocks.keys, j)];
          const tile = blocks.firstTile[b] + key - blocks.firstKey[b];
          assert.ok(tile >= blocks.firstTile[b] && tile < blocks.firstTile[b + 1]);
          assert.ok(blocks.met.lo[key] <= b && b < blocks.met.hi[key]);
        }
      }
    }
  }
});

Deno.test("attentionBlocks() of equal samples have tiles linear in the samples", () => {
  const tiles = (samples: number) => {
    const sample = Int32Array.from({ length: samples * 80 }, (_, i) => Math.floor(i / 80));
    const blocks = blocksOf({ sample, split: sample, mode: sample.map(() => 1) });
    return blocks.firstTile.at(-1)!;
  };
  assert.deepEqual([1, 8, 64].map(tiles), [9, 72, 576]);
});

Deno.test("blockTurns() cover every tile of every head once, within the bound", () => {
  const blocks = blocksOf(oneSplit(1000, 0));
  const all = blocks.firstTile.at(-1)!;
  assert.equal(all, 32 * 33 / 2);
  for (
    const [heads, group, most] of [[6, 3, 1e6], [6, 3, 100], [6, 3, 70], [4, 1, 40], [4, 4, 3]]
  ) {
    const turns = blockTurns(blocks, heads, group, most);
    const seen = new Set<string>();
    for (const turn of turns) {
      const count = turn.endHead - turn.firstHead;
      const oneBlock = turn.endBlock === turn.firstBlock + 1;
      assert.ok(
        turn.tiles * count <= most || (oneBlock && count === 1),
        `${turn.tiles} × ${count}`,
      );
      const keyHeads = [turn.firstHead, turn.endHead - 1].map((h) => Math.floor(h / group));
      assert.ok(count % group === 0 || keyHeads[0] === keyHeads[1], "whole key heads or one");
      for (let b = turn.firstBlock; b < turn.endBlock; b++) {
        const end = blocks.firstKey[b] + blocks.firstTile[b + 1] - blocks.firstTile[b];
        assert.ok(turn.firstKeyBlock <= blocks.firstKey[b] && end <= turn.endKeyBlock);
        for (let h = turn.firstHead; h < turn.endHead; h++) {
          assert.ok(!seen.has(`${b} ${h}`));
          seen.add(`${b} ${h}`);
        }
      }
    }
    assert.equal(seen.size, 32 * heads);
  }
});
