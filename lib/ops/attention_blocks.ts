// Blocks of up to 32 queries and keys, and which pairs of blocks meet in a tile: what the attention kernels that
// store tiles of scores go by, and how many blocks one launch of them takes.

import type { Ranges } from "./attention_mask.ts";

/** Tokens of a block, at most. */
export const BLOCK_TOKENS = 32;
/** A block does not end at a sample's end before it has so many tokens. */
const FEW_TOKENS = 8;

/** Blocks of queries and of keys. Query block b meets the key blocks from `firstKey[b]` in consecutive tiles. */
export interface AttentionBlocks {
  /** First token of each query block, and one past the last token. */
  readonly queries: Int32Array;
  /** First token of each key block, and one past the last token. */
  readonly keys: Int32Array;
  /** First key block that a query block meets. */
  readonly firstKey: Int32Array;
  /** First tile of each query block, and one past the last tile. */
  readonly firstTile: Int32Array;
  /** Half-open ranges of query blocks that hold all that a key block meets. */
  readonly met: Ranges;
}

/** A part of the work whose tiles exist at one time. */
export interface BlockTurn {
  firstBlock: number;
  endBlock: number;
  firstHead: number;
  endHead: number;
  firstTile: number;
  /** Tiles of one head. */
  tiles: number;
  /** Half-open range of the key blocks that are met. */
  firstKeyBlock: number;
  endKeyBlock: number;
}

/**
 * Cuts both sides into blocks and finds the tiles.
 *
 * @param querySamples sample of each query
 * @param keySamples sample of each key
 * @param seen for each query a range that holds every key it may attend to
 */
export function attentionBlocks(
  querySamples: Int32Array,
  keySamples: Int32Array,
  seen: Ranges,
): AttentionBlocks {
  const queries = cut(querySamples);
  const keys = keySamples === querySamples ? queries : cut(keySamples);
  const blockOf = new Int32Array(keySamples.length);
  for (let b = 0; b + 1 < keys.length; b++) blockOf.fill(b, keys[b], keys[b + 1]);
  const n = queries.length - 1;
  const firstKey = new Int32Array(n);
  const firstTile = new Int32Array(n + 1);
  const met: Ranges = { lo: new Int32Array(keys.length - 1), hi: new Int32Array(keys.length - 1) };
  for (let b = 0; b < n; b++) {
    let [lo, hi] = [Infinity, 0];
    for (let i = queries[b]; i < queries[b + 1]; i++) {
      if (seen.hi[i] <= seen.lo[i]) continue;
      lo = Math.min(lo, seen.lo[i]);
      hi = Math.max(hi, seen.hi[i]);
    }
    const [from, to] = hi > 0 ? [blockOf[lo], blockOf[hi - 1]] : [0, 0]; // kernels visit a tile at least
    firstKey[b] = from;
    firstTile[b + 1] = firstTile[b] + to - from + 1;
    for (let key = from; key <= to; key++) {
      if (met.hi[key] === 0) met.lo[key] = b;
      met.hi[key] = b + 1;
    }
  }
  return { queries, keys, firstKey, firstTile, met };
}

/** Entries (start, end, first key block, first tile) of the query blocks, and one with the end of the tiles. */
export function queryBlockEntries({ queries, firstKey, firstTile }: AttentionBlocks): Int32Array {
  const entries = new Int32Array(4 * queries.length);
  for (let b = 0; b < queries.length; b++) {
    entries.set([queries[b], queries[b + 1] ?? 0, firstKey[b] ?? 0, firstTile[b]], 4 * b);
  }
  return entries;
}

/** Entries (start, end, first query block, end of the query blocks) of the key blocks. */
export function keyBlockEntries({ keys, met }: AttentionBlocks): Int32Array {
  const entries = new Int32Array(4 * (keys.length - 1));
  met.lo.forEach((lo, b) => entries.set([keys[b], keys[b + 1], lo, met.hi[b]], 4 * b));
  return entries;
}

/**
 * Cuts the work into turns of at most `mostTiles` tiles over all heads; more only where one block of one head has
 * more. A turn has heads of whole key heads, or of one key head only.
 *
 * @param heads number of heads
 * @param group heads per key head
 */
export function blockTurns(
  { firstTile, firstKey, queries }: AttentionBlocks,
  heads: number,
  group: number,
  mostTiles: number,
): BlockTurn[] {
  const n = queries.length - 1;
  let widest = 1;
  for (let b = 0; b < n; b++) widest = Math.max(widest, firstTile[b + 1] - firstTile[b]);
  const together = headsOfTurn(Math.floor(mostTiles / widest), heads, group);
  const turns: BlockTurn[] = [];
  for (let firstBlock = 0, endBlock = 0; firstBlock < n; firstBlock = endBlock) {
    let [firstKeyBlock, endKeyBlock] = [Infinity, 0];
    do {
      const tiles = firstTile[endBlock + 1] - firstTile[endBlock];
      firstKeyBlock = Math.min(firstKeyBlock, firstKey[endBlock]);
      endKeyBlock = Math.max(endKeyBlock, firstKey[endBlock] + tiles);
      endBlock++;
    } while (
      endBlock < n && (firstTile[endBlock + 1] - firstTile[firstBlock]) * together <= mostTiles
    );
    const tiles = firstTile[endBlock] - firstTile[firstBlock];
    for (let firstHead = 0; firstHead < heads; firstHead += together) {
      const endHead = Math.min(heads, firstHead + together);
      const keyBlocks = { firstKeyBlock, endKeyBlock };
      const from = { firstBlock, endBlock, firstTile: firstTile[firstBlock], tiles };
      turns.push({ ...from, firstHead, endHead, ...keyBlocks });
    }
  }
  return turns;
}

/** At most `most` heads, at least one: whole key heads, or a divisor of one. */
function headsOfTurn(most: number, heads: number, group: number): number {
  if (most >= heads) return heads;
  if (most >= group) return Math.floor(most / group) * group;
  let count = Math.max(1, most);
  while (group % count !== 0) count--;
  return count;
}

/** Starts of blocks, and the end: a block has 32 tokens, fewer where it ends with its sample. */
function cut(samples: Int32Array): Int32Array {
  const starts = [0];
  let first = 0;
  for (let i = 1; i < samples.length; i++) {
    const count = i - first;
    if (count < BLOCK_TOKENS && !(count >= FEW_TOKENS && samples[i] !== samples[i - 1])) continue;
    starts.push(i);
    first = i;
  }
  starts.push(samples.length);
  return Int32Array.from(starts);
}
