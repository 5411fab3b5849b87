// Attention over a paged cache of keys and values: what inference uses in place of `attention`. New keys and
// values are written into their slots, then every query attends to the keys its sequence has cached, through a
// table of pages. Nothing is ever copied to make a cache longer, and sequences may share pages.

import mixCode from "../../kernels/cache_mix.wgsl" with { type: "text" };
import scoresCode from "../../kernels/cache_scores.wgsl" with { type: "text" };
import softmaxCode from "../../kernels/cache_softmax.wgsl" with { type: "text" };
import writeCode from "../../kernels/cache_write.wgsl" with { type: "text" };
import pack4 from "../../kernels/common/pack4.wgsl" with { type: "text" };
import rowReduce from "../../kernels/common/row_reduce.wgsl" with { type: "text" };
import { sizeClass } from "../gpu/size_class.ts";
import { type Binding, foldGrid, Kernel } from "../gpu/kernel.ts";
import { rowThreads } from "../gpu/rows.ts";
import { Tensor } from "../tensor.ts";
import { attendSpans, type MaskedSpan, maskSpans } from "./cached_spans.ts";
import { columns } from "./columns.ts";
import { columnSum } from "./column_sum.ts";

const write = new Kernel("cache_write", { main: writeCode, knobs: ["BLOCK"], texels: false });
const scoresKernel = new Kernel("cache_scores", { main: scoresCode, knobs: ["BLOCK", "PAGE"] });
const softmaxKernel = new Kernel("cache_softmax", {
  texels: false,
  main: softmaxCode,
  parts: [rowReduce, pack4],
  knobs: ["BLOCK", "LANES"],
});
const mixKernel = new Kernel("cache_mix", { main: mixCode, knobs: ["BLOCK", "PAGE"] });

/** Tokens per page. */
export const PAGE = 32;

const BLOCK = 64;
/** Bytes of scores held at once: queries are taken in as many turns as that needs. */
const SCORE_BYTES = 2 ** 26;
/** Invocations that keep a GPU busy, and the fewest keys worth a split of their own. */
const BUSY = 2 ** 14;
const SPLIT_KEYS = 64;

/** Keys and values of one layer, (slots, K, Dp) each; Dp is the head size rounded up to a multiple of 4. */
export interface CacheLayer {
  keys: Tensor;
  values: Tensor;
}

/** The cache as the tokens of one pass see it. */
export interface CacheView {
  readonly kind: "cache";
  readonly layers: readonly CacheLayer[];
  /** Number of tokens in this pass. */
  readonly tokens: number;
  /** The largest number of keys that a token of this pass sees. */
  readonly mostSeen: number;
  /** One past the last slot of the pages of this pass. */
  readonly slots: number;
  /** i32: per token (start of its pages, keys it sees, its slot, 0), then the numbers of the pages. */
  readonly table: Tensor;
  /** The spans where all of them have tokens enough for this adapter's attention kernels; else none. */
  readonly spans: readonly MaskedSpan[];
}

/** What {@link cacheView} needs of one sequence's tokens. */
export interface CacheSpan {
  /** The sequence's pages, enough for all its tokens. */
  pages: readonly number[];
  /** Tokens cached before this pass. */
  length: number;
  /** New tokens. */
  tokens: number;
  /** Whether a token sees only those before it and itself; otherwise all new ones. */
  causal: boolean;
}

/**
 * Uploads where the tokens of a pass lie and what they see.
 *
 * @throws {RangeError} If a sequence has too few pages
 */
export function cacheView(layers: readonly CacheLayer[], spans: readonly CacheSpan[]): CacheView {
  const tokens = spans.reduce((n, span) => n + span.tokens, 0);
  const table: number[] = new Array(4 * tokens);
  let at = 0, mostSeen = 0, lastPage = 0;
  for (const { pages, length, tokens: n, causal } of spans) {
    if (pages.length * PAGE < length + n) {
      throw new RangeError(
        `Cannot cache ${n} tokens behind ${length}: there are ${pages.length} pages of ${PAGE}`,
      );
    }
    const start = table.length;
    for (let i = 0; i < n; i++, at += 4) {
      const place = length + i;
      table[at] = start;
      table[at + 1] = causal ? place + 1 : length + n;
      table[at + 2] = pages[Math.floor(place / PAGE)] * PAGE + place % PAGE;
      table[at + 3] = 0;
    }
    mostSeen = Math.max(mostSeen, length + n);
    lastPage = pages.reduce((last, page) => Math.max(last, page), lastPage);
    table.push(...pages);
  }
  const values = Int32Array.from(table);
  const { gpu } = layers[0].keys;
  return {
    kind: "cache",
    layers,
    tokens,
    mostSeen,
    slots: (lastPage + 1) * PAGE,
    table: Tensor.from(gpu, values, [values.length]),
    spans: maskSpans(gpu, spans),
  };
}

/**
 * Writes the new keys and values of a layer into the cache, then attends:
 * `y[i, h] = Σ_j p_ij v[j, g]`, `p_i = softmax_j(scale · q[i, h] · k[j, g])` over all keys j that token i sees,
 * the new ones among them, `g = floor(h · K / H)`. Not differentiable.
 *
 * @param q (N, H, D)
 * @param k (N, K, D), K a divisor of H
 * @param v (N, K, D)
 * @param layer which layer's cache
 * @returns (N, H, D)
 * @throws {TypeError} If shapes, view and cache do not fit
 */
export function attendCached(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  view: CacheView,
  layer: number,
): Tensor {
  const size = q.dim(2);
  const cache = view.layers[layer];
  checkShapes(q, k, v, view, cache);
  const scale = size ** -0.5;
  const wide = cache.keys.dim(2);
  if (wide === size) return attend(q, k, v, view, cache, scale);
  const [wideQ, wideK, wideV] = [q, k, v].map((x) => columns(x, 0, wide));
  return columns(attend(wideQ, wideK, wideV, view, cache, scale), 0, size);
}

function attend(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  view: CacheView,
  cache: CacheLayer,
  scale: number,
): Tensor {
  const { gpu } = q;
  const [tokens, heads, size] = q.shape;
  const keyHeads = k.dim(1);
  const table = view.table.buffer;
  const packs = keyHeads * size / 4;
  write.run(gpu, {
    buffers: {
      keys: k.buffer,
      values: v.buffer,
      table,
      cached_keys: cache.keys.buffer,
      cached_values: cache.values.buffer,
    },
    params: { n: tokens * packs, packs },
    knobs: { BLOCK },
    grid: foldGrid(Math.ceil(tokens * packs / BLOCK)),
    work: { bytes: 2 * (k.size + v.size) * 4 }, // of the cache the new slots alone
  });

  if (view.spans.length > 0) return attendSpans(q, cache, view.spans, scale, PAGE);
  const stride = 4 * Math.ceil(view.mostSeen / 4);
  const room = Math.min(SCORE_BYTES, gpu.maxBindingBytes);
  const turn = Math.max(1, Math.min(tokens, Math.floor(room / (4 * heads * stride))));
  const blocks = keyHeads * Math.ceil(heads / keyHeads / 4);
  const y = Tensor.empty(gpu, q.shape);
  const scores = Tensor.empty(gpu, [turn, heads, stride]);
  for (let first = 0; first < tokens; first += turn) {
    const count = Math.min(turn, tokens - first);
    const common = { first, heads, key_heads: keyHeads, columns: size / 4, count };
    const work = workOfTurn(count * heads, keyHeads, size, view.mostSeen);
    scoresKernel.run(gpu, {
      buffers: { q: q.buffer, k: reached(cache.keys, view), table, scores: scores.buffer },
      params: { ...common, stride, scale },
      knobs: { BLOCK, PAGE },
      grid: foldGrid(Math.ceil(count * blocks * stride / 4 / BLOCK)),
      work,
    });
    const rows = count * heads;
    const threads = rowThreads(gpu, stride / 4);
    softmaxKernel.run(gpu, {
      buffers: { table, scores: scores.buffer },
      params: { first, rows, heads, stride: stride / 4 },
      knobs: threads,
      grid: foldGrid(Math.ceil(rows * threads.LANES / threads.BLOCK)),
    });
    const invocations = count * blocks * size / 4;
    const splits = gpu.adapter.software ? 1 : Math.max(
      1,
      Math.min(Math.ceil(BUSY / invocations), Math.floor(view.mostSeen / SPLIT_KEYS), 32),
    );
    const step = 4 * Math.ceil(stride / 4 / splits);
    const part = Tensor.empty(gpu, [splits, count * heads * size]);
    mixKernel.run(gpu, {
      buffers: { p: scores.buffer, v: reached(cache.values, view), table, y: part.buffer },
      params: { ...common, stride, splits, step },
      knobs: { BLOCK, PAGE },
      grid: foldGrid(Math.ceil(splits * invocations / BLOCK)),
      work,
    });
    const sum = splits > 1 ? columnSum(part) : part;
    gpu.copy(sum.buffer, 0, y.buffer, 4 * first * heads * size, 4 * count * heads * size);
    if (sum !== part) sum.dispose();
    part.dispose();
  }
  scores.dispose();
  return y;
}

/**
 * Work of scores, or of mixing: a multiply-add per query row, key and value of a head; queries, scores and the cached
 * keys once each. Every token counts as if it saw all keys that the last one sees, in one sequence.
 */
function workOfTurn(rows: number, keyHeads: number, size: number, seen: number) {
  return {
    flop: 2 * rows * seen * size,
    bytes: 4 * (rows * (size + seen) + seen * keyHeads * size),
  };
}

/**
 * The part of the cached keys or values that a pass can reach. Software adapters copy it to read it, after every
 * pass that wrote it; sizes go by classes, so that such copies are reused while a sequence grows.
 */
function reached(cached: Tensor, { slots }: CacheView): Binding {
  const bytes = sizeClass(4 * slots * cached.dim(1) * cached.dim(2));
  const { buffer } = cached;
  return bytes >= buffer.sizeBytes ? buffer : { buffer, offset: 0, sizeBytes: bytes };
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor, view: CacheView, cache?: CacheLayer): void {
  const [a, b, c] = [q, k, v].map((x) => `(${x.shape.join(", ")})`);
  const [tokens, heads, size] = q.shape;
  const [rows, keyHeads, keySize] = k.shape;
  const fits = q.shape.length === 3 && b === c && rows === tokens && keySize === size &&
    heads % keyHeads === 0 && tokens === view.tokens;
  const stored = cache?.keys.shape;
  if (fits && stored && stored[1] === keyHeads && stored[2] === 4 * Math.ceil(size / 4)) return;
  throw new TypeError(
    `Cannot attend with q ${a}, k ${b}, v ${c}: the pass has ${view.tokens} tokens, the cache ` +
      (stored ? `(${stored.join(", ")})` : "no such layer"),
  );
}
