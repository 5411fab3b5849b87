// A folder and an adapter made into one folder, W + (α/rank) B A in place of each adapted W, row by row: memory is a
// few blocks of rows and the adapter.

import { InputError, UsageError } from "../errors.ts";
import { isPacked } from "../packed_layout.ts";
import { folderOf, outTensor } from "./checkpoint_copy.ts";
import {
  type Checkpoint,
  openCheckpoint,
  type StoredDtype,
  type StoredTensor,
} from "./checkpoint_folder.ts";
import { type FloatDtype, type OutTensor, rowsOf } from "./checkpoint_rows.ts";
import { writeFolder, type WriteOptions } from "./checkpoint_write.ts";
import { layerOf } from "./lora.ts";
import { checkBase, checkpointDigest, type LoraFile, readLora } from "./lora_file.ts";
import { nameInReference } from "./weights.ts";
import { modelFolder } from "./model_folder.ts";

/** How a folder and an adapter are merged. */
export interface MergeOptions extends Omit<WriteOptions, "identity"> {
  /**
   * How changed matrices are stored. Default: as the base stores them, and F16 where it packs them: the values of int4
   * rows are exact in it (but for the tiniest), while bf16 would round each by up to 1/256 and int4 would round the addition away. F32 answers
   * as the base with its adapter does but for the order of sums; F16 changes about one answer in a thousand, where two
   * were nearly as likely, BF16 about one in a hundred (experiments/LOG.md).
   */
  dtype?: FloatDtype;
  /** Bytes of a file, about. Default: 4 GB. */
  shardBytes?: number;
}

/** What became of a matrix. */
export interface MergedLayer {
  name: string;
  from: StoredDtype;
  to: FloatDtype;
  /** ‖ΔW‖ / ‖W‖; undefined for one that an earlier process wrote. */
  change: number | undefined;
}

/** What was written. */
export interface MergeReport {
  /** Adapted layers, with how their matrix was and is stored. */
  layers: MergedLayer[];
  /** Tensors that were copied as they are. */
  kept: number;
  /** Of all files. */
  bytes: number;
}

/**
 * Writes a folder that computes what the base with its adapter does; the base is only read. An unfinished
 * `<out>.partial` of the same base, adapter and settings is gone on with.
 *
 * @param base the folder that the adapter was trained over
 * @param adapter file written by `saveLora`
 * @param out the folder to write; it gets its name when it is complete
 * @throws {InputError} If folder or adapter cannot be read, do not belong together, or a sum leaves the dtype
 * @throws {UsageError} If `out` exists
 * @throws {ResourceError} If the disk has too little space or writing fails
 */
export async function mergeLora(
  base: string,
  adapter: string,
  out: string,
  options: MergeOptions = {},
): Promise<MergeReport> {
  const { dtype } = options;
  if (dtype !== undefined && !["F32", "F16", "BF16"].includes(dtype)) {
    throw new UsageError(`Cannot store merged matrices as ${dtype}`, {
      help: "F32, F16 and BF16 are the choices",
    });
  }
  const dir = await modelFolder(base);
  const lora = await readLora(adapter);
  const checkpoint = await openCheckpoint(dir);
  try {
    const { layers } = lora.info;
    const digest = () => checkpointDigest(checkpoint, layers);
    await checkBase(lora, checkpoint.tensors, digest, dir);
    const adapted = new Set(layers.map(({ name }) => name));
    const merged: MergedLayer[] = [];
    let kept = 0;
    const stored = [...checkpoint.tensors.values()].filter(({ file }) => file);
    const tensors = stored.map((tensor) => {
      const name = nameInReference(tensor.ours);
      const layer = layerOf(tensor.ours);
      if (!adapted.has(layer) || !tensor.ours.endsWith(".weight")) {
        kept++;
        return outTensor(checkpoint, tensor, name, tensor.dtype);
      }
      const to = dtype ?? (isPacked(tensor.dtype) ? "F16" : tensor.dtype);
      const entry: MergedLayer = { name: layer, from: tensor.dtype, to, change: undefined };
      merged.push(entry);
      const tally = { of: 0, was: 0 };
      const source = mergedRows(checkpoint, tensor, lora, to, (of, was) => {
        tally.of += of;
        tally.was += was;
        entry.change = Math.sqrt(tally.of / tally.was);
      });
      return { name, shape: tensor.shape, stored: to, source };
    });
    const { files, side, sources } = await folderOf(checkpoint, tensors, options.shardBytes);
    const file = await Deno.readFile(adapter);
    const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", file)).toHex();
    const identity = JSON.stringify(["merge", sha256, dtype ?? null, sources]);
    const { rank, alpha, targets } = lora.info;
    const about = { format: 1, adapter: sha256, base: lora.base, rank, alpha, targets };
    side.push({ name: "merge.json", text: JSON.stringify(about, null, 2) + "\n" });
    const { bytes } = await writeFolder(out, files, side, () => [], { ...options, identity });
    return { layers: merged, kept, bytes };
  } finally {
    checkpoint.close();
  }
}

const MOST_F16 = 65504;

/** Rows of W + (α/rank) B A as f32. */
function mergedRows(
  checkpoint: Checkpoint,
  tensor: StoredTensor,
  { path, info, values }: LoraFile,
  to: FloatDtype,
  measure: (change: number, before: number) => void,
): OutTensor["source"] {
  const layer = layerOf(tensor.ours);
  const { a, b } = values.get(layer)!;
  const { rank, alpha } = info;
  const { rows, columns } = rowsOf(tensor.shape);
  const rowBytes = tensor.bytes / rows;
  const added = new Float64Array(columns);
  const read = async (first: number, into: Uint8Array<ArrayBuffer>) => {
    const sum = new Float32Array(into.buffer, into.byteOffset, into.length / 4);
    const count = sum.length / columns;
    const range = [first * rowBytes, (first + count) * rowBytes] as const;
    sum.set(checkpoint.toFloat32(tensor, await checkpoint.readBytes(tensor, ...range)));
    let change = 0, before = 0;
    for (let r = 0; r < count; r++) {
      added.fill(0);
      for (let k = 0; k < rank; k++) {
        const factor = alpha / rank * b[(first + r) * rank + k];
        for (let j = 0; j < columns; j++) added[j] += factor * a[k * columns + j];
      }
      for (let j = 0; j < columns; j++) {
        const at = r * columns + j;
        before += sum[at] ** 2;
        change += added[j] ** 2;
        sum[at] += added[j];
        if (Math.abs(sum[at]) <= (to === "F16" ? MOST_F16 : Infinity)) continue;
        throw new InputError(
          `Cannot merge ${path}: row ${first + r}, column ${j} of ${layer} becomes ${sum[at]}`,
          { help: to === "F16" ? "store the merged matrices as BF16 or F32" : "train it again" },
        );
      }
    }
    measure(change, before);
  };
  return { dtype: "F32", read };
}
