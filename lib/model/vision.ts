// The image encoder: SigLIP over packed patches of images of any size (NaViT), and the connector that
// brings its output to the width of the decoder.

import { checkpointed, reshape } from "../autograd.ts";
import { geluMlp } from "../nn/mlp.ts";
import type { Parameters } from "../nn/parameters.ts";
import { keepSite, type Site, within } from "../nn/site.ts";
import { add } from "../ops/add.ts";
import { attention } from "../ops/attention.ts";
import type { AttentionMask } from "../ops/attention_mask.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { linear } from "../ops/linear.ts";
import { gatherRows } from "../ops/gather_rows.ts";
import type { RowIndex } from "../ops/row_index.ts";
import type { Tensor } from "../tensor.ts";
import type { VisionConfig } from "./config.ts";

/**
 * Patches → features: linear embedding, learned position row, pre-norm blocks with full attention inside
 * each image, final LayerNorm.
 *
 * @param patches (N, p·p·3) values in (row, column, channel) order
 * @param positions rows of the learned position table
 * @param mask one sample per image, all tokens in full mode
 * @param p parameters with the prefix `vit`
 * @param recompute layers are computed again for their gradients, unless `site` looks into them
 * @returns (N, C_vit)
 */
export function encodePatches(
  patches: Tensor,
  positions: RowIndex,
  mask: AttentionMask,
  p: Parameters,
  config: VisionConfig,
  site: Site = keepSite,
  recompute = false,
): Tensor {
  const here = within(site, "vit");
  const embedded = linear(patches, p.get("vit.embed.patch.weight"), p.get("vit.embed.patch.bias"));
  const position = gatherRows(p.get("vit.embed.position.weight"), positions);
  let x = here("embed", add(embedded, position));
  for (let i = 0; i < config.numHiddenLayers; i++) {
    const layer = p.sub(`vit.layers.${i}`);
    const run = (h: Tensor) => visionLayer(h, mask, layer, config, within(here, `layers.${i}`));
    x = recompute && site === keepSite ? checkpointed(([h]) => [run(h)], [x])[0] : run(x);
  }
  const { layerNormEps: eps } = config;
  return here("out", layerNorm(x, p.get("vit.norm.weight"), p.get("vit.norm.bias"), eps));
}

/** One pre-norm block: `x += o(attention(norm x))`, `x += fc2(gelu_tanh(fc1(norm x)))`. */
export function visionLayer(
  x: Tensor,
  mask: AttentionMask,
  p: Parameters,
  config: VisionConfig,
  site: Site = keepSite,
): Tensor {
  const rows = x.dim(0);
  const heads = config.numAttentionHeads;
  const size = config.hiddenSize / heads;
  const norm = (h: Tensor, name: string) =>
    layerNorm(h, p.get(`${name}.weight`), p.get(`${name}.bias`), config.layerNormEps);
  const h = site("in", x);
  const a = site("attn.norm", norm(h, "attn.norm"));
  const project = (name: "q" | "k" | "v") => {
    const y = linear(a, p.get(`attn.${name}.weight`), p.get(`attn.${name}.bias`));
    return site(`attn.${name}`, reshape(y, [rows, heads, size]));
  };
  const mixed = site("attn.heads", attention(project("q"), project("k"), project("v"), mask));
  const flat = reshape(mixed, [rows, config.hiddenSize]);
  const attended = linear(flat, p.get("attn.o.weight"), p.get("attn.o.bias"));
  const mid = site("mid", add(h, site("attn.out", attended)));
  const mlp = geluMlp(site("mlp.norm", norm(mid, "mlp.norm")), p.sub("mlp"), within(site, "mlp"));
  return site("out", add(mid, site("mlp.out", mlp)));
}

/**
 * Features → decoder inputs: two-layer feed-forward plus the fixed 2-D sin-cos row of each patch.
 *
 * @param features (N, C_vit)
 * @param positions rows of the fixed table
 * @returns (N, C)
 */
export function connect(
  features: Tensor,
  positions: RowIndex,
  p: Parameters,
  site: Site = keepSite,
): Tensor {
  const here = within(site, "connector");
  const projected = here("projected", geluMlp(features, p.sub("connector"), here));
  return here("out", add(projected, gatherRows(p.get("connector.position"), positions)));
}
