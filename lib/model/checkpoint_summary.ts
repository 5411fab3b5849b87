// What a checkpoint holds, part by part: parameters, bytes and dtypes.

import type { Checkpoint, StoredDtype, StoredTensor } from "./checkpoint_folder.ts";

/** A part of a model. */
export interface PartSummary {
  part: string;
  tensors: number;
  parameters: number;
  /** As stored. */
  bytes: number;
  /** Dtype → tensors stored so. */
  dtypes: Partial<Record<StoredDtype, number>>;
}

/** The parts, in the order in which they are listed. */
export const PARTS = [
  "text.embed",
  "text.head",
  "und",
  "gen",
  "vit",
  "connector",
  "latent",
  "vae",
] as const;

/** The part a parameter belongs to, by our name. */
export function partOf(name: string): string {
  const [first, second] = name.split(".");
  return first === "text" ? `${first}.${second}` : first;
}

/** Sums up the parts that have tensors; position tables that the files lack are not counted. */
export function summarize(checkpoint: Pick<Checkpoint, "tensors" | "autoencoder">): PartSummary[] {
  const parts = new Map<string, PartSummary>();
  const add = (part: string, tensor: StoredTensor) => {
    if (!tensor.file) return;
    const sum = parts.get(part) ?? { part, tensors: 0, parameters: 0, bytes: 0, dtypes: {} };
    sum.tensors++;
    sum.parameters += tensor.shape.reduce((n, d) => n * d, 1);
    sum.bytes += tensor.bytes;
    sum.dtypes[tensor.dtype] = (sum.dtypes[tensor.dtype] ?? 0) + 1;
    parts.set(part, sum);
  };
  for (const [name, tensor] of checkpoint.tensors) add(partOf(name), tensor);
  for (const tensor of checkpoint.autoencoder?.values() ?? []) add("vae", tensor);
  return PARTS.flatMap((part) => parts.get(part) ?? []);
}
