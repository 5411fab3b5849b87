// The two experts' residual streams, and where their rows stand in the packed sequence.

import type { AttentionMask } from "../ops/attention_mask.ts";
import type { CacheView } from "../ops/cached_attention.ts";
import type { RopeTables } from "../ops/rope.ts";
import type { RowIndex } from "../ops/row_index.ts";
import type { Tensor } from "../tensor.ts";

/** The two experts. */
export const EXPERTS = ["und", "gen"] as const;
export type Expert = (typeof EXPERTS)[number];

/** Residual streams (rows of the expert's tokens, C); an expert without tokens is absent. */
export type Streams = { [E in Expert]?: Tensor };

/** Where each expert's rows stand in the packed sequence, and their rotary tables. */
export interface Layout {
  /** Packed tokens N. */
  tokens: number;
  rows: { [E in Expert]?: RowIndex };
  rope: { [E in Expert]?: RopeTables };
  /** Who attends to whom within the pass; or, at inference, the cache that the pass adds to and attends to. */
  mask: AttentionMask | CacheView;
}
