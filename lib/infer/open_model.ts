// A model folder opened for use: what a task needs is loaded when it is first needed, packed as it is stored, and
// when the decoder does not fit the memory budget its layers are streamed from disk.

import type { SpecialIds, Tokenizer } from "../data/tokenizer.ts";
import { openTokenizer } from "../data/tokenizer.ts";
import { InputError, ResourceError } from "../errors.ts";
import { formatBytes } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Autoencoder } from "../model/autoencoder.ts";
import { type AutoencoderHalf, uploadAutoencoder } from "../model/autoencoder_upload.ts";
import {
  type Checkpoint,
  openCheckpoint,
  type StoredTensor,
  surveyCheckpoint,
} from "../model/checkpoint_folder.ts";
import type { UniMedVLConfig } from "../model/config.ts";
import { deviceBytes, rowReader, uploadTensor } from "../model/device_weights.ts";
import { LayerStream } from "../model/layer_stream.ts";
import { loraNames } from "../model/lora.ts";
import {
  checkBase,
  checkpointDigest,
  type LoraFile,
  placeLora,
  readLora,
} from "../model/lora_file.ts";
import { parameterShapes } from "../model/shapes.ts";
import { UniMedVL } from "../model/unimedvl.ts";
import { Parameters } from "../nn/parameters.ts";
import { type DrawDefaults, readDefaults } from "./defaults.ts";
import { modelFolder } from "../model/model_folder.ts";

/** Parts of a model that tasks need apart. */
export type Part = "head" | "und" | "gen" | "vit" | "latent" | "encoder" | "decoder";

/** Our names that belong to a part of the decoder model. */
const PREFIXES: Record<Exclude<Part, "encoder" | "decoder">, string[]> = {
  head: ["text.head."],
  und: ["und."],
  gen: ["gen."],
  vit: ["vit.", "connector."],
  latent: ["latent."],
};

const EMBEDDINGS = "text.embed.weight";
/** Token tables up to this size go to the device; larger ones are read row by row. */
const SMALL_TABLE = 2 ** 26;
/** Device memory kept for activations where nobody knows better. */
const WORKING_BYTES = 2 ** 28;

/** Surplus tensors that a note names. */
const LISTED = 8;

/** How loading is watched. */
export interface LoadWork {
  signal?: AbortSignal;
  /** Bytes loaded of all that is being loaded. */
  onProgress?: (done: number, total: number) => void;
  /** Device memory that activations will take. Default: 256 MiB. */
  workingBytes?: number;
  /** What a user should know: values the files overruled, streaming and its cost. */
  onNote?: (text: string) => void;
}

/** A size as `--budget` takes it, rounded up. */
function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.ceil(bytes / 1e6)}MB` : `${Math.ceil(bytes / 1e8) / 10}GB`;
}

/** A model folder in use. */
export class OpenModel {
  /** Values that the files overruled, and the like. */
  readonly notes: readonly string[];
  readonly special: SpecialIds;
  readonly #loaded = new Set<Part>();
  readonly #halves: { [H in AutoencoderHalf]?: Autoencoder } = {};

  constructor(
    readonly gpu: Gpu,
    readonly dir: string,
    readonly checkpoint: Checkpoint,
    readonly tokenizer: Tokenizer,
    /** Holds the parts that were needed so far. */
    readonly model: UniMedVL,
    /** What the folder says of drawing with it. */
    readonly defaults: DrawDefaults = {},
    private readonly workingBytes?: number,
    /** Low-rank adapters that the linear layers carry. */
    readonly lora?: LoraFile,
  ) {
    this.special = tokenizer.special;
    model.lora = lora?.info;
    const surplus = checkpoint.surplusTexts();
    const more = surplus.length > LISTED ? ` and ${surplus.length - LISTED} more` : "";
    this.notes = surplus.length === 0 ? checkpoint.notes : [
      ...checkpoint.notes,
      `tensors that are none of the model's: ${surplus.slice(0, LISTED).join(", ")}${more}`,
    ];
  }

  get config(): UniMedVLConfig {
    return this.checkpoint.config;
  }

  /** The autoencoder's encoder, if it was needed; there is none where latents are pixels. */
  get encoder(): Autoencoder | undefined {
    return this.#halves.encoder;
  }

  /** The autoencoder's decoder, if it was needed; there is none where latents are pixels. */
  get decoder(): Autoencoder | undefined {
    return this.#halves.decoder;
  }

  /** The layer stream, when decoder layers do not stay on the device. */
  get stream(): LayerStream | undefined {
    return this.model.layers as LayerStream | undefined;
  }

  /**
   * Loads what is not loaded yet.
   *
   * @throws {InputError} If the folder lacks the part, listing the tensors
   * @throws {ResourceError} If it does not fit the memory budget, naming the budget that would do
   */
  async need(parts: readonly Part[], work: LoadWork = {}): Promise<void> {
    const pixels = this.config.latent.kind === "pixels";
    const fresh = parts.filter((part) =>
      !this.#loaded.has(part) && !(pixels && (part === "encoder" || part === "decoder"))
    );
    if (fresh.length === 0) return;
    await this.#checkPresent(fresh);
    const wanted = this.#tensorsOf(fresh);
    if (!this.#loaded.size) wanted.unshift(...this.#embeddings());
    const vae = fresh.filter((part) =>
      part === "encoder" || part === "decoder"
    ) as AutoencoderHalf[];
    const vaeTensors = this.#vaeTensors(vae);
    const vaeBytes = vaeTensors.reduce((n, t) => n + 4 * t.shape.reduce((a, b) => a * b, 1), 0);
    const stay = this.#fit(wanted, vaeBytes, work);

    const total = stay.reduce((n, t) => n + t.bytes, 0) +
      vaeTensors.reduce((n, t) => n + t.bytes, 0);
    let done = 0;
    work.onProgress?.(0, total);
    for (const stored of stay) {
      work.signal?.throwIfAborted();
      const tensor = await uploadTensor(this.gpu, this.checkpoint, stored, {
        ...(work.signal ? { signal: work.signal } : {}),
        onBytes: (bytes) => work.onProgress?.(done += bytes, total),
      });
      this.model.parameters.add(stored.ours, tensor, false);
    }
    if (this.lora) placeLora(this.gpu, this.model.parameters, this.lora);
    for (const half of vae) {
      this.#halves[half] = await uploadAutoencoder(this.gpu, this.checkpoint, half, {
        ...(work.signal ? { signal: work.signal } : {}),
        onTensor: (bytes) => work.onProgress?.(done += bytes, total),
      });
    }
    await this.gpu.settle();
    for (const part of fresh) this.#loaded.add(part);
  }

  /** Gives everything back and closes the files. */
  dispose(): void {
    this.model.dispose();
    for (const half of Object.values(this.#halves)) half.dispose();
    this.checkpoint.close();
  }

  /** Names the tensors that a needed part lacks. */
  async #checkPresent(parts: readonly Part[]): Promise<void> {
    const prefixes = [
      "text.embed.",
      ...parts.flatMap((part) => part in PREFIXES ? PREFIXES[part as "und"] : []),
    ];
    const lacks = [...parameterShapes(this.config).keys()].some((name) =>
      prefixes.some((prefix) => name.startsWith(prefix)) && !this.checkpoint.tensors.has(name)
    );
    const vae = parts.some((part) => part === "encoder" || part === "decoder");
    const whole = this.#autoencoderComplete();
    if (!lacks && !(vae && !whole)) return;
    const need = [...prefixes.map((prefix) => prefix.slice(0, -1)), ...(vae ? ["vae"] : [])];
    (await openCheckpoint(this.dir, { need })).close(); // throws, with the list
    throw new InputError(`Cannot use ${this.dir}: it lacks weights of ${parts.join(", ")}`);
  }

  #autoencoderComplete(): boolean {
    return this.config.latent.kind === "pixels" || this.checkpoint.autoencoder !== undefined;
  }

  #tensorsOf(parts: readonly Part[]): StoredTensor[] {
    const prefixes = parts.flatMap((part) => part in PREFIXES ? PREFIXES[part as "und"] : []);
    return [...this.checkpoint.tensors.values()]
      .filter(({ ours }) => prefixes.some((prefix) => ours.startsWith(prefix)));
  }

  #vaeTensors(parts: readonly AutoencoderHalf[]): StoredTensor[] {
    return [...this.checkpoint.autoencoder?.values() ?? []]
      .filter(({ ours }) => parts.some((part) => ours.startsWith(`${part}.`)));
  }

  /** The token table if it is small; otherwise it is read row by row. */
  #embeddings(): StoredTensor[] {
    const table = this.checkpoint.tensors.get(EMBEDDINGS)!;
    if (table.bytes <= SMALL_TABLE) return [table];
    this.model.readEmbeddings = rowReader(this.checkpoint, table);
    return [];
  }

  /**
   * The tensors that stay on the device. If they do not fit, decoder layers are streamed, also those that
   * were loaded before.
   */
  #fit(wanted: StoredTensor[], vaeBytes: number, work: LoadWork): StoredTensor[] {
    const { budgetBytes, liveBytes } = this.gpu.buffers;
    const isLayer = ({ ours }: StoredTensor) => /^(und|gen)\.layers\./.test(ours);
    const sum = (tensors: StoredTensor[]) => tensors.reduce((n, t) => n + deviceBytes(t), 0);
    const layers = wanted.filter(isLayer);
    const others = wanted.filter((t) => !isLayer(t));
    const largest = Math.max(0, ...wanted.map(deviceBytes)); // some kernels read a copy of a weight
    const working = this.workingBytes ??
      (work.workingBytes ?? WORKING_BYTES) + Math.min(this.gpu.maxBindingBytes, largest);
    const adapters = this.#loaded.size > 0 ? 0 : this.lora?.info.bytes ?? 0;
    const fixed = liveBytes + sum(others) + vaeBytes + adapters + working;
    if (!this.model.layers && fixed + sum(layers) <= budgetBytes) return wanted;

    const resident = [...this.model.parameters.entries()].filter(([name]) =>
      /^(und|gen)\.layers\./.test(name)
    );
    const held = resident.reduce((n, [, t]) => n + t.buffer.sizeBytes, 0);
    const every = [...this.checkpoint.tensors.values()].filter((t) =>
      isLayer(t) && (layers.includes(t) || resident.some(([name]) => name === t.ours))
    );
    const streamed = this.model.layers
      ? [...this.checkpoint.tensors.values()].filter(isLayer)
      : every;
    const perLayer = sum(streamed) / this.config.language.numHiddenLayers;
    const least = fixed - held + 2 * perLayer;
    const whole = fixed - held + sum(streamed);
    if (least > budgetBytes) {
      const streaming = least < whole
        ? `, ${formatBytes(least)} with decoder layers streamed from disk`
        : "";
      throw new ResourceError(
        `Cannot load ${this.dir}: with caches and activations it takes ${
          formatBytes(whole)
        } of device ` +
          `memory${streaming}; the budget is ${formatBytes(budgetBytes)}`,
        {
          help: `give --budget ${gigabytes(whole)}` +
            (least < whole ? `, or --budget ${gigabytes(least)} to stream` : "") +
            "; fewer or smaller images, a smaller --size or a quantized folder take less",
        },
      );
    }
    for (const [name] of resident) {
      this.model.parameters.remove(name);
      for (const own of Object.values(loraNames(name.replace(/\.weight$/, "")))) {
        if (this.model.parameters.find(own)) this.model.parameters.remove(own);
      }
    }
    this.gpu.buffers.trim();
    this.model.layers ??= new LayerStream(this.gpu, this.checkpoint, this.lora);
    work.onNote?.(
      `with caches and activations the model takes ${formatBytes(whole)}, the budget is ` +
        `${formatBytes(budgetBytes)}: ${
          formatBytes(sum(streamed))
        } of decoder layers are read from ` +
        `disk in every pass, at 1 GB/s about ${(sum(streamed) / 1e9).toFixed(1)} s per token or ` +
        "drawing step",
    );
    return others;
  }
}

/**
 * Opens a model folder: headers and tokenizer are read, weights when they are needed.
 *
 * @param path a released or quantized folder, one written here, or a run, whose newest checkpoint it is
 * @param options `workingBytes`: device memory that weights leave to activations; default: what the verb needs.
 *   `lora`: an adapter written by `saveLora`, which the model answers and draws with; the folder stays as it is
 * @throws {InputError} If the folder is no model, its config is wrong, it has no tokenizer, or the adapter is of
 *   another model
 */
export async function openModel(
  gpu: Gpu,
  path: string,
  options: { workingBytes?: number; lora?: string } = {},
): Promise<OpenModel> {
  const dir = await modelFolder(path);
  await refuseNoFolder(dir);
  const tokenizer = await openTokenizer(dir);
  const defaults = await readDefaults(dir);
  const lora = options.lora === undefined ? undefined : await readLora(options.lora);
  const { checkpoint } = await surveyCheckpoint(dir);
  const { vocabSize } = checkpoint.config.language;
  if (tokenizer.size > vocabSize) {
    checkpoint.close();
    throw new InputError(
      `Cannot open ${dir}: its tokenizer has ${tokenizer.size} tokens, the token table ${vocabSize}`,
      { help: "use the tokenizer files that belong to these weights" },
    );
  }
  if (lora) {
    try {
      const digest = () => checkpointDigest(checkpoint, lora.info.layers);
      await checkBase(lora, checkpoint.tensors, digest, dir);
    } catch (error) {
      checkpoint.close();
      throw error;
    }
  }
  const model = new UniMedVL(gpu, checkpoint.config, new Parameters());
  const { workingBytes } = options;
  return new OpenModel(gpu, dir, checkpoint, tokenizer, model, defaults, workingBytes, lora);
}

/** @throws {InputError} If there is no such folder */
async function refuseNoFolder(dir: string): Promise<void> {
  let what: string;
  try {
    if ((await Deno.stat(dir)).isDirectory) return;
    what = "it is a file";
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory)) {
      throw cause;
    }
    what = "there is no such folder";
  }
  throw new InputError(`Cannot open model ${dir}: ${what}`, {
    help: "give the folder with config, tokenizer and weights; experiments/tiny is one",
  });
}
