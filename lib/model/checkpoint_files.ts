// Which files of a folder hold a model's weights, by the names that releases use: one file, or shards that an
// index lists. Formats that run code when they are read are refused.

import { fileReason } from "../data/jsonl.ts";
import { parseStrictJson, type StrictJson } from "../data/strict_json.ts";
import { InputError } from "../errors.ts";

/** The weight files of a folder. */
export interface WeightFiles {
  /** File names, in order; each holds tensors of the model. */
  files: string[];
  /** From an index: tensor name → file name. */
  index: ReadonlyMap<string, string> | undefined;
  /** True if the autoencoder's own file is there. */
  autoencoder: boolean;
  /** Files with names of weights, which the order of names passes over. */
  unused: string[];
}

/** The autoencoder's own file in a released folder. */
export const AUTOENCODER_FILE = "ae.safetensors";

/** A LoRA adapter in a checkpoint of its training, and the newest in the run's folder. */
export const ADAPTER_FILE = "adapter.safetensors";

/** Names that are taken before others, first one first. */
const STEMS = ["ema_bf16", "ema", "model_bf16", "model"];

const INDEX = ".safetensors.index.json";
const SHARD = /^(.+)-(\d{5})-of-(\d{5})\.safetensors$/;
const PICKLES = /\.(bin|pt|pth|ckpt|pkl|pickle)$/;
const MAX_INDEX_BYTES = 100_000_000;

/**
 * Finds the weights in a folder: `ema_bf16`, `ema`, `model_bf16` or `model`, in this order, each as one
 * `.safetensors` file or as shards with `.safetensors.index.json`; else the only other index, else the only other
 * `model*.safetensors`.
 *
 * @throws {InputError} If the folder cannot be read, holds no weights or several that none of these rules
 *   chooses from, or its index is wrong
 */
export async function findWeights(dir: string): Promise<WeightFiles> {
  const names = await listFolder(dir);
  const autoencoder = names.has(AUTOENCODER_FILE);
  const found = (files: string[], index?: ReadonlyMap<string, string>): WeightFiles => ({
    files,
    index,
    autoencoder,
    unused: [...names].filter((name) =>
      /^(ema|model).*\.safetensors$/.test(name) && !files.includes(name)
    ).sort(),
  });
  const sharded = async (file: string) => {
    const index = await readIndex(`${dir}/${file}`);
    const files = [...new Set(index.values())].sort();
    const missing = files.filter((name) => !names.has(name));
    if (missing.length === 0) return found(files, index);
    throw new InputError(`Cannot open ${dir}: ${file} names ${missing.join(", ")}, not there`, {
      help: "get the missing shards, or the whole folder again",
    });
  };
  for (const stem of STEMS) {
    if (names.has(`${stem}.safetensors`)) return found([`${stem}.safetensors`]);
    if (names.has(stem + INDEX)) return await sharded(stem + INDEX);
  }
  const indexes = [...names].filter((name) => name.endsWith(INDEX)).sort();
  if (indexes.length === 1) return await sharded(indexes[0]);
  const others = [...names].filter((name) => /^model.*\.safetensors$/.test(name)).sort();
  if (indexes.length === 0 && others.length > 0) {
    if (others.length === 1 && !SHARD.test(others[0])) return found(others);
    return found(withoutIndex(dir, others));
  }
  throw noWeights(dir, names, indexes);
}

async function listFolder(dir: string): Promise<Set<string>> {
  const names = new Set<string>();
  try {
    for await (const entry of Deno.readDir(dir)) if (!entry.isDirectory) names.add(entry.name);
  } catch (cause) {
    throw new InputError(`Cannot open checkpoint folder ${dir}: ${fileReason(cause)}`, {
      cause,
      help: "give a folder with a model's config and .safetensors files",
    });
  }
  return names;
}

/** Shards that carry their count in their names need no index, if all are there. */
function withoutIndex(dir: string, files: string[]): string[] {
  const parts = files.map((name) => SHARD.exec(name));
  const [, stem, , count] = parts[0] ?? [];
  if (parts.some((part) => !part || part[1] !== stem || part[3] !== count)) {
    throw new InputError(`Cannot open ${dir}: ${files.join(", ")} could each be the weights`, {
      help: "keep one of them in the folder, or name the one to use model.safetensors",
    });
  }
  const wanted = Array.from({ length: Number(count) }, (_, i) => {
    return `${stem}-${String(i + 1).padStart(5, "0")}-of-${count}.safetensors`;
  });
  const missing = wanted.filter((name) => !files.includes(name));
  if (missing.length === 0 && files.length === wanted.length) return wanted;
  const said = missing.length > 0
    ? `${shortList(missing)} of ${wanted.length} shards ${
      missing.length > 1 ? "are" : "is"
    } missing`
    : `${shortList(files)} are no ${wanted.length} shards`;
  throw new InputError(`Cannot open ${dir}: ${said}`, {
    help: "get the missing shards, or the whole folder again",
  });
}

const shortList = (names: string[]) =>
  names.length > 4
    ? `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`
    : names.join(", ");

function noWeights(dir: string, names: Set<string>, indexes: string[]): InputError {
  if (indexes.length > 1) {
    return new InputError(`Cannot open ${dir}: it has ${indexes.length} indexes: ${indexes}`, {
      help: "keep the one of the weights to use",
    });
  }
  const pickles = [...names].filter((name) => PICKLES.test(name)).sort();
  if (pickles.length > 0) {
    return new InputError(`Cannot open ${dir}: its weights are ${shortList(pickles)}`, {
      help: "such files can run code when they are read and are never opened here; " +
        "get the .safetensors files, or convert them where you trust their origin",
    });
  }
  return new InputError(`Cannot open ${dir}: it holds no weights`, {
    help: `weights are ${STEMS.join(", ")}.safetensors, or shards with a${INDEX}`,
  });
}

/**
 * Reads an index: tensor name → file in the same folder.
 *
 * @throws {InputError} If it is no such index, names a tensor twice, or a file by more than a plain name. A link
 *   in the folder may lead out of it, as those of the hub's cache do; a name in a file from elsewhere may not.
 */
async function readIndex(path: string): Promise<Map<string, string>> {
  const fail = (what: string, cause?: unknown) =>
    new InputError(`Cannot read index ${path}: ${what}`, {
      help: "get the index again; it is damaged or of another format",
      ...(cause === undefined ? {} : { cause }),
    });
  let json: StrictJson;
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_INDEX_BYTES) throw fail(`it has ${size} bytes; at most ${MAX_INDEX_BYTES}`);
    json = parseStrictJson(await Deno.readTextFile(path));
  } catch (cause) {
    throw cause instanceof InputError ? cause : fail(fileReason(cause), cause);
  }
  const map = json instanceof Map ? json.get("weight_map") : undefined;
  if (!(map instanceof Map) || map.size === 0) throw fail("weight_map is no object with tensors");
  const index = new Map<string, string>();
  for (const [tensor, file] of map) {
    if (typeof file !== "string" || !/^[^/\\\0]+\.safetensors$/.test(file) || file.includes("..")) {
      const shown = (typeof file === "string" ? JSON.stringify(file) : "no text").slice(0, 80);
      throw fail(`the file of ${tensor} is ${shown}, not a name of a .safetensors file beside it`);
    }
    index.set(tensor, file);
  }
  return index;
}
