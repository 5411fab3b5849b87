// The two-expert decoder: every token uses the weights of its expert, keys and values of both meet in one
// attention (reference: PackedAttentionMoT, Qwen2MoTDecoderLayer). The two residual streams are kept apart,
// rows in packed order, and only queries, keys and values are merged.

import { detach, reshape } from "../autograd.ts";
import { swigluMlp } from "../nn/mlp.ts";
import type { Parameters } from "../nn/parameters.ts";
import { keepSite, type Site, within } from "../nn/site.ts";
import { add } from "../ops/add.ts";
import { addRmsNorm } from "../ops/add_rms_norm.ts";
import { attention } from "../ops/attention.ts";
import type { AttentionMask } from "../ops/attention_mask.ts";
import { attendCached, type CacheView } from "../ops/cached_attention.ts";
import { headNormRope } from "../ops/head_norm_rope.ts";
import { linear } from "../ops/linear.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rope, type RopeTables } from "../ops/rope.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import type { RowIndex } from "../ops/row_index.ts";
import { paysToStack, stackedLinear } from "../ops/stacked_linear.ts";
import type { Tensor } from "../tensor.ts";
import { headSize, type LanguageConfig } from "./config.ts";

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

/** Choices of one pass that change gradients or skip work, never values that are used. */
export interface DecoderOptions {
  site?: Site;
  /**
   * True for layers where gen queries see und keys and values without passing a gradient to them:
   * the route from the flow loss into the und expert is cut there.
   */
  blocked?: (layer: number) => boolean;
  /** False if nobody reads the und stream after the last layer (no text loss): its tail is skipped. */
  needUnd?: boolean;
}

interface Heads {
  q: Streams;
  k: Streams;
  v: Streams;
}

/** A residual stream before its last block is added: the sum is made together with the norm behind it. */
interface Residual {
  /** (N, C) */
  base: Tensor;
  /** (N, C) what is still to be added, if anything. */
  branch?: Tensor;
}
type Residuals = { [E in Expert]?: Residual };

/**
 * All layers and the final norms.
 *
 * @param x streams of (N_und, C) and (N_gen, C)
 * @param p parameters with the prefixes `und` and `gen`
 * @returns final-normed streams; `und` is absent when `needUnd` is false
 */
export function decode(
  x: Streams,
  p: Parameters,
  config: LanguageConfig,
  layout: Layout,
  options: DecoderOptions = {},
): Streams {
  const site = options.site ?? keepSite;
  let streams = residuals(x);
  for (let i = 0; i < config.numHiddenLayers; i++) {
    const last = i === config.numHiddenLayers - 1;
    const needUnd = !last || options.needUnd !== false;
    streams = runLayer(streams, p, i, config, layout, { ...options, needUnd });
  }
  const out: Streams = {};
  for (const e of EXPERTS) {
    const h = streams[e];
    if (!h) continue;
    const { normed } = sumAndNorm(h, p.get(`${e}.norm.weight`), config.rmsNormEps);
    out[e] = site(`${e}.out`, normed);
  }
  return out;
}

/** One layer: attention and feed-forward, each behind an RMSNorm and added to the stream. */
export function decoderLayer(
  x: Streams,
  p: Parameters,
  index: number,
  config: LanguageConfig,
  layout: Layout,
  options: DecoderOptions = {},
): Streams {
  const streams = runLayer(residuals(x), p, index, config, layout, options);
  const out: Streams = {};
  for (const e of EXPERTS) {
    const h = streams[e];
    if (h) out[e] = h.branch ? add(h.base, h.branch) : h.base;
  }
  return out;
}

function residuals(x: Streams): Residuals {
  const out: Residuals = {};
  for (const e of EXPERTS) if (x[e]) out[e] = { base: x[e] };
  return out;
}

/** The stream and its norm. */
function sumAndNorm({ base, branch }: Residual, weight: Tensor, eps: number) {
  return branch
    ? addRmsNorm(base, branch, weight, eps)
    : { sum: base, normed: rmsNorm(base, weight, eps) };
}

/** A layer whose last sum is left to the norm behind it, unless somebody wants to see the sum. */
function runLayer(
  x: Residuals,
  p: Parameters,
  index: number,
  config: LanguageConfig,
  layout: Layout,
  options: DecoderOptions,
): Residuals {
  const site = options.site ?? keepSite;
  const blocked = options.blocked?.(index) ?? false;
  const needUnd = options.needUnd !== false;
  const eps = config.rmsNormEps;
  const heads: Heads = { q: {}, k: {}, v: {} };
  const sums: Streams = {};
  for (const e of EXPERTS) {
    const given = x[e];
    if (!given) continue;
    const rotary = layout.rope[e];
    if (!rotary) throw new Error(`internal: no rotary tables for ${e} tokens`);
    const here = within(site, `${e}.layers.${index}`);
    const attn = p.sub(`${e}.layers.${index}.attn`);
    const entered = given.branch ? given : { base: here("in", given.base) };
    const { sum, normed } = sumAndNorm(entered, attn.get("norm.weight"), eps);
    sums[e] = sum;
    const used = { q: needUnd || e !== "und" };
    projectHeads(heads, e, normed, attn, rotary, config, used, within(here, "attn"));
  }
  const mixed = mixHeads(heads, layout, index, blocked, needUnd);

  const out: Residuals = {};
  for (const e of EXPERTS) {
    const h = sums[e];
    const o = mixed[e];
    if (!h || !o) continue;
    const here = within(site, `${e}.layers.${index}`);
    const layer = p.sub(`${e}.layers.${index}`);
    const rows = reshape(here("attn.heads", o), [h.dim(0), config.hiddenSize]);
    const branch = here("attn.out", linear(rows, layer.get("attn.o.weight")));
    const seen = site !== keepSite;
    const middle = seen ? { base: here("mid", add(h, branch)) } : { base: h, branch };
    const { sum: mid, normed } = sumAndNorm(middle, layer.get("mlp.norm.weight"), eps);
    const mlp = swigluMlp(here("mlp.norm", normed), layer.sub("mlp"), within(here, "mlp"));
    const last = here("mlp.out", mlp);
    out[e] = seen ? { base: here("out", add(mid, last)) } : { base: mid, branch: last };
  }
  return out;
}

/**
 * Queries, keys, values of one expert from its normed rows: projected, normed per head, rotated. A recorded pass does it in one product and
 * one kernel; weights of queries whose rows nobody reads are cut off there.
 */
function projectHeads(
  heads: Heads,
  e: Expert,
  normed: Tensor,
  p: Parameters,
  rotary: RopeTables,
  config: LanguageConfig,
  used: { q: boolean },
  site: Site,
): void {
  const rows = normed.dim(0);
  const size = headSize(config);
  const { numAttentionHeads, numKeyValueHeads, rmsNormEps: eps } = config;
  const a = site("norm", normed);
  const names = ["q", "k", "v"] as const;
  const weights = names.map((name) => p.get(`${name}.weight`));
  if (paysToStack(a, weights)) {
    const cut = (name: string, t: Tensor) => name === "q" && !used.q ? detach(t) : t;
    const stacked = stackedLinear(
      a,
      names.map((name, i) => cut(name, weights[i])),
      names.map((name) => cut(name, p.get(`${name}.bias`))),
    );
    const [qNorm, kNorm] = [cut("q", p.get("qNorm.weight")), p.get("kNorm.weight")];
    const sizes = { heads: numAttentionHeads, keyHeads: numKeyValueHeads, eps };
    const made = headNormRope(stacked, qNorm, kNorm, rotary, sizes);
    for (const name of names) heads[name][e] = site(name, made[name]);
    return;
  }
  const project = (name: "q" | "k" | "v", count: number) =>
    reshape(linear(a, p.get(`${name}.weight`), p.get(`${name}.bias`)), [rows, count, size]);
  const turned = (name: "q" | "k", count: number) => {
    const normed = rmsNorm(project(name, count), p.get(`${name}Norm.weight`), eps);
    return site(name, rope(normed, rotary));
  };
  heads.q[e] = turned("q", numAttentionHeads);
  heads.k[e] = turned("k", numKeyValueHeads);
  heads.v[e] = site("v", project("v", numKeyValueHeads));
}

/**
 * The shared attention, its result given back per expert. With a blocked route, gen rows are computed
 * from cut-off und keys and values; where und rows need a gradient too, they get a pass of their own.
 * Queries whose rows nobody reads are cut off: a gradient of zeros would be carried down the whole expert.
 */
function mixHeads(
  heads: Heads,
  layout: Layout,
  index: number,
  blocked: boolean,
  needUnd: boolean,
): Streams {
  const { und, gen } = layout.rows;
  const { q, k, v } = heads;
  const { mask } = layout;
  const attend = (q: Streams, k: Streams, v: Streams) => {
    const [allQ, allK, allV] = [q, k, v].map((part) => mergeStreams(part, layout));
    return "kind" in mask
      ? attendCached(allQ, allK, allV, mask, index)
      : attention(allQ, allK, allV, mask);
  };
  const cut = (part: Streams, e: Expert): Streams => {
    const rows = part[e];
    return rows ? { ...part, [e]: detach(rows) } : part;
  };

  const out: Streams = {};
  const split = blocked && q.gen !== undefined;
  const forGen = split
    ? attend(cut(q, "und"), cut(k, "und"), cut(v, "und"))
    : attend(needUnd ? q : cut(q, "und"), k, v);
  if (q.gen && gen) out.gen = q.und ? gatherRows(forGen, gen) : forGen;
  if (q.und && und && needUnd) {
    const forUnd = split ? attend(cut(q, "gen"), k, v) : forGen;
    out.und = q.gen ? gatherRows(forUnd, und) : forUnd;
  }
  return out;
}

/** Rows of both experts in packed order; an expert alone already is. */
function mergeStreams(part: Streams, layout: Layout): Tensor {
  const { und, gen } = part;
  if (!und || !gen) return (und ?? gen)!;
  return mergeRows([und, gen], [layout.rows.und!, layout.rows.gen!], layout.tokens);
}
