// Names: the reference's checkpoint names and ours, both ways. Ours follow the sites of a forward pass.

/** [reference, ours] with `#` for a layer number; `und` forms, the `gen` forms follow by rule. */
const DECODER: [string, string][] = [
  ["self_attn.q_proj", "attn.q"],
  ["self_attn.k_proj", "attn.k"],
  ["self_attn.v_proj", "attn.v"],
  ["self_attn.o_proj", "attn.o"],
  ["self_attn.q_norm", "attn.qNorm"],
  ["self_attn.k_norm", "attn.kNorm"],
  ["mlp.gate_proj", "mlp.gate"],
  ["mlp.up_proj", "mlp.up"],
  ["mlp.down_proj", "mlp.down"],
  ["input_layernorm", "attn.norm"],
  ["post_attention_layernorm", "mlp.norm"],
];

const VISION: [string, string][] = [
  ["self_attn.q_proj", "attn.q"],
  ["self_attn.k_proj", "attn.k"],
  ["self_attn.v_proj", "attn.v"],
  ["self_attn.out_proj", "attn.o"],
  ["layer_norm1", "attn.norm"],
  ["layer_norm2", "mlp.norm"],
  ["mlp.fc1", "mlp.fc1"],
  ["mlp.fc2", "mlp.fc2"],
];

const VIT = "vit_model.vision_model";
const LLM = "language_model.model";

const FIXED: [string, string][] = [
  [`${LLM}.embed_tokens.weight`, "text.embed.weight"],
  ["language_model.lm_head.weight", "text.head.weight"],
  [`${LLM}.norm.weight`, "und.norm.weight"],
  [`${LLM}.norm_moe_gen.weight`, "gen.norm.weight"],
  [`${VIT}.embeddings.patch_embedding.weight`, "vit.embed.patch.weight"],
  [`${VIT}.embeddings.patch_embedding.bias`, "vit.embed.patch.bias"],
  [`${VIT}.embeddings.position_embedding.weight`, "vit.embed.position.weight"],
  [`${VIT}.post_layernorm.weight`, "vit.norm.weight"],
  [`${VIT}.post_layernorm.bias`, "vit.norm.bias"],
  ["connector.fc1.weight", "connector.fc1.weight"],
  ["connector.fc1.bias", "connector.fc1.bias"],
  ["connector.fc2.weight", "connector.fc2.weight"],
  ["connector.fc2.bias", "connector.fc2.bias"],
  ["vit_pos_embed.pos_embed", "connector.position"],
  ["time_embedder.mlp.0.weight", "latent.time.fc1.weight"],
  ["time_embedder.mlp.0.bias", "latent.time.fc1.bias"],
  ["time_embedder.mlp.2.weight", "latent.time.fc2.weight"],
  ["time_embedder.mlp.2.bias", "latent.time.fc2.bias"],
  ["vae2llm.weight", "latent.in.weight"],
  ["vae2llm.bias", "latent.in.bias"],
  ["llm2vae.weight", "latent.out.weight"],
  ["llm2vae.bias", "latent.out.bias"],
  ["latent_pos_embed.pos_embed", "latent.position"],
];

const toOurs = new Map(FIXED);
const toReference = new Map(FIXED.map(([reference, ours]) => [ours, reference]));
const decoderToOurs = new Map(DECODER);
const decoderToReference = new Map(DECODER.map(([a, b]) => [b, a]));
const genToOurs = new Map(DECODER.map(([a, b]) => [withGenSuffix(a), b]));
const visionToOurs = new Map(VISION);
const visionToReference = new Map(VISION.map(([a, b]) => [b, a]));

/** The frozen sin-cos tables. */
export const FROZEN = new Set(["connector.position", "latent.position"]);

/** Our name of a reference tensor, or `undefined` if the model has no such tensor. */
export function nameFromReference(name: string): string | undefined {
  const fixed = toOurs.get(name);
  if (fixed) return fixed;
  const layer = /^language_model\.model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  if (layer) {
    const [, index, place, kind] = layer;
    const und = decoderToOurs.get(place);
    if (und) return `und.layers.${index}.${und}.${kind}`;
    const gen = genToOurs.get(place);
    return gen && `gen.layers.${index}.${gen}.${kind}`;
  }
  const vit = /^vit_model\.vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  const place = vit && visionToOurs.get(vit[2]);
  return vit && place ? `vit.layers.${vit[1]}.${place}.${vit[3]}` : undefined;
}

/** The reference's name of one of our parameters. */
export function nameInReference(name: string): string {
  const fixed = toReference.get(name);
  if (fixed) return fixed;
  const [, part, index, place, kind] = /^(und|gen|vit)\.layers\.(\d+)\.(.+)\.(\w+)$/.exec(name) ??
    [];
  if (part === "vit") {
    return `${VIT}.encoder.layers.${index}.${visionToReference.get(place)}.${kind}`;
  }
  const reference = decoderToReference.get(place ?? "");
  if (!reference) throw new TypeError(`internal: parameter ${name} has no name in the reference`);
  const suffixed = part === "und" ? reference : withGenSuffix(reference);
  return `${LLM}.layers.${index}.${suffixed}.${kind}`;
}

/** The suffix stands on the projection or norm in attention, on the module in the feed-forward. */
function withGenSuffix(reference: string): string {
  return reference.startsWith("mlp.")
    ? reference.replace("mlp.", "mlp_moe_gen.")
    : `${reference}_moe_gen`;
}
