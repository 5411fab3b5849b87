// Quantizes a checkpoint folder into another: matrices to int8 or int4 in groups of 64 with scales in bf16, row by
// row as lib/packed_layout.ts lays them out, everything else to bf16. Memory is a few blocks of rows.
//
// What stays in bf16 includes what the source has in f32: the published weights are bf16 throughout, position
// tables and norms too. Only the autoencoder keeps its dtype: its file is copied, f32 as published.

import { InputError } from "../errors.ts";
import { GROUP, isPacked, type PackedFormat } from "../packed_layout.ts";
import { type Choice, choosePacked } from "./checkpoint_choice.ts";
import { folderOf, outTensor } from "./checkpoint_copy.ts";
import { openCheckpoint, type StoredTensor } from "./checkpoint_folder.ts";
import { bytesOf, type Tally } from "./checkpoint_rows.ts";
import { partOf, PARTS } from "./checkpoint_summary.ts";
import { type OutFile, writeFolder, type WriteOptions } from "./checkpoint_write.ts";
import { nameInReference } from "./weights.ts";
import { modelFolder } from "./model_folder.ts";

/** How a folder is quantized. */
export interface QuantizeOptions extends Choice, Omit<WriteOptions, "identity"> {
  to: PackedFormat;
  /** Bytes of a file, about. Default: 4 GB. */
  shardBytes?: number;
}

/** What became of a part of the model. */
export interface QuantizedPart {
  part: string;
  tensors: number;
  /** Of them packed. */
  packed: number;
  bytesBefore: number;
  bytesAfter: number;
  /** ‖w − ŵ‖ / ‖w‖ over the packed tensors, measured on about 128 rows of each; undefined without any. */
  relativeError: number | undefined;
}

/** What was written. */
export interface QuantizeReport {
  parts: QuantizedPart[];
  /** Of all files. */
  bytes: number;
}

/**
 * Quantizes a folder. An unfinished `<out>.partial` of the same source and settings is gone on with.
 *
 * @param source a checkpoint folder that is not quantized yet, or a run
 * @param out the folder to write; it gets its name when it is complete
 * @throws {InputError} If the source cannot be opened, is packed already, or has a value that is not finite
 * @throws {UsageError} If `out` exists, or a pattern matches nothing
 * @throws {ResourceError} If the disk has too little space or writing fails
 */
export async function quantizeCheckpoint(
  source: string,
  out: string,
  options: QuantizeOptions,
): Promise<QuantizeReport> {
  const dir = await modelFolder(source);
  const checkpoint = await openCheckpoint(dir);
  try {
    const packed = [...checkpoint.tensors.values()].find(({ dtype }) => isPacked(dtype));
    if (packed) {
      throw new InputError(`Cannot quantize ${dir}: ${packed.name} is ${packed.dtype} already`, {
        help: "give the folder that it was made from",
      });
    }
    const chosen = choosePacked([...checkpoint.tensors.keys()], options);
    const stored = [...checkpoint.tensors.values()].filter(({ file }) => file);
    const tensors = stored.map((tensor) => {
      const name = nameInReference(tensor.ours);
      return outTensor(checkpoint, tensor, name, chosen.has(tensor.ours) ? options.to : "BF16");
    });
    const { files, side, sources } = await folderOf(checkpoint, tensors, options.shardBytes);
    const identity = JSON.stringify([options.to, GROUP, sources]);
    let parts: QuantizedPart[] = [];
    const report = (tallies: ReadonlyMap<string, Tally>) => parts = sumUp(stored, files, tallies);
    const { bytes } = await writeFolder(out, files, side, ({ tallies }) => {
      const { to, only, keep } = options;
      const text = JSON.stringify(
        { format: 1, to, group: GROUP, scales: "bf16", only, keep, parts: report(tallies) },
        null,
        2,
      );
      return [{ name: "quantization.json", text: text + "\n" }];
    }, { ...options, identity });
    return { parts, bytes };
  } finally {
    checkpoint.close();
  }
}

function sumUp(
  stored: readonly StoredTensor[],
  files: readonly OutFile[],
  tallies: ReadonlyMap<string, Tally>,
): QuantizedPart[] {
  const after = new Map(files.flatMap(({ tensors }) => tensors.map((t) => [t.name, bytesOf(t)])));
  return PARTS.flatMap((part) => {
    const members = stored.filter(({ ours }) => partOf(ours) === part);
    if (members.length === 0) return [];
    const names = members.map(({ ours }) => nameInReference(ours));
    const measured = names.flatMap((name) => tallies.get(name) ?? []);
    const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
    const size = sum(measured.map((tally) => tally.size));
    return [{
      part,
      tensors: members.length,
      packed: measured.length,
      bytesBefore: sum(members.map(({ bytes }) => bytes)),
      bytesAfter: sum(names.map((name) => after.get(name)!)),
      relativeError: size > 0 ? Math.sqrt(sum(measured.map((t) => t.error)) / size) : undefined,
    }];
  });
}
