// Reads a file's tensors back in groups as they are written: each read waits for the device, so that hundreds of small
// ones, one at a time, take seconds a save.

import { bytesOf, type Tensor } from "../tensor.ts";
import { inFileOrder, type TensorEntry } from "../train/checkpoint/snapshot.ts";

/** Most bytes of a group of more than one tensor: what is in host memory at a time. */
const GROUP_BYTES = 8 * 2 ** 20;

/** A tensor under its name in the file. */
export interface Saved {
  name: string;
  dtype: TensorEntry["dtype"];
  tensor: Tensor;
}

/**
 * Entries of one file. Reading one reads those that follow it in the file as well, up to 8 MiB; they are kept until
 * their turn.
 */
export function groupedEntries(tensors: readonly Saved[]): TensorEntry[] {
  const ordered = inFileOrder(tensors);
  const ahead = new Map<number, Uint8Array>();
  const read = async (at: number): Promise<Uint8Array> => {
    const kept = ahead.get(at);
    if (kept) {
      ahead.delete(at);
      return kept;
    }
    let [end, total] = [at, 0];
    while (end < ordered.length && (end === at || total + sizeOf(ordered[end]) <= GROUP_BYTES)) {
      total += sizeOf(ordered[end++]);
    }
    const { gpu } = ordered[at].tensor;
    const group = ordered.slice(at, end);
    const values = await gpu.read(
      group.map((each) => ({ buffer: each.tensor.buffer, sizeBytes: sizeOf(each) })),
    );
    values.forEach((value, i) => i > 0 && ahead.set(at + i, new Uint8Array(value)));
    return new Uint8Array(values[0]);
  };
  return ordered.map(({ name, dtype, tensor: { shape } }, at) => ({
    name,
    shape,
    dtype,
    read: () => read(at),
  }));
}

const sizeOf = ({ dtype, tensor }: Saved) =>
  dtype === "F32" ? bytesOf(tensor.shape, "f32") : 2 * tensor.size;
