// A checkpoint folder of a model's real shapes with random weights, to try what needs no meaning: memory, time,
// formats. Written about as fast as the disk takes it: normal numbers are drawn once, four million of them, and
// every tensor is a run through them from a start of its own, so that values recur while rows and tensors differ.

import { Draws } from "../data/draws.ts";
import { float32ToBf16, float32ToF16 } from "../data/half.ts";
import { sinCosTable } from "../data/position_tables.ts";
import { UsageError } from "../errors.ts";
import { GROUP, type PackedFormat } from "../packed_layout.ts";
import { autoencoderShapes } from "./autoencoder_shapes.ts";
import { choosePacked } from "./checkpoint_choice.ts";
import { AUTOENCODER_FILE } from "./checkpoint_files.ts";
import { FLOAT_BYTES, type FloatDtype, type OutTensor, rowsOf } from "./checkpoint_rows.ts";
import { shardFiles, shardIndex } from "./checkpoint_shards.ts";
import { type SideFile, writeFolder, type WriteOptions } from "./checkpoint_write.ts";
import { checkConfig, type UniMedVLConfig } from "./config.ts";
import { configFiles } from "./reference_config.ts";
import { parameterShapes } from "./shapes.ts";
import { FROZEN, nameInReference } from "./weights.ts";

/** How a folder is made up. */
export interface SynthOptions extends Omit<WriteOptions, "identity"> {
  seed: number;
  /** Of the decoder, encoder and glue. Default: BF16. */
  dtype?: FloatDtype;
  /** Pack the matrices that {@link choosePacked} takes, as quantizing would. */
  to?: PackedFormat | undefined;
  /** Folder to copy tokenizer files from: other commands need a tokenizer, weights do not. */
  tokenizer?: string | undefined;
  /** Bytes of a file, about. Default: 4 GB. */
  shardBytes?: number;
  /** Normal numbers drawn, a prime number. Default: 4 194 301. */
  drawn?: number;
}

/** The largest prime below 2²²: no row length divides it, so that rows begin at different places. */
const DRAWN = 4_194_301;
/** Standard deviation of matrices and tables, as in the reference's training. */
const DEVIATION = 0.02;

/**
 * Writes a folder with random weights: linear layers and tables N(0, 0.02²), norms 1, biases 0, position tables
 * exact, the autoencoder's convolutions N(0, 1/inputs) in f32. Config files are those of a released folder where
 * the reference knows the model. An unfinished `<out>.partial` of the same settings is gone on with.
 *
 * @returns bytes of all files
 * @throws {UsageError} If the config does not fit together, `out` exists, or the tokenizer's folder has none
 * @throws {ResourceError} If the disk has too little space or writing fails
 */
export async function synthCheckpoint(
  config: UniMedVLConfig,
  out: string,
  options: SynthOptions,
): Promise<number> {
  checkConfig(config);
  const { seed, dtype = "BF16", to, drawn = DRAWN } = options;
  const noise = new Noise(seed, drawn);
  const shapes = parameterShapes(config);
  const packed = to ? choosePacked([...shapes.keys()], {}) : new Set<string>();
  const tensors = [...shapes].map(([ours, shape]): OutTensor => ({
    name: nameInReference(ours),
    shape,
    stored: to && packed.has(ours) ? to : to ? "BF16" : dtype,
    source: { dtype: to ? "BF16" : dtype, read: reader(noise, ours, shape, to ? "BF16" : dtype) },
  }));
  const files = shardFiles(tensors, options.shardBytes);
  const side: SideFile[] = [...configFiles(config)].map(([name, text]) => ({ name, text }));
  side.push(...shardIndex(files));
  if (options.tokenizer !== undefined) side.push(...await tokenizerFiles(options.tokenizer));
  if (config.latent.kind === "autoencoder") {
    const convolutions = [...autoencoderShapes(config.latent.autoencoder)];
    files.push({
      name: AUTOENCODER_FILE,
      tensors: convolutions.map(([name, shape]): OutTensor => ({
        name,
        shape,
        stored: "F32",
        source: { dtype: "F32", read: reader(noise, `vae.${name}`, shape, "F32") },
      })),
    });
  }
  const identity = JSON.stringify(["synth", seed, drawn, dtype, to ?? null, GROUP]);
  const { bytes } = await writeFolder(out, files, side, () => [], { ...options, identity });
  return bytes;
}

/** Fills blocks with a tensor's rows. */
function reader(
  noise: Noise,
  name: string,
  shape: readonly number[],
  dtype: FloatDtype,
): OutTensor["source"]["read"] {
  const { columns } = rowsOf(shape);
  if (FROZEN.has(name)) {
    let table: Uint8Array | undefined; // made when its turn comes
    return (first, into) => {
      table ??= encode(sinCosTable(Math.sqrt(shape[0]), columns), dtype);
      const begin = first * columns * FLOAT_BYTES[dtype];
      into.set(table.subarray(begin, begin + into.length));
      if (begin + into.length === table.length) table = undefined;
    };
  }
  if (shape.length === 1) {
    const value = name.endsWith(".bias") ? 0 : 1; // what has one axis is a bias or a norm
    return (_, into) => into.set(encode(new Float32Array(columns).fill(value), dtype));
  }
  const deviation = shape.length === 4 ? 1 / Math.sqrt(columns) : DEVIATION;
  const block = noise.block(deviation, dtype);
  const start = noise.start(name);
  return (first, into) => block().fill(into, start + first * columns);
}

/** Normal numbers of one seed, repeated without end. */
class Noise {
  readonly #values: Float32Array;
  readonly #blocks = new Map<string, Cycle>();

  constructor(private readonly seed: number, drawn: number) {
    const draws = new Draws("synth", seed);
    this.#values = Float32Array.from({ length: drawn }, () => draws.normal());
  }

  /** Where a tensor begins. */
  start(name: string): number {
    return new Draws("synth start", this.seed, name).below(this.#values.length);
  }

  /** The numbers times a deviation, as they are stored; made once, when first asked for. */
  block(deviation: number, dtype: FloatDtype): () => Cycle {
    const key = `${dtype} ${deviation}`;
    return () => {
      const known = this.#blocks.get(key);
      if (known) return known;
      if (this.#blocks.size === 2) this.#blocks.clear(); // an autoencoder has many deviations
      const bytes = encode(this.#values.map((value) => deviation * value), dtype);
      const made = new Cycle(bytes, FLOAT_BYTES[dtype]);
      this.#blocks.set(key, made);
      return made;
    };
  }
}

/** Bytes of numbers that follow each other in a circle. */
class Cycle {
  constructor(private readonly bytes: Uint8Array, private readonly size: number) {}

  fill(into: Uint8Array, start: number): void {
    let from = (start * this.size) % this.bytes.length;
    for (let at = 0; at < into.length;) {
      const n = Math.min(into.length - at, this.bytes.length - from);
      into.set(this.bytes.subarray(from, from + n), at);
      at += n;
      from = (from + n) % this.bytes.length;
    }
  }
}

function encode(values: Float32Array<ArrayBuffer>, dtype: FloatDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(values.buffer);
  return new Uint8Array((dtype === "F16" ? float32ToF16(values) : float32ToBf16(values)).buffer);
}

const TOKENIZER = [
  "tokenizer.json",
  "vocab.json",
  "merges.txt",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "words.json",
];

async function tokenizerFiles(dir: string): Promise<SideFile[]> {
  const found: SideFile[] = [];
  for (const name of TOKENIZER) {
    try {
      found.push({
        name,
        copyOf: `${dir}/${name}`,
        bytes: (await Deno.stat(`${dir}/${name}`)).size,
      });
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
  const names = found.map(({ name }) => name);
  const whole = names.includes("tokenizer.json") || names.includes("words.json") ||
    names.includes("vocab.json") && names.includes("merges.txt");
  if (whole) return found;
  throw new UsageError(
    `Cannot take a tokenizer from ${dir}: it has ${names.join(", ") || "none"}`,
    {
      help: "give a folder with tokenizer.json, with vocab.json and merges.txt, or with words.json",
    },
  );
}
