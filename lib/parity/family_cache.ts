// Cases of the attention over a paged cache: a text, and an image behind it, against plain attention.

import { attendCached, cacheView, PAGE } from "../ops/cached_attention.ts";
import { Tensor } from "../tensor.ts";
import type { FamilyCase } from "./family_check.ts";
import { attentionReference } from "./family_references.ts";

/** A text that fills pages and splits of keys, then an image whose tokens see each other. */
function cachedCase(heads: number, keyHeads: number, size: number): FamilyCase {
  const [text, image] = [4 * PAGE + 7, 9];
  const tokens = text + image;
  const each = (ofText: number, ofImage: number) =>
    Int32Array.from({ length: tokens }, (_, i) => i < text ? ofText : ofImage);
  const mask = { sample: each(0, 0), split: each(0, 1), mode: each(0, 1) };
  const input = (count: number) => ({ shape: [tokens, count, size], fixed: true });
  return {
    name: `${heads} heads of ${size} on ${keyHeads}`,
    inputs: [input(heads), input(keyHeads), input(keyHeads)],
    op: ([q, k, v], gpu) => {
      const pages = Math.ceil(tokens / PAGE);
      const shape = [pages * PAGE, keyHeads, 4 * Math.ceil(size / 4)];
      const cache = { keys: Tensor.zeros(gpu, shape), values: Tensor.zeros(gpu, shape) };
      const order = Array.from({ length: pages }, (_, i) => pages - 1 - i);
      const view = cacheView([cache], [
        { pages: order, length: 0, tokens: text, causal: true },
        { pages: order, length: text, tokens: image, causal: false },
      ]);
      return attendCached(q, k, v, view, 0);
    },
    reference: (inputs) => attentionReference(inputs, mask, [heads, keyHeads, size]),
  };
}

/** Grouped heads, a head for each key head, a head size that is padded. */
export const CACHED_CASES: FamilyCase[] = [
  cachedCase(7, 1, 16),
  cachedCase(2, 2, 8),
  cachedCase(2, 1, 6),
];
