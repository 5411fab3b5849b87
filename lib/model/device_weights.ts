// Weights from a checkpoint to the device: matrices as they are stored (bf16, f16, int8, int4 or f32) to be
// unpacked where they are used, vectors as f32. Nothing is held whole on the host.

import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { bytesOf, type DType, Tensor } from "../tensor.ts";
import type { Checkpoint, StoredTensor } from "./checkpoint_folder.ts";

/** Bytes read and uploaded at a time. */
const CHUNK = 2 ** 25;

const STORED: Record<StoredTensor["dtype"], DType> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  int8: "int8",
  int4: "int4",
};

/** The dtype a stored tensor has on the device. */
export function deviceDtype({ dtype, shape }: StoredTensor): DType {
  return shape.length === 2 ? STORED[dtype] : "f32";
}

/** Bytes a stored tensor takes on the device. */
export function deviceBytes(stored: StoredTensor): number {
  return 256 * Math.ceil(bytesOf(stored.shape, deviceDtype(stored)) / 256);
}

/**
 * Uploads one tensor.
 *
 * @param work `onBytes` is called with the bytes of each piece that is on its way
 * @throws {ResourceError} If it does not fit the device's memory budget
 */
export async function uploadTensor(
  gpu: Gpu,
  checkpoint: Checkpoint,
  stored: StoredTensor,
  work: { signal?: AbortSignal; onBytes?: (bytes: number) => void } = {},
): Promise<Tensor> {
  const dtype = deviceDtype(stored);
  const tensor = Tensor.exact(gpu, stored.shape, dtype).keep();
  try {
    if (STORED[stored.dtype] !== dtype) {
      gpu.write(tensor.buffer, await checkpoint.readFloat32(stored));
      work.onBytes?.(stored.bytes);
      return tensor;
    }
    for (let at = 0; at < stored.bytes; at += CHUNK) {
      work.signal?.throwIfAborted();
      const end = Math.min(stored.bytes, at + CHUNK);
      gpu.write(tensor.buffer, await checkpoint.readBytes(stored, at, end), at);
      if (stored.bytes > CHUNK) await gpu.settle(); // or the queue holds every chunk at once
      work.onBytes?.(end - at);
    }
    return tensor;
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}

/** Rows of a matrix read from its file, as f32. */
export function rowReader(
  checkpoint: Checkpoint,
  stored: StoredTensor,
): (rows: ArrayLike<number>) => Promise<Float32Array> {
  const [count, columns] = stored.shape;
  const rowBytes = stored.bytes / count;
  return async (rows) => {
    const out = new Float32Array(rows.length * columns);
    const known = new Map<number, number>();
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i];
      const earlier = known.get(row);
      if (earlier !== undefined) {
        out.copyWithin(i * columns, earlier * columns, (earlier + 1) * columns);
        continue;
      }
      if (!(row >= 0 && row < count)) {
        throw new InputError(`Cannot read row ${row} of ${stored.name}: it has ${count} rows`);
      }
      const bytes = await checkpoint.readBytes(stored, row * rowBytes, (row + 1) * rowBytes);
      out.set(checkpoint.toFloat32(stored, bytes), i * columns);
      known.set(row, i);
    }
    return out;
  };
}
