// How a folder's tensors are shared out among files: shards of a few gigabytes with the index that hub tools read.

import { bytesOf, type OutTensor } from "./checkpoint_rows.ts";
import type { OutFile, SideFile } from "./checkpoint_write.ts";

/** Bytes of a shard, about. */
export const SHARD_BYTES = 4e9;

/** Shares tensors out in order: a shard ends before the tensor that would take it beyond `shardBytes`. */
export function shardFiles(
  tensors: readonly OutTensor[],
  shardBytes: number = SHARD_BYTES,
): OutFile[] {
  const shards: OutTensor[][] = [[]];
  let filled = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (filled > 0 && filled + bytes > shardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(tensor);
    filled += bytes;
  }
  const digits = (n: number) => String(n).padStart(5, "0");
  return shards.map((tensors, i) => ({
    name: shards.length === 1
      ? "model.safetensors"
      : `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`,
    tensors,
  }));
}

/** The index of several shards; none for one file. */
export function shardIndex(files: readonly OutFile[]): SideFile[] {
  if (files.length < 2) return [];
  let size = 0;
  const map: Record<string, string> = {};
  for (const { name, tensors } of files) {
    for (const tensor of tensors) {
      size += bytesOf(tensor);
      map[tensor.name] = name;
    }
  }
  const text = JSON.stringify({ metadata: { total_size: size }, weight_map: map }, null, 2) + "\n";
  return [{ name: "model.safetensors.index.json", text }];
}
