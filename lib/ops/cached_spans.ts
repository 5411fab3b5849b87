// Attention over a paged cache for passes of many tokens, on adapters whose attention kernels keep tiles: the pages
// of a sequence are copied side by side, which costs little beside the products, and its tokens attend to them.

import type { Gpu } from "../gpu/device.ts";
import { Tensor } from "../tensor.ts";
import { attentionKernels } from "./attention_kernels.ts";
import { type AttentionMask, attentionMask, CAUSAL, FULL } from "./attention_mask.ts";
import type { CacheLayer, CacheSpan } from "./cached_attention.ts";

/** A span with the mask of its tokens over all its keys. */
export interface MaskedSpan extends CacheSpan {
  mask: AttentionMask;
}

/** Tokens from which on a span is worth tiles of 32 queries. */
const SPAN_TOKENS = 8;

/** The spans of a pass if all of them are worth it on this adapter, else none. */
export function maskSpans(gpu: Gpu, spans: readonly CacheSpan[]): readonly MaskedSpan[] {
  const fit = gpu.adapter.software && gpu.subgroupSize === 8 &&
    spans.every(({ tokens }) => tokens >= SPAN_TOKENS);
  return fit ? spans.map((span) => ({ ...span, mask: maskOf(gpu, span) })) : [];
}

function maskOf(gpu: Gpu, { length, tokens, causal }: CacheSpan): AttentionMask {
  const mode = causal ? CAUSAL : FULL;
  const made = (cached: number) => ({
    sample: new Int32Array(cached + tokens),
    split: new Int32Array(cached + tokens).fill(1, cached),
    mode: new Int32Array(cached + tokens).fill(mode, cached),
  });
  return attentionMask(gpu, made(0), made(length), { queryOffset: length });
}

/**
 * `y[i, h] = Σ_j p_ij v[j, g]` over the keys j that token i of its span sees, as `attendCached`; new keys and values
 * are in the cache.
 *
 * @param q (N, H, D), the tokens of the spans one after the other
 * @param cache keys and values (slots, K, D)
 * @param page tokens of a page
 * @returns (N, H, D)
 */
export function attendSpans(
  q: Tensor,
  cache: CacheLayer,
  spans: readonly MaskedSpan[],
  scale: number,
  page: number,
): Tensor {
  const { gpu } = q;
  const [, heads, size] = q.shape;
  const y = Tensor.empty(gpu, q.shape);
  const row = 4 * heads * size; // bytes
  let first = 0;
  for (const span of spans) {
    const { tokens, mask } = span;
    const own = spans.length === 1 ? q : Tensor.empty(gpu, [tokens, heads, size]);
    const part = spans.length === 1 ? y : Tensor.empty(gpu, [tokens, heads, size]);
    if (own !== q) gpu.copy(q.buffer, first * row, own.buffer, 0, tokens * row);
    const [k, v] = [cache.keys, cache.values].map((cached) => gathered(cached, span, page));
    const lse = Tensor.empty(gpu, [heads, tokens]);
    attentionKernels(gpu).forward({ gpu, q: own, k, v, mask, scale }, part, lse);
    for (const t of [k, v, lse]) t.dispose();
    if (part !== y) {
      gpu.copy(part.buffer, 0, y.buffer, first * row, tokens * row);
      own.dispose();
      part.dispose();
    }
    first += tokens;
  }
  return y;
}

/** The rows of a span's tokens, cached and new, in order: (length + tokens, K, D). */
function gathered(cached: Tensor, { pages, length, tokens }: CacheSpan, page: number): Tensor {
  const [, keyHeads, size] = cached.shape;
  const row = 4 * keyHeads * size; // bytes
  const total = length + tokens;
  const to = Tensor.empty(cached.gpu, [total, keyHeads, size]);
  for (let at = 0; at < Math.ceil(total / page);) {
    let end = at + 1;
    while (pages[end] === pages[at] + end - at) end++; // pages side by side go as one
    const rows = Math.min(total, end * page) - at * page;
    const start = pages[at] * page * row;
    cached.gpu.copy(cached.buffer, start, to.buffer, at * page * row, rows * row);
    at = end;
  }
  return to;
}
