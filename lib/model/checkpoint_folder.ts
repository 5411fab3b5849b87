// A folder with a model: config, weights under the reference's names, each tensor read from its file by range
// when it is wanted. Released folders (one file or shards, bf16, f16 or f32), quantized ones, and those written
// here from small models.

import { bf16ToFloat32, f16ToFloat32 } from "../data/half.ts";
import { sinCosTable } from "../data/position_tables.ts";
import { openSafetensors, type Safetensors } from "../data/safetensors.ts";
import { InputError } from "../errors.ts";
import { type PackedFormat, unpackRows } from "../packed_layout.ts";
import { autoencoderShapes } from "./autoencoder_shapes.ts";
import { collectTensors, type FoundTensor } from "./checkpoint_collect.ts";
import { AUTOENCODER_FILE, findWeights } from "./checkpoint_files.ts";
import { compareTensors, type Differences, fitConfig } from "./checkpoint_fit.ts";
import type { UniMedVLConfig } from "./config.ts";
import { readConfig } from "./read_config.ts";
import { parameterShapes } from "./shapes.ts";
import { FROZEN, nameInReference } from "./weights.ts";

/** How a tensor is stored. */
export type StoredDtype = "F32" | "F16" | "BF16" | PackedFormat;

/** A stored tensor of a checkpoint, wherever it lies. */
export interface StoredTensor {
  /** Name in the file. */
  name: string;
  /** Our name; of the autoencoder's tensors the reference's, without `vae_model.`. */
  ours: string;
  /** Undefined for a position table that the files lack: it is computed when it is read. */
  file: Safetensors | undefined;
  dtype: StoredDtype;
  /** Logical shape, for packed tensors too. */
  shape: number[];
  /** Bytes as stored. */
  bytes: number;
}

/** Whether and how an opened folder differs from what its config asks for. */
export interface Survey {
  checkpoint: Checkpoint;
  /** Of the model and its autoencoder; tensors that differ are in no map of the checkpoint. */
  differences: Differences;
}

/** An opened checkpoint folder. {@link Checkpoint.close} it when done. */
export class Checkpoint {
  constructor(
    readonly dir: string,
    /** Depths and table sizes are the files'. */
    readonly config: UniMedVLConfig,
    /** By our names, in the order of a forward pass. */
    readonly tensors: ReadonlyMap<string, StoredTensor>,
    /** By the reference's names; undefined if there is none or it was not asked for. */
    readonly autoencoder: ReadonlyMap<string, StoredTensor> | undefined,
    /** Names in the files that are none of the model's. */
    readonly surplus: string[],
    /** Names of the files that were opened. */
    readonly files: string[],
    /** What a user may want to know: values that the files overruled, files passed over. */
    readonly notes: string[],
    private readonly opened: readonly Safetensors[],
  ) {}

  /**
   * Bytes `beginByte` to `endByte` of a tensor as it is stored, all of them by default. Reads may overlap.
   *
   * @param into where they go, of exactly that length; default: fresh memory
   * @throws {RangeError} If the range leaves the tensor
   */
  async readBytes(
    tensor: StoredTensor,
    beginByte = 0,
    endByte: number = tensor.bytes,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    const { file, name } = tensor;
    if (file) {
      if (into) return await file.readRange(name, beginByte, endByte, into);
      return await file.readRange(name, beginByte, endByte);
    }
    if (beginByte < 0 || beginByte > endByte || endByte > tensor.bytes) {
      throw new RangeError(
        `Cannot read bytes ${beginByte} to ${endByte} of ${name}: it has ${tensor.bytes}`,
      );
    }
    const bytes = new Uint8Array(derived(tensor).buffer).subarray(beginByte, endByte);
    if (into === undefined) return bytes;
    into.set(bytes);
    return into;
  }

  /** A tensor's numbers, whatever its dtype; packed ones are unpacked. */
  async readFloat32(tensor: StoredTensor): Promise<Float32Array<ArrayBuffer>> {
    const { file, name } = tensor;
    return file ? this.toFloat32(tensor, await file.read(name)) : derived(tensor);
  }

  /** The numbers of whole rows of a tensor, from their bytes as stored. */
  toFloat32({ dtype, shape }: StoredTensor, bytes: Uint8Array): Float32Array<ArrayBuffer> {
    if (bytes.byteOffset % 4 !== 0) bytes = bytes.slice();
    if (dtype === "int8" || dtype === "int4") return unpackRows(bytes, shape[1], dtype);
    const buffer = bytes.buffer as ArrayBuffer;
    if (dtype === "F32") return new Float32Array(buffer, bytes.byteOffset, bytes.length / 4);
    const bits = new Uint16Array(buffer, bytes.byteOffset, bytes.length / 2);
    return dtype === "F16" ? f16ToFloat32(bits) : bf16ToFloat32(bits);
  }

  /** The surplus tensors with their shapes, `foo.bar (3, 4)`. */
  surplusTexts(): string[] {
    return this.surplus.map((name) => {
      const info = this.opened.find(({ tensors }) => tensors.has(name))?.tensors.get(name);
      return info ? `${name} (${info.shape.join(", ")})` : name;
    });
  }

  close(): void {
    for (const file of this.opened) file.close();
  }
}

const derived = ({ shape }: StoredTensor) => sinCosTable(Math.sqrt(shape[0]), shape[1]);

/** What must be there: everything, or the tensors under some of our names, such as `["text", "und", "vit"]`. */
export type Need = "all" | readonly string[];

const PARTS = ["text", "und", "gen", "vit", "connector", "latent", "vae"];

/**
 * Opens a folder: reads config and headers, checks names and shapes; no weight is read.
 *
 * @param dir folder with the config files and weights of reference-model.md §7, a quantized one, or one with
 *   `config.json` of kind `oka`
 * @param options `need`: what must be there; default all. `vae` stands for the autoencoder, which is not
 *   even opened unless it is needed
 * @throws {InputError} If the folder cannot be read, or listing the needed tensors that are missing and all that
 *   have another shape or are no floats
 */
export async function openCheckpoint(
  dir: string,
  options: { need?: Need } = {},
): Promise<Checkpoint> {
  const { checkpoint, differences } = await surveyCheckpoint(dir, options.need);
  const said = describe(differences);
  if (said === "") return checkpoint;
  checkpoint.close();
  throw new InputError(`Cannot open checkpoint ${dir}: ${said}`, {
    help: `\`deno task checkpoint verify ${dir}\` lists everything that differs`,
  });
}

const LISTED = 12;

/** `2 tensors are missing: a (3), b (4); …`, or nothing. */
function describe({ missing, misshapen, unreadable }: Differences): string {
  const part = (items: string[], one: string, many: string) => {
    if (items.length === 0) return [];
    const more = items.length > LISTED ? `; and ${items.length - LISTED} more` : "";
    const what = items.length === 1 ? `1 tensor ${one}` : `${items.length} tensors ${many}`;
    return [`${what}: ${items.slice(0, LISTED).join("; ")}${more}`];
  };
  return [
    ...part(missing, "is missing", "are missing"),
    ...part(misshapen, "has another shape", "have other shapes"),
    ...part(unreadable, "is no float", "are no floats"),
  ].join(". ");
}

/** As {@link openCheckpoint}, but differences are returned. */
export async function surveyCheckpoint(dir: string, need: Need = "all"): Promise<Survey> {
  const stray = need === "all"
    ? undefined
    : need.find((name) => !PARTS.includes(name.split(".")[0]));
  if (stray !== undefined) {
    throw new TypeError(`Cannot open only ${stray}: parts are ${PARTS.join(", ")}`);
  }
  const needed = (name: string) =>
    need === "all" || need.some((part) => name === part || name.startsWith(`${part}.`));
  const written = await readConfig(dir);
  const weights = await findWeights(dir);
  const opened = new Map<string, Safetensors>();
  try {
    for (const name of weights.files) opened.set(name, await openSafetensors(`${dir}/${name}`));
    const found = collectTensors(dir, opened, weights.index);
    const { vae } = found;
    const wantsVae = written.latent.kind === "autoencoder" && needed("vae");
    if (wantsVae && vae.size === 0 && weights.autoencoder) {
      const file = await openSafetensors(`${dir}/${AUTOENCODER_FILE}`);
      opened.set(AUTOENCODER_FILE, file);
      for (const [name, tensor] of collectTensors(dir, new Map([[AUTOENCODER_FILE, file]])).vae) {
        vae.set(name, tensor);
      }
    }
    const stored = new Map([...found.model].map(([name, { shape }]) => [name, shape]));
    const { config, notes } = fitConfig(written, stored, dir);
    if (weights.unused.length > 0) {
      notes.push(`not used: ${weights.unused.join(", ")}; ${weights.files.join(", ")} came first`);
    }
    const shapes = parameterShapes(config);
    const differences = compareTensors(shapes, found.model, nameInReference, needed);
    const tensors = takeTensors(shapes, found.model);
    const surplus = [...found.surplus];
    for (const [ours, { name }] of found.model) if (!shapes.has(ours)) surplus.push(name);

    let autoencoder: Map<string, StoredTensor> | undefined;
    const vaeShapes = config.latent.kind === "autoencoder"
      ? autoencoderShapes(config.latent.autoencoder)
      : new Map<string, number[]>();
    for (const [ours, { name }] of vae) if (!vaeShapes.has(ours)) surplus.push(name);
    if (wantsVae) {
      const wrong = compareTensors(vaeShapes, vae, (name) => `vae_model.${name}`, () => true);
      for (const kind of ["missing", "misshapen", "unreadable"] as const) {
        differences[kind].push(...wrong[kind]);
      }
      autoencoder = vae.size > 0 ? takeTensors(vaeShapes, vae) : undefined;
    }
    const files = [...opened.keys()];
    const all = [...opened.values()];
    const checkpoint = new Checkpoint(
      dir,
      config,
      tensors,
      autoencoder,
      surplus,
      files,
      notes,
      all,
    );
    return { checkpoint, differences };
  } catch (error) {
    for (const file of opened.values()) file.close();
    throw error;
  }
}

const FLOATS: readonly string[] = ["F32", "F16", "BF16", "int8", "int4"] satisfies StoredDtype[];

/** The tensors that fit, in the order of the shapes; position tables that are absent are added as computed. */
function takeTensors(
  shapes: ReadonlyMap<string, number[]>,
  found: ReadonlyMap<string, FoundTensor>,
): Map<string, StoredTensor> {
  const taken = new Map<string, StoredTensor>();
  for (const [ours, shape] of shapes) {
    const tensor = found.get(ours);
    if (tensor && tensor.shape.join() === shape.join() && FLOATS.includes(tensor.dtype)) {
      taken.set(ours, { ...tensor, dtype: tensor.dtype as StoredDtype });
    } else if (!tensor && FROZEN.has(ours)) {
      const bytes = 4 * shape[0] * shape[1];
      taken.set(ours, {
        name: nameInReference(ours),
        ours,
        file: undefined,
        dtype: "F32",
        shape,
        bytes,
      });
    }
  }
  return taken;
}
