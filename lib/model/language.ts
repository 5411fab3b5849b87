// The two-expert decoder: every token uses the weights of its expert, keys and values of both meet in one
// attention (reference: PackedAttentionMoT, Qwen2MoTDecoderLayer). The two residual streams are kept apart,
// rows in packed order, and only queries, keys and values are merged.

import { checkpointed, reshape } from "../autograd.ts";
import { swigluMlp } from "../nn/mlp.ts";
import type { Parameters } from "../nn/parameters.ts";
import { keepSite, type Site, within } from "../nn/site.ts";
import { add } from "../ops/add.ts";
import { addRmsNorm } from "../ops/add_rms_norm.ts";
import { attention } from "../ops/attention.ts";
import { attendCached } from "../ops/cached_attention.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import type { Projected } from "../ops/head_norm_rope.ts";
import { linear } from "../ops/linear.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import type { Tensor } from "../tensor.ts";
import type { LanguageConfig } from "./config.ts";
import { type HeadSource, type HeadUse, headUses, projectHeads } from "./heads.ts";
import { type Expert, EXPERTS, type Layout, type Streams } from "./streams.ts";

export { type Expert, EXPERTS, type Layout, type Streams } from "./streams.ts";

/**
 * Blocks that keep only what enters and leaves them, and are computed a second time for their gradients. Blocks that
 * a site looks into keep everything.
 */
export interface ActivationCheckpointing {
  /** Each layer of the decoder, both experts. */
  decoder?: boolean;
  /** Each layer of the image encoder. */
  vit?: boolean;
  connector?: boolean;
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
  /** Trades time for memory where gradients are taken. Default: nothing. */
  checkpoint?: ActivationCheckpointing;
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
    const run = (x: Residuals) => runLayer(x, p, i, config, layout, { ...options, needUnd });
    const again = options.checkpoint?.decoder && site === keepSite;
    streams = again ? checkpointedLayer(run, streams) : run(streams);
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

/** Tensors of residuals in a fixed order, each with its place. */
function placesOf(x: Residuals): { e: Expert; part: keyof Residual; tensor: Tensor }[] {
  return EXPERTS.flatMap((e) =>
    (["base", "branch"] as const).flatMap((part) => {
      const tensor = x[e]?.[part];
      return tensor ? [{ e, part, tensor }] : [];
    })
  );
}

/** Residuals with other tensors in the same places. */
function filled(places: ReturnType<typeof placesOf>, tensors: readonly Tensor[]): Residuals {
  const out: { [E in Expert]?: Partial<Residual> } = {};
  for (const [i, { e, part }] of places.entries()) (out[e] ??= {})[part] = tensors[i];
  return out as Residuals;
}

function checkpointedLayer(run: (x: Residuals) => Residuals, x: Residuals): Residuals {
  const places = placesOf(x);
  let made: ReturnType<typeof placesOf> = [];
  const ys = checkpointed((inputs) => {
    made = placesOf(run(filled(places, inputs)));
    return made.map(({ tensor }) => tensor);
  }, places.map(({ tensor }) => tensor));
  return filled(made, ys);
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
  const sums: Streams = {};
  const sources: { [E in Expert]?: HeadSource } = {};
  for (const e of EXPERTS) {
    const given = x[e];
    if (!given) continue;
    const here = within(site, `${e}.layers.${index}`);
    const attn = p.sub(`${e}.layers.${index}.attn`);
    const entered = given.branch ? given : { base: here("in", given.base) };
    const { sum, normed } = sumAndNorm(entered, attn.get("norm.weight"), eps);
    sums[e] = sum;
    sources[e] = { normed: here("attn.norm", normed), attn, site: within(here, "attn") };
  }
  const present = EXPERTS.filter((e) => sources[e]);
  const uses = headUses(present, blocked, needUnd);
  const mixed = mixHeads(projectHeads(sources, config, layout, uses), uses, layout, index);

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

/** The shared attention of each use; the rows that it is for, given back per expert. */
function mixHeads(
  heads: readonly Projected[],
  uses: readonly HeadUse[],
  layout: Layout,
  index: number,
): Streams {
  const { mask, rows } = layout;
  const out: Streams = {};
  for (const [i, { q, k, v }] of heads.entries()) {
    const mixed = "kind" in mask ? attendCached(q, k, v, mask, index) : attention(q, k, v, mask);
    for (const e of uses[i].reads) {
      const own = rows[e];
      if (!own) throw new Error(`internal: no places for ${e} tokens`);
      out[e] = own.size === layout.tokens ? mixed : gatherRows(mixed, own);
    }
  }
  return out;
}
