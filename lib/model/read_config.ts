// Model configs from the reference's JSON files, nested in `config.json` or beside it as released, and from our
// own `config.json`.

import { fileReason } from "../data/jsonl.ts";
import { InputError, UsageError } from "../errors.ts";
import { ADAPTER_FILE } from "./checkpoint_files.ts";
import { type AutoencoderConfig, checkAutoencoderConfig } from "./autoencoder.ts";
import {
  type ConfigProblem,
  configProblem,
  FLUX_AUTOENCODER,
  type UniMedVLConfig,
} from "./config.ts";
import { OWN_KIND, ownConfig } from "./own_config.ts";

type Json = Record<string, unknown>;

/** One JSON object of a file, with the errors that name it. */
class Section {
  constructor(
    /** The file as errors name it. */
    readonly file: string,
    readonly values: Json,
    /** Path of the object in its file, with a dot behind it. */
    private readonly path = "",
  ) {}

  /** True for the `config.json` of lib/model/own_config.ts. */
  get own(): boolean {
    return this.values.kind === OWN_KIND;
  }

  has(name: string): boolean {
    return this.values[name] !== undefined;
  }

  /** @throws {InputError} If the value is not a number; a missing one takes the fallback, if there is one */
  number(name: string, fallback?: number): number {
    const value = this.has(name) ? this.values[name] : fallback;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw this.wrong(name, `${name} must be a number`);
  }

  numbers(name: string, fallback?: number[]): number[] {
    const value = this.has(name) ? this.values[name] : fallback;
    if (Array.isArray(value) && value.every((v) => typeof v === "number")) return value;
    throw this.wrong(name, `${name} must be a list of numbers`);
  }

  section(name: string): Section {
    return new Section(
      this.file,
      asObject(this.values[name]) ?? this.#refuse(name),
      `${this.path}${name}.`,
    );
  }

  /** What was built otherwise would give other numbers without a word: refused. */
  only(name: string, supported: unknown): void {
    const value = this.values[name];
    if (value === undefined || value === supported) return;
    const shown = `${this.path}${name} ${JSON.stringify(value)}`;
    throw new InputError(`Cannot read ${this.file}: ${shown} is not supported`, {
      help: `only ${JSON.stringify(supported)}, as in the published model, is built`,
    });
  }

  wrong(name: string, help: string): InputError {
    const what = this.has(name) ? `is ${JSON.stringify(this.values[name])}` : "is missing";
    return new InputError(`Cannot read ${this.file}: ${this.path}${name} ${what}`, { help });
  }

  #refuse(name: string): never {
    throw this.wrong(name, `${name} must be an object`);
  }
}

/**
 * Reads a model config from a folder. Either our own `config.json`, or the reference's: a part that
 * `config.json` holds as `llm_config`, `vit_config` or `vae_config` is read there, else from
 * `llm_config.json` and `vit_config.json`, where the ViT depth is one more than what is built; without
 * `vae_config`, or with one that names no layers, the autoencoder is FLUX's. Settings that the released loaders override
 * (`layer_module`, `qk_norm`) are looked at in nested configs only.
 *
 * @param dir folder holding the files
 * @throws {InputError} Naming the file and field that is missing, of the wrong kind or not supported
 */
export async function readConfig(dir: string): Promise<UniMedVLConfig> {
  const main = await readObject(`${dir}/config.json`, true) ??
    new Section(`${dir}/config.json`, {});
  if (main.own) {
    const config = ownConfig(main.file, main.values);
    const problem = configProblem(config);
    if (problem) throw refuse(main.file, problem);
    if (config.latent.kind === "autoencoder") checked(config.latent.autoencoder, main.file);
    return config;
  }
  const nested = main.has("llm_config") || main.has("vit_config");
  const part = async (name: string) => {
    const beside = `${dir}/${name}.json`;
    if (!nested) return await readObject(beside);
    return main.has(name)
      ? main.section(name)
      : await readObject(beside, true) ?? main.section(name);
  };
  const llm = await part("llm_config");
  const vit = await part("vit_config");
  const nestedVit = vit.file === main.file;
  if (llm.file === main.file) {
    llm.only("layer_module", "Qwen2MoTDecoderLayer");
    llm.only("qk_norm", true);
    llm.only("tie_word_embeddings", false);
  }
  if (nestedVit) vit.only("rope", false);
  llm.only("hidden_act", "silu");
  llm.only("rope_scaling", null);
  llm.only("use_sliding_window", false);
  vit.only("hidden_act", "gelu_pytorch_tanh");
  main.only("connector_act", "gelu_pytorch_tanh");
  main.only("interpolate_pos", false);

  const imageSize = vit.number("image_size");
  const patchSize = vit.number("patch_size");
  const config: UniMedVLConfig = {
    language: {
      vocabSize: llm.number("vocab_size"),
      hiddenSize: llm.number("hidden_size"),
      intermediateSize: llm.number("intermediate_size"),
      numHiddenLayers: llm.number("num_hidden_layers"),
      numAttentionHeads: llm.number("num_attention_heads"),
      numKeyValueHeads: llm.number("num_key_value_heads"),
      rmsNormEps: llm.number("rms_norm_eps", 1e-6),
      ropeTheta: llm.number("rope_theta"),
    },
    vision: {
      hiddenSize: vit.number("hidden_size"),
      intermediateSize: vit.number("intermediate_size"),
      numHiddenLayers: vit.number("num_hidden_layers") - (nestedVit ? 0 : 1),
      numAttentionHeads: vit.number("num_attention_heads"),
      numChannels: vit.number("num_channels", 3),
      imageSize,
      patchSize,
      layerNormEps: vit.number("layer_norm_eps", 1e-6),
    },
    latent: {
      kind: "autoencoder",
      autoencoder: main.has("vae_config")
        ? readAutoencoder(main.section("vae_config"))
        : FLUX_AUTOENCODER,
    },
    latentPatchSize: main.number("latent_patch_size", 2),
    maxLatentSize: main.number("max_latent_size", 64),
    vitMaxNumPatchPerSide: main.number(
      "vit_max_num_patch_per_side",
      Math.floor(imageSize / patchSize),
    ),
    timestepShift: main.number("timestep_shift", 1),
  };
  const problem = configProblem(config);
  if (problem) {
    const { field } = problem;
    const part = field.startsWith("language") ? llm : field.startsWith("vision") ? vit : main;
    throw refuse(part.file, problem);
  }
  return config;
}

function refuse(file: string, { what, help }: ConfigProblem): InputError {
  return new InputError(`Cannot read ${file}: ${what}`, { help });
}

/** A section with `ch` or `ch_mult` is complete; a short one, as on the hub, means FLUX's autoencoder. */
function readAutoencoder(vae: Section): AutoencoderConfig {
  const short = !vae.has("ch") && !vae.has("ch_mult");
  const flux: Partial<AutoencoderConfig> = short ? FLUX_AUTOENCODER : {};
  return checked({
    resolution: vae.number("resolution", flux.resolution),
    inChannels: vae.number("in_channels", flux.inChannels),
    downsample: vae.number("downsample", flux.downsample),
    ch: vae.number("ch", flux.ch),
    outCh: vae.number("out_ch", flux.outCh),
    chMult: vae.numbers("ch_mult", flux.chMult),
    numResBlocks: vae.number("num_res_blocks", flux.numResBlocks),
    zChannels: vae.number("z_channels", flux.zChannels),
    scaleFactor: vae.number("scale_factor", flux.scaleFactor),
    shiftFactor: vae.number("shift_factor", flux.shiftFactor),
  }, vae.file);
}

function checked(config: AutoencoderConfig, file: string): AutoencoderConfig {
  try {
    checkAutoencoderConfig(config);
  } catch (cause) {
    if (!(cause instanceof UsageError)) throw cause;
    const message = `Cannot read ${file}: ${cause.message}`;
    throw new InputError(message, { cause, ...(cause.help ? { help: cause.help } : {}) });
  }
  return config;
}

async function readObject(path: string): Promise<Section>;
async function readObject(path: string, optional: true): Promise<Section | undefined>;
async function readObject(path: string, optional = false): Promise<Section | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound && optional) return undefined;
    const adapter = path.replace(/[^/]*$/, ADAPTER_FILE);
    throw new InputError(`Cannot read ${path}: ${fileReason(cause)}`, {
      cause,
      help: await isFile(adapter)
        ? `here is a LoRA adapter: give the model it was trained over, and --lora ${adapter}`
        : "give a folder with config.json, or with llm_config.json and vit_config.json",
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: not JSON (${(cause as Error).message})`, { cause });
  }
  const object = asObject(value);
  if (!object) throw new InputError(`Cannot read ${path}: it holds no object`);
  return new Section(path, object);
}

function isFile(path: string): Promise<boolean> {
  return Deno.stat(path).then((info) => info.isFile, () => false);
}

function asObject(value: unknown): Json | undefined {
  const plain = typeof value === "object" && value !== null && !Array.isArray(value);
  return plain ? value as Json : undefined;
}
