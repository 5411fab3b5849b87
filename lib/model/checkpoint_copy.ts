// A folder made from another one: its tensors as they were or changed, the autoencoder as it was, and what travels
// along.

import { fileReason } from "../data/jsonl.ts";
import { InputError } from "../errors.ts";
import { AUTOENCODER_FILE } from "./checkpoint_files.ts";
import type { Checkpoint, StoredTensor } from "./checkpoint_folder.ts";
import { type OutTensor, sourceRowBytes } from "./checkpoint_rows.ts";
import { shardFiles, shardIndex } from "./checkpoint_shards.ts";
import type { OutFile, SideFile } from "./checkpoint_write.ts";

/** A tensor of a folder on its way into another one. */
export function outTensor(
  checkpoint: Checkpoint,
  tensor: StoredTensor,
  name: string,
  stored: OutTensor["stored"],
): OutTensor {
  const read = async (first: number, into: Uint8Array<ArrayBuffer>) => {
    const begin = first * sourceRowBytes(out);
    await checkpoint.readBytes(tensor, begin, begin + into.length, into);
  };
  const out: OutTensor = {
    name,
    shape: tensor.shape,
    stored,
    source: { dtype: tensor.dtype, read },
  };
  return out;
}

/** The files of a folder that is made from another one. */
export interface FolderFiles {
  files: OutFile[];
  side: SideFile[];
  /** What tells the files that it is made from, from others: see `WriteOptions.identity`. */
  sources: (string | number)[][];
}

/**
 * Shares the model's tensors out among files and adds what goes along unchanged: the autoencoder, configs, tokenizer,
 * licence, the index of shards.
 *
 * @param tensors of the model
 * @throws {InputError} If a file of the folder cannot be looked at
 */
export async function folderOf(
  checkpoint: Checkpoint,
  tensors: readonly OutTensor[],
  shardBytes?: number,
): Promise<FolderFiles> {
  const { dir } = checkpoint;
  const files = shardFiles(tensors, shardBytes);
  const side = [...await copies(dir), ...shardIndex(files)];
  const vae = [...checkpoint.autoencoder?.values() ?? []];
  if (checkpoint.files.includes(AUTOENCODER_FILE)) {
    side.push(await copyOf(dir, AUTOENCODER_FILE));
  } else if (vae.length > 0) {
    const own = vae.map((t) => outTensor(checkpoint, t, t.ours, t.dtype));
    files.push({ name: AUTOENCODER_FILE, tensors: own });
  }
  const copied = side.flatMap((f) => "copyOf" in f ? f.name : []);
  const names = [...new Set([...checkpoint.files, ...copied])];
  const sources = await Promise.all(names.map((name) => fingerprint(dir, name)));
  return { files, side, sources };
}

/** What travels along: configs, tokenizer, licence. */
const COPIED =
  /^(?!.*\.index\.json$)(?!quantization\.json$)(.*\.(json|txt|md|jinja)|LICEN[CS]E.*|NOTICE.*)$/;
const MOST_COPIED_BYTES = 64e6;

async function copies(dir: string): Promise<SideFile[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    if (!isDirectory && COPIED.test(name)) names.push(name);
  }
  const found = await Promise.all(names.sort().map((name) => copyOf(dir, name)));
  return found.filter(({ bytes }) => bytes <= MOST_COPIED_BYTES);
}

async function copyOf(dir: string, name: string): Promise<SideFile & { bytes: number }> {
  const { size } = await Deno.stat(`${dir}/${name}`);
  return { name, copyOf: `${dir}/${name}`, bytes: size };
}

/** What tells a source file from another: hashing all of them would take as long as quantizing. */
async function fingerprint(dir: string, name: string): Promise<(string | number)[]> {
  try {
    const { size, mtime } = await Deno.stat(`${dir}/${name}`);
    return [name, size, mtime?.getTime() ?? 0];
  } catch (cause) {
    throw new InputError(`Cannot read ${dir}/${name}: ${fileReason(cause)}`, { cause });
  }
}
