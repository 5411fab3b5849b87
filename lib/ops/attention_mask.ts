// Who may attend to whom in a packed sequence, in the form the attention kernels read: one table with the
// tokens' mask entries and, per block of queries and of keys, the range of the other side worth visiting.
// The rule is reference-model §2.8 extended by branches and hidden splits; kernels/common/attention_mask.wgsl
// applies it pair by pair, the ranges only save work.

import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";
import {
  type AttentionBlocks,
  attentionBlocks,
  keyBlockEntries,
  queryBlockEntries,
} from "./attention_blocks.ts";

/** The modes of a split. */
export const CAUSAL = 0, FULL = 1, NOISE = 2;

/** Sizes of the blocks that ranges are computed for; kernels pick the one they are written for. */
export const MASK_BLOCKS = [8, 32] as const;

/** What the mask knows of tokens: host arrays with one entry per token, in packed order. */
export interface TokenMask {
  /** Sample: tokens of different samples never see each other. */
  sample: Int32Array;
  /** Split: a text segment or an image; ids are unique within the sequence. */
  split: Int32Array;
  /** 0 causal (text), 1 full (a clean image), 2 noise (an image seen by its own split only). */
  mode: Int32Array;
  /** Tokens of a branch other than 0 are seen by that branch only. Default: all 0. */
  branch?: Int32Array;
  /** Nonzero: not seen by noise tokens of other splits. Default: all 0. */
  hidden?: Int32Array;
}

/** Where the queries stand relative to the keys. */
export interface MaskOptions {
  /** Index of the first query among the keys: query i has index `queryOffset + i`. Default: 0. */
  queryOffset?: number;
}

/** A mask on the device. Its memory is the tensor `table`, which belongs to the scope it was made in. */
export interface AttentionMask {
  readonly queries: number;
  readonly keys: number;
  readonly queryOffset: number;
  /** Pairs of a query and a key in its range, summed: those to visit, and a few that the rule then excludes. */
  readonly pairs: number;
  /** (entries, 4) i32: query tokens, key tokens (the same ones if none were given), then ranges. */
  readonly table: Tensor;
  /** Entry at which the key tokens start. */
  readonly keyTokens: number;
  /** Entry at which the key ranges per block of queries start, by block size. */
  readonly keyRanges: Readonly<Record<number, number>>;
  /** Entry at which the query ranges per block of keys start, by block size. */
  readonly queryRanges: Readonly<Record<number, number>>;
  /** What meets in tiles, for kernels that keep tiles of scores. */
  readonly blocks: AttentionBlocks;
  /** Entry at which the blocks of queries start. */
  readonly queryBlocks: number;
  /** Entry at which the blocks of keys start. */
  readonly keyBlocks: number;
}

/** Half-open ranges, `[lo[i], hi[i])` for token i. */
export interface Ranges {
  lo: Int32Array;
  hi: Int32Array;
}

const AHEAD_FLAG = 1, NOISE_FLAG = 2, HIDDEN_FLAG = 4; // as in kernels/common/attention_mask.wgsl

/**
 * Uploads the mask of packed tokens. Query q may attend to key k if both are in one sample, and k ≤ q or
 * both are in one full or noise split, and k is not in another split's noise, and k is in branch 0 or in
 * q's branch, and k is not hidden from q (q in noise, k hidden, different splits).
 *
 * @param keys the tokens attended to, if not the queries themselves (a KV cache, say)
 * @throws {TypeError} If the arrays of one side differ in length or are empty
 * @throws {RangeError} If a mode is not 0, 1 or 2, or a query's index lies beyond the keys
 */
export function attentionMask(
  gpu: Gpu,
  queries: TokenMask,
  keys: TokenMask = queries,
  options: MaskOptions = {},
): AttentionMask {
  const offset = options.queryOffset ?? 0;
  checkTokens(queries, "queries");
  if (keys !== queries) checkTokens(keys, "keys");
  const [nq, nk] = [queries.sample.length, keys.sample.length];
  if (!Number.isInteger(offset) || offset < 0 || offset + nq > nk) {
    throw new RangeError(
      `Cannot mask ${nq} queries from index ${offset} on: there are ${nk} keys`,
    );
  }
  const entries: Int32Array[] = [tokenEntries(queries)];
  let next = nq;
  const push = (part: Int32Array) => {
    entries.push(part);
    next += part.length / 4;
    return next - part.length / 4;
  };
  const keyTokens = keys === queries ? 0 : push(tokenEntries(keys));
  const byQuery = visibleKeys(queries, keys, offset);
  const byKey = visibleQueries(queries, keys, offset);
  const keyRanges: Record<number, number> = {};
  const queryRanges: Record<number, number> = {};
  for (const block of MASK_BLOCKS) {
    keyRanges[block] = push(blockEntries(byQuery, block));
    queryRanges[block] = push(blockEntries(byKey, block));
  }
  const blocks = attentionBlocks(queries.sample, keys.sample, byQuery);
  const queryBlocks = push(queryBlockEntries(blocks));
  const keyBlocks = push(keyBlockEntries(blocks));
  const flat = new Int32Array(4 * next);
  let at = 0;
  for (const part of entries) {
    flat.set(part, at);
    at += part.length;
  }
  const table = Tensor.from(gpu, flat, [next, 4]);
  const pairs = byQuery.hi.reduce((n, hi, i) => n + hi - byQuery.lo[i], 0);
  const sizes = { queries: nq, keys: nk, queryOffset: offset, pairs };
  const ranges = { keyTokens, keyRanges, queryRanges };
  return { ...sizes, table, ...ranges, blocks, queryBlocks, keyBlocks };
}

/** For each query, a range that holds every key it may attend to. */
export function visibleKeys(queries: TokenMask, keys: TokenMask, offset = 0): Ranges {
  const samples = extents(keys.sample);
  const ahead = extents(keys.split, (j) => keys.mode[j] !== CAUSAL);
  const n = queries.sample.length;
  const ranges = { lo: new Int32Array(n), hi: new Int32Array(n) };
  for (let i = 0; i < n; i++) {
    const sample = samples.get(queries.sample[i]);
    if (!sample) continue; // sees nothing: the empty range
    const own = ahead.get(queries.split[i]);
    const causal = Math.min(offset + i + 1, sample.hi);
    ranges.lo[i] = sample.lo;
    ranges.hi[i] = Math.max(sample.lo, causal, own?.hi ?? 0);
  }
  return ranges;
}

/** For each key, a range that holds every query that may attend to it. */
export function visibleQueries(queries: TokenMask, keys: TokenMask, offset = 0): Ranges {
  const samples = extents(queries.sample);
  const splits = extents(queries.split);
  const branches = queries.branch ? extents(branchIds(queries)) : undefined;
  const n = keys.sample.length;
  const ranges = { lo: new Int32Array(n), hi: new Int32Array(n) };
  for (let j = 0; j < n; j++) {
    const sample = samples.get(keys.sample[j]);
    if (!sample) continue;
    const own = splits.get(keys.split[j]);
    let lo = Math.max(sample.lo, j - offset);
    let hi = sample.hi;
    if (keys.mode[j] !== CAUSAL && own) lo = Math.min(lo, own.lo);
    if (keys.mode[j] === NOISE) hi = own?.hi ?? lo;
    else if (keys.branch?.[j]) hi = Math.min(hi, branches?.get(branchId(keys, j))?.hi ?? lo);
    if (hi > lo) [ranges.lo[j], ranges.hi[j]] = [lo, hi];
  }
  return ranges;
}

/** Ranges of blocks of tokens: the smallest that hold their tokens' ranges; (0, 0) where all are empty. */
export function blockRanges(ranges: Ranges, block: number): Ranges {
  const n = Math.ceil(ranges.lo.length / block);
  const blocks = { lo: new Int32Array(n), hi: new Int32Array(n) };
  for (let b = 0; b < n; b++) {
    let [lo, hi] = [Infinity, 0];
    for (let i = b * block; i < Math.min((b + 1) * block, ranges.lo.length); i++) {
      if (ranges.hi[i] <= ranges.lo[i]) continue;
      lo = Math.min(lo, ranges.lo[i]);
      hi = Math.max(hi, ranges.hi[i]);
    }
    if (hi > 0) [blocks.lo[b], blocks.hi[b]] = [lo, hi];
  }
  return blocks;
}

function checkTokens(tokens: TokenMask, what: string): void {
  const { sample, split, mode, branch, hidden } = tokens;
  const n = sample.length;
  if (n === 0) throw new TypeError(`Cannot mask attention: there are no ${what}`);
  for (const [name, array] of Object.entries({ split, mode, branch, hidden })) {
    if (array && array.length !== n) {
      throw new TypeError(
        `Cannot mask attention: ${what} have ${n} samples but ${array.length} values of ${name}`,
      );
    }
  }
  const wrong = mode.findIndex((m) => m !== CAUSAL && m !== FULL && m !== NOISE);
  if (wrong >= 0) {
    throw new RangeError(
      `Cannot mask attention: mode ${mode[wrong]} of token ${wrong} is not 0, 1 or 2`,
    );
  }
}

function tokenEntries({ sample, split, mode, branch, hidden }: TokenMask): Int32Array {
  const entries = new Int32Array(4 * sample.length);
  for (let i = 0; i < sample.length; i++) {
    const flags = (mode[i] !== CAUSAL ? AHEAD_FLAG : 0) | (mode[i] === NOISE ? NOISE_FLAG : 0) |
      (hidden?.[i] ? HIDDEN_FLAG : 0);
    entries.set([sample[i], split[i], branch?.[i] ?? 0, flags], 4 * i);
  }
  return entries;
}

function blockEntries(ranges: Ranges, block: number): Int32Array {
  const { lo, hi } = blockRanges(ranges, block);
  const entries = new Int32Array(4 * lo.length);
  lo.forEach((_, b) => entries.set([lo[b], hi[b]], 4 * b));
  return entries;
}

/** First index and one past the last index of each id, over the indices that `counts` accepts. */
function extents<Id>(ids: ArrayLike<Id>, counts = (_: number) => true) {
  const found = new Map<Id, { lo: number; hi: number }>();
  for (let i = 0; i < ids.length; i++) {
    if (!counts(i)) continue;
    const extent = found.get(ids[i]);
    if (extent) extent.hi = i + 1;
    else found.set(ids[i], { lo: i, hi: i + 1 });
  }
  return found;
}

function branchIds(tokens: TokenMask): string[] {
  return Array.from(tokens.sample, (_, i) => branchId(tokens, i));
}

function branchId(tokens: TokenMask, i: number): string {
  return `${tokens.sample[i]}/${tokens.branch?.[i] ?? 0}`;
}
