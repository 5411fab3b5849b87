// Queries, keys and values of both experts in packed order, once for every way in which a layer uses them.

import { detach, reshape } from "../autograd.ts";
import type { Parameters } from "../nn/parameters.ts";
import { keepSite, type Site } from "../nn/site.ts";
import {
  type HeadCut,
  headNormRope,
  type HeadPart,
  headsFit,
  type HeadSizes,
  joinHeads,
  type Projected,
} from "../ops/head_norm_rope.ts";
import { linear } from "../ops/linear.ts";
import { mergeRows } from "../ops/merge_rows.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rope, type RopeTables } from "../ops/rope.ts";
import { paysToStack, stackedLinear } from "../ops/stacked_linear.ts";
import type { Tensor } from "../tensor.ts";
import { headSize, type LanguageConfig } from "./config.ts";
import { type Expert, EXPERTS, type Layout, type Streams } from "./streams.ts";

const PARTS = ["q", "k", "v"] as const;

/** One attention over the heads of all tokens. */
export interface HeadUse {
  /** What it cuts off from an expert's gradients. */
  cuts: { [E in Expert]?: HeadCut };
  /** Experts whose rows of its result are read. */
  reads: readonly Expert[];
}

/**
 * One attention for both experts. With a blocked route, gen rows are computed from cut-off und keys and values, and where
 * und rows are needed too, they get a pass of their own. Queries whose rows nobody reads are cut off: a gradient of zeros
 * would be carried down the whole expert.
 *
 * @param present experts with tokens
 */
export function headUses(
  present: readonly Expert[],
  blocked: boolean,
  needUnd: boolean,
): HeadUse[] {
  const reads = present.filter((e) => e === "gen" || needUnd);
  if (!blocked || !present.includes("gen")) {
    return [{ cuts: needUnd ? {} : { und: { q: true } }, reads }];
  }
  const forGen: HeadUse = { cuts: { und: { q: true, kv: true } }, reads: ["gen"] };
  const forUnd: HeadUse = { cuts: { gen: { q: true } }, reads: ["und"] };
  return reads.includes("und") ? [forGen, forUnd] : [forGen];
}

/** An expert's rows behind the norm of attention, its attention's weights, and who looks at its heads. */
export interface HeadSource {
  /** (M, C) */
  normed: Tensor;
  attn: Parameters;
  /** Called with `q`, `k` and `v`. */
  site: Site;
}

/**
 * Queries (N, H, D), keys and values (N, K, D) for each use: projected, normed per head, rotated, in packed order. A
 * recorded pass makes one product and one kernel per expert, unless somebody looks at each expert's heads.
 */
export function projectHeads(
  sources: { [E in Expert]?: HeadSource },
  config: LanguageConfig,
  layout: Layout,
  uses: readonly HeadUse[],
): Projected[] {
  const present = EXPERTS.filter((e) => sources[e]);
  const { numAttentionHeads: heads, numKeyValueHeads: keyHeads, rmsNormEps: eps } = config;
  const sizes = { heads, keyHeads, eps };
  const all = present.map((e) => {
    const tables = layout.rope[e];
    if (!tables) throw new Error(`internal: no rotary tables for ${e} tokens`);
    return { e, tables, ...sources[e]! };
  });
  const { gpu } = all[0].normed;
  const stacks = headsFit(gpu, layout.tokens, headSize(config), sizes) &&
    all.every(({ normed, attn }) => paysToStack(normed, PARTS.map((n) => attn.get(`${n}.weight`))));
  const parts = stacks
    ? all.map(({ e, normed, attn, tables }) => ({
      ...stackedPart(normed, attn, uses.every(({ cuts }) => cuts[e]?.q)),
      tables,
    }))
    : [];
  if (stacks && all.every(({ site }) => site === keepSite)) {
    const placed = parts.map((part, i) =>
      all.length > 1 ? { ...part, rows: layout.rows[all[i].e]! } : part
    );
    return joinHeads(
      placed,
      layout.tokens,
      sizes,
      uses.map(({ cuts }) => {
        return present.map((e) => cuts[e] ?? {});
      }),
    );
  }
  const apart = all.map(({ normed, attn, tables, site }, i): Projected => {
    const { q, k, v } = stacks
      ? headNormRope(parts[i].x, parts[i].qNorm, parts[i].kNorm, tables, sizes)
      : plainHeads(normed, attn, tables, sizes, headSize(config));
    return { q: site("q", q), k: site("k", k), v: site("v", v) };
  });
  return uses.map(({ cuts }) => {
    const [q, k, v] = PARTS.map((name) => {
      const rows: Streams = {};
      for (const [i, e] of present.entries()) {
        const cut = name === "q" ? cuts[e]?.q : cuts[e]?.kv;
        rows[e] = cut ? detach(apart[i][name]) : apart[i][name];
      }
      return mergeStreams(rows, layout);
    });
    return { q, k, v };
  });
}

/** The stacked projection; with `cutQ` no gradient reaches what only queries use. */
function stackedPart(normed: Tensor, attn: Parameters, cutQ: boolean): Omit<HeadPart, "tables"> {
  const get = (name: string) => {
    const weight = attn.get(name);
    return cutQ && name.startsWith("q") ? detach(weight) : weight;
  };
  const [weights, biases] = ["weight", "bias"].map((kind) => PARTS.map((n) => get(`${n}.${kind}`)));
  const x = stackedLinear(normed, weights, biases);
  return { x, qNorm: get("qNorm.weight"), kNorm: get("kNorm.weight") };
}

/** Each projection on its own, as packed weights want it. */
function plainHeads(
  normed: Tensor,
  attn: Parameters,
  tables: RopeTables,
  { heads, keyHeads, eps = 1e-6 }: HeadSizes,
  size: number,
): Projected {
  const project = (name: "q" | "k" | "v", count: number) => {
    const y = linear(normed, attn.get(`${name}.weight`), attn.get(`${name}.bias`));
    return reshape(y, [normed.dim(0), count, size]);
  };
  const turned = (name: "q" | "k", count: number) =>
    rope(rmsNorm(project(name, count), attn.get(`${name}Norm.weight`), eps), tables);
  return { q: turned("q", heads), k: turned("k", keyHeads), v: project("v", keyHeads) };
}

/** Rows of both experts in packed order; an expert alone already is. */
function mergeStreams(part: Streams, layout: Layout): Tensor {
  const { und, gen } = part;
  if (!und || !gen) return (und ?? gen)!;
  return mergeRows([und, gen], [layout.rows.und!, layout.rows.gen!], layout.tokens);
}
