import assert from "node:assert/strict";
import { InputError, UsageError } from "../../lib/errors.ts";
import {
  checkConfig,
  FLUX_AUTOENCODER,
  headSize,
  type LatentConfig,
  latentSize,
  latentStride,
  PRESETS,
  type UniMedVLConfig,
} from "../../lib/model/config.ts";
import { readConfig } from "../../lib/model/read_config.ts";
import { parameterShapes } from "../../lib/model/shapes.ts";
import { nameFromReference, nameInReference } from "../../lib/model/weights.ts";
import { sizeOf } from "../../lib/tensor.ts";

const TINY = new URL("../../../shared/fixtures/tiny-a", import.meta.url).pathname;
const present = await Deno.stat(TINY).then(() => true, () => false);
const suffix = present ? "" : " (skipped: ../shared/fixtures/tiny-a is absent)";

const BIG = PRESETS["unimedvl-14b"];

/** The names of reference-model.md §7.2, spelled out: the checkpoint's, with their shapes. */
function publishedTensors(): Map<string, number[]> {
  const tensors = new Map<string, number[]>();
  const llm = "language_model.model";
  tensors.set(`${llm}.embed_tokens.weight`, [152064, 3584]);
  tensors.set("language_model.lm_head.weight", [152064, 3584]);
  for (const s of ["", "_moe_gen"]) {
    tensors.set(`${llm}.norm${s}.weight`, [3584]);
    for (let i = 0; i < 28; i++) {
      const at = `${llm}.layers.${i}`;
      for (const [name, rows] of [["q", 3584], ["k", 512], ["v", 512]] as const) {
        tensors.set(`${at}.self_attn.${name}_proj${s}.weight`, [rows, 3584]);
        tensors.set(`${at}.self_attn.${name}_proj${s}.bias`, [rows]);
      }
      tensors.set(`${at}.self_attn.o_proj${s}.weight`, [3584, 3584]);
      tensors.set(`${at}.self_attn.q_norm${s}.weight`, [128]);
      tensors.set(`${at}.self_attn.k_norm${s}.weight`, [128]);
      tensors.set(`${at}.mlp${s}.gate_proj.weight`, [18944, 3584]);
      tensors.set(`${at}.mlp${s}.up_proj.weight`, [18944, 3584]);
      tensors.set(`${at}.mlp${s}.down_proj.weight`, [3584, 18944]);
      tensors.set(`${at}.input_layernorm${s}.weight`, [3584]);
      tensors.set(`${at}.post_attention_layernorm${s}.weight`, [3584]);
    }
  }
  const vit = "vit_model.vision_model";
  const withBias = (name: string, shape: number[]) => {
    tensors.set(`${name}.weight`, shape);
    tensors.set(`${name}.bias`, [shape[0]]);
  };
  withBias(`${vit}.embeddings.patch_embedding`, [1152, 588]);
  tensors.set(`${vit}.embeddings.position_embedding.weight`, [4900, 1152]);
  for (let j = 0; j < 26; j++) {
    const at = `${vit}.encoder.layers.${j}`;
    for (const name of ["q", "k", "v", "out"]) {
      withBias(`${at}.self_attn.${name}_proj`, [1152, 1152]);
    }
    withBias(`${at}.layer_norm1`, [1152]);
    withBias(`${at}.layer_norm2`, [1152]);
    withBias(`${at}.mlp.fc1`, [4304, 1152]);
    withBias(`${at}.mlp.fc2`, [1152, 4304]);
  }
  withBias(`${vit}.post_layernorm`, [1152]);
  withBias("connector.fc1", [3584, 1152]);
  withBias("connector.fc2", [3584, 3584]);
  tensors.set("vit_pos_embed.pos_embed", [4900, 3584]);
  withBias("time_embedder.mlp.0", [3584, 256]);
  withBias("time_embedder.mlp.2", [3584, 3584]);
  withBias("vae2llm", [3584, 64]);
  withBias("llm2vae", [64, 3584]);
  tensors.set("latent_pos_embed.pos_embed", [4096, 3584]);
  return tensors;
}

Deno.test("the 14b preset has the published model's 1223 tensors and 14,607,260,128 parameters", () => {
  const shapes = parameterShapes(BIG);
  assert.equal(shapes.size, 1223);
  assert.equal([...shapes.values()].reduce((n, shape) => n + sizeOf(shape), 0), 14_607_260_128);
  const published = publishedTensors();
  const ours = new Map([...shapes].map(([name, shape]) => [nameInReference(name), shape]));
  assert.deepEqual([...ours.keys()].sort(), [...published.keys()].sort());
  for (const [name, shape] of published) assert.deepEqual(ours.get(name), shape, name);
});

Deno.test("names go to the reference and back", () => {
  for (const name of parameterShapes(BIG).keys()) {
    assert.equal(nameFromReference(nameInReference(name)), name);
  }
  for (const name of publishedTensors().keys()) {
    assert.equal(nameInReference(nameFromReference(name)!), name);
  }
});

Deno.test("nameFromReference() knows nothing of other tensors", () => {
  for (
    const name of [
      "vae_model.encoder.conv_in.weight",
      "language_model.model.layers.0.self_attn.q_proj_moe.weight",
      "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
      "language_model.model.layers.0.mlp.gate_proj_moe_gen.weight",
      "language_model.model.layers.0.self_attn_moe_gen.q_proj.weight",
      "language_model.model.layers.0.self_attn.q_proj_moe_gen_moe_gen.weight",
      "vit_model.vision_model.encoder.layers.0.self_attn.o_proj.weight",
      "vit_model.vision_model.head.weight",
      "text.embed.weight",
    ]
  ) assert.equal(nameFromReference(name), undefined, name);
  assert.throws(
    () => nameInReference("und.layers.0.attn.w.weight"),
    /has no name in the reference/,
  );
});

Deno.test("sizes that follow from a config", () => {
  assert.equal(headSize(BIG.language), 128);
  assert.equal(latentSize(BIG), 64);
  assert.equal(latentStride(BIG), 16);
  assert.equal(latentStride(PRESETS.tiny), 8);
  assert.equal(latentSize(PRESETS.tiny), 8 * 8 + 2 * 2 * 2);
});

Deno.test("every preset passes checkConfig()", () => {
  for (const config of Object.values(PRESETS)) checkConfig(config);
});

const pixels = PRESETS.tiny.latent as Extract<LatentConfig, { kind: "pixels" }>;

type Change = (config: UniMedVLConfig) => void;

Deno.test("checkConfig() names the field that does not fit", () => {
  const cases: [Change, RegExp][] = [
    [(c) => c.language.vocabSize = 0, /language\.vocabSize is 0$/],
    [(c) => c.language.numHiddenLayers = 1.5, /language\.numHiddenLayers is 1\.5$/],
    [(c) => c.language.intermediateSize = -1, /language\.intermediateSize is -1$/],
    [(c) => c.language.hiddenSize = 97, /language\.hiddenSize 97 is no multiple of 4$/],
    [(c) => c.language.numAttentionHeads = 0, /language\.numAttentionHeads is 0$/],
    [(c) => c.language.numKeyValueHeads = 0, /language\.numKeyValueHeads is 0$/],
    [(c) => c.language.numKeyValueHeads = 3, /language\.numAttentionHeads 4 is no multiple of 3$/],
    [(c) => c.language.numAttentionHeads = 32, /language head size 3 is no multiple of 2$/],
    [(c) => c.language.rmsNormEps = -1, /language\.rmsNormEps is -1$/],
    [(c) => c.language.ropeTheta = 0, /language\.ropeTheta is 0$/],
    [(c) => c.vision.numHiddenLayers = 0, /vision\.numHiddenLayers is 0$/],
    [(c) => c.vision.numAttentionHeads = 5, /vision\.hiddenSize 96 is no multiple of 5$/],
    [(c) => c.vision.intermediateSize = 0, /vision\.intermediateSize is 0$/],
    [(c) => c.vision.patchSize = 0, /vision\.patchSize is 0$/],
    [(c) => c.vision.imageSize = 7, /vision\.imageSize 7 is less than one patch$/],
    [(c) => c.vitMaxNumPatchPerSide = 0, /vitMaxNumPatchPerSide is 0$/],
    [(c) => c.maxLatentSize = NaN, /maxLatentSize is NaN$/],
    [(c) => c.latentPatchSize = 0, /latentPatchSize is 0$/],
    [(c) => c.timestepShift = 0, /timestepShift is 0$/],
    [(c) => c.latent = { ...pixels, scale: 0 }, /latent\.scale is 0$/],
    [(c) => c.latent = { ...pixels, colorScale: NaN }, /latent\.colorScale is NaN$/],
    [
      (c) => c.latent = { ...pixels, colorSide: 3 },
      /latent\.patchSize 8 is no multiple of 3$/,
    ],
  ];
  for (const [change, message] of cases) {
    const config = structuredClone(PRESETS.tiny);
    change(config);
    assert.throws(
      () => checkConfig(config),
      (e) => e instanceof UsageError && message.test(e.message) && e.help !== undefined,
      String(change),
    );
  }
});

const NESTED = {
  latent_patch_size: 2,
  max_latent_size: 8,
  vit_max_num_patch_per_side: 4,
  timestep_shift: 4,
  llm_config: {
    vocab_size: 320,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    qk_norm: true,
    layer_module: "Qwen2MoTDecoderLayer",
    tie_word_embeddings: false,
  },
  vit_config: {
    hidden_size: 48,
    intermediate_size: 80,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_channels: 3,
    image_size: 56,
    patch_size: 14,
    layer_norm_eps: 1e-6,
    rope: false,
  },
  vae_config: {
    resolution: 32,
    in_channels: 3,
    downsample: 2,
    ch: 32,
    out_ch: 3,
    ch_mult: [1, 2],
    num_res_blocks: 1,
    z_channels: 4,
    scale_factor: 0.3611,
    shift_factor: 0.1159,
  },
};

// deno-lint-ignore no-explicit-any
type Json = any;

async function inFolder(
  files: Record<string, Json>,
  run: (dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "config-" });
  try {
    for (const [file, content] of Object.entries(files)) {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await Deno.writeTextFile(`${dir}/${file}`, text);
    }
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const WANTED: UniMedVLConfig = {
  language: {
    vocabSize: 320,
    hiddenSize: 64,
    intermediateSize: 96,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    rmsNormEps: 1e-6,
    ropeTheta: 1e6,
  },
  vision: {
    hiddenSize: 48,
    intermediateSize: 80,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    numChannels: 3,
    imageSize: 56,
    patchSize: 14,
    layerNormEps: 1e-6,
  },
  latent: {
    kind: "autoencoder",
    autoencoder: {
      resolution: 32,
      inChannels: 3,
      downsample: 2,
      ch: 32,
      outCh: 3,
      chMult: [1, 2],
      numResBlocks: 1,
      zChannels: 4,
      scaleFactor: 0.3611,
      shiftFactor: 0.1159,
    },
  },
  latentPatchSize: 2,
  maxLatentSize: 8,
  vitMaxNumPatchPerSide: 4,
  timestepShift: 4,
};

Deno.test({
  name: `readConfig() reads the fixture's config.json${suffix}`,
  ignore: !present,
  fn: async () => assert.deepEqual(await readConfig(TINY), WANTED),
});

Deno.test("readConfig() reads nested configs as the modules were built", async () => {
  await inFolder({ "config.json": NESTED }, async (dir) => {
    assert.deepEqual(await readConfig(dir), WANTED);
  });
});

Deno.test("readConfig() builds one ViT layer less than a released vit_config.json says", async () => {
  const { llm_config, vit_config } = NESTED;
  const { layer_module: _, ...llm } = llm_config;
  const { num_channels: __, layer_norm_eps: ___, ...vit } = vit_config;
  const files = {
    "llm_config.json": llm,
    "vit_config.json": { ...vit, num_hidden_layers: 3 },
  };
  const released = { ...WANTED, latent: { kind: "autoencoder", autoencoder: FLUX_AUTOENCODER } };
  await inFolder(files, async (dir) => {
    const got = await readConfig(dir);
    assert.deepEqual(got, { ...released, maxLatentSize: 64, timestepShift: 1 });
  });
  const main = { latent_patch_size: 2, max_latent_size: 32, timestep_shift: 3 };
  await inFolder({ ...files, "config.json": main }, async (dir) => {
    assert.deepEqual(await readConfig(dir), { ...released, maxLatentSize: 32, timestepShift: 3 });
  });
});

Deno.test("readConfig() names the file and field that is wrong", async () => {
  const { llm_config: llm, vit_config: vit, vae_config: vae } = NESTED;
  const without = (from: object, name: string) => ({ ...from, [name]: undefined });
  const cases: [Record<string, Json>, RegExp][] = [
    [{}, /llm_config\.json: No such file/],
    [{ "config.json": { ...NESTED, llm_config: undefined } }, /: llm_config is missing$/],
    [{ "llm_config.json": llm }, /vit_config\.json: No such file/],
    [{ "config.json": "{" }, /config\.json: not JSON/],
    [{ "config.json": "[1]" }, /config\.json: it holds no object$/],
    [{ "config.json": "null" }, /config\.json: it holds no object$/],
    [{ "config.json": { ...NESTED, llm_config: 3 } }, /config\.json: llm_config is 3$/],
    [{ "config.json": { ...NESTED, vit_config: [] } }, /config\.json: vit_config is \[\]$/],
    [
      { "config.json": { ...NESTED, llm_config: without(llm, "rope_theta") } },
      /config\.json: llm_config\.rope_theta is missing$/,
    ],
    [
      { "config.json": { ...NESTED, llm_config: { ...llm, hidden_size: "64" } } },
      /config\.json: llm_config\.hidden_size is "64"$/,
    ],
    [
      { "config.json": { ...NESTED, vit_config: without(vit, "patch_size") } },
      /config\.json: vit_config\.patch_size is missing$/,
    ],
    [
      { "llm_config.json": llm, "vit_config.json": { ...vit, hidden_size: null } },
      /vit_config\.json: hidden_size is null$/,
    ],
    [
      { "config.json": { ...NESTED, vae_config: without(vae, "z_channels") } },
      /config\.json: vae_config\.z_channels is missing$/,
    ],
    [
      { "config.json": { ...NESTED, vae_config: { ...vae, ch_mult: "1,2" } } },
      /config\.json: vae_config\.ch_mult is "1,2"$/,
    ],
    [
      { "config.json": { ...NESTED, vae_config: without(vae, "ch_mult") } },
      /config\.json: vae_config\.ch_mult is missing$/,
    ],
    [
      { "config.json": { ...NESTED, llm_config: { ...llm, layer_module: "Qwen2DecoderLayer" } } },
      /config\.json: llm_config\.layer_module "Qwen2DecoderLayer" is not supported$/,
    ],
    [
      { "config.json": { ...NESTED, llm_config: { ...llm, qk_norm: false } } },
      /config\.json: llm_config\.qk_norm false is not supported$/,
    ],
    [
      { "config.json": { ...NESTED, llm_config: { ...llm, rope_scaling: { type: "yarn" } } } },
      /llm_config\.rope_scaling {"type":"yarn"} is not supported$/,
    ],
    [
      { "config.json": { ...NESTED, vit_config: { ...vit, hidden_act: "gelu" } } },
      /vit_config\.hidden_act "gelu" is not supported$/,
    ],
    [
      { "config.json": { ...NESTED, interpolate_pos: true } },
      /config\.json: interpolate_pos true is not supported$/,
    ],
    [
      { "config.json": { ...NESTED, vae_config: { ...vae, downsample: 4 } } },
      /config\.json: Cannot use the autoencoder config: downsample is 4$/,
    ],
    [
      { "llm_config.json": llm, "vit_config.json": { ...vit, num_hidden_layers: 1 } },
      /vit_config\.json: vision\.numHiddenLayers is 0$/,
    ],
    [
      { "config.json": { ...NESTED, llm_config: { ...llm, hidden_size: 66 } } },
      /config\.json: language\.hiddenSize 66 is no multiple of 4$/,
    ],
  ];
  for (const [files, message] of cases) {
    await inFolder(files, async (dir) => {
      await assert.rejects(
        readConfig(dir),
        (e) => {
          assert.ok(e instanceof InputError, `${message}: ${e}`);
          assert.match(e.message, message);
          assert.ok(e.message.startsWith(`Cannot read ${dir}/`), e.message);
          return true;
        },
      );
    });
  }
});

Deno.test("a folder with nothing but an adapter says how it is used", () =>
  inFolder({ "adapter.safetensors": "" }, async (dir) => {
    await assert.rejects(readConfig(dir), {
      name: "InputError",
      help:
        `here is a LoRA adapter: give the model it was trained over, and --lora ${dir}/adapter.safetensors`,
    });
  }));
