// The config files of a released folder, from a config: what lib/model/read_config.ts reads, the other way round.

import type { UniMedVLConfig } from "./config.ts";
import { ownConfigText } from "./own_config.ts";

/**
 * File name → text: `config.json`, `llm_config.json` and `vit_config.json` as the reference has them, or the one
 * `config.json` of kind `oka` for a model that has pixels as latents, which the reference does not know.
 */
export function configFiles(config: UniMedVLConfig): Map<string, string> {
  if (config.latent.kind === "pixels") return new Map([["config.json", ownConfigText(config)]]);
  const { language: l, vision: v, latent: { autoencoder: a } } = config;
  const text = (value: object) => JSON.stringify(value, null, 2) + "\n";
  const main = {
    visual_gen: true,
    visual_und: true,
    latent_patch_size: config.latentPatchSize,
    max_latent_size: config.maxLatentSize,
    vit_max_num_patch_per_side: config.vitMaxNumPatchPerSide,
    connector_act: "gelu_pytorch_tanh",
    interpolate_pos: false,
    timestep_shift: config.timestepShift,
    vae_config: {
      resolution: a.resolution,
      in_channels: a.inChannels,
      downsample: a.downsample,
      ch: a.ch,
      out_ch: a.outCh,
      ch_mult: a.chMult,
      num_res_blocks: a.numResBlocks,
      z_channels: a.zChannels,
      scale_factor: a.scaleFactor,
      shift_factor: a.shiftFactor,
    },
  };
  const llm = {
    model_type: "qwen2",
    vocab_size: l.vocabSize,
    hidden_size: l.hiddenSize,
    intermediate_size: l.intermediateSize,
    num_hidden_layers: l.numHiddenLayers,
    num_attention_heads: l.numAttentionHeads,
    num_key_value_heads: l.numKeyValueHeads,
    hidden_act: "silu",
    max_position_embeddings: 32768,
    rms_norm_eps: l.rmsNormEps,
    rope_theta: l.ropeTheta,
    rope_scaling: null,
    use_sliding_window: false,
    attention_dropout: 0,
    qk_norm: true,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
  };
  const vit = {
    model_type: "siglip_vision_model",
    hidden_size: v.hiddenSize,
    intermediate_size: v.intermediateSize,
    num_hidden_layers: v.numHiddenLayers + 1, // the last one is not built
    num_attention_heads: v.numAttentionHeads,
    num_channels: v.numChannels,
    image_size: v.imageSize,
    patch_size: v.patchSize,
    hidden_act: "gelu_pytorch_tanh",
    layer_norm_eps: v.layerNormEps,
    attention_dropout: 0,
  };
  return new Map([
    ["config.json", text(main)],
    ["llm_config.json", text(llm)],
    ["vit_config.json", text(vit)],
  ]);
}
