// How a file says that a tensor is packed: it is stored under its name as U8 (rows, bytes of a packed row), and
// the file's metadata has `packed.<name>` = `int4 18944x3584 group64 bf16`: format, rows × columns, values per
// scale, and the dtype of scales. The bytes are those of lib/packed_layout.ts.

import type { Safetensors, TensorInfo } from "../data/safetensors.ts";
import { InputError } from "../errors.ts";
import { GROUP, isPacked, type PackedFormat, packedRow } from "../packed_layout.ts";

/** What a packed tensor stands for. */
export interface PackedTensor {
  format: PackedFormat;
  rows: number;
  columns: number;
}

const KEY = "packed.";

/** The metadata entry of a packed tensor. */
export function packedEntry(name: string, tensor: PackedTensor): [key: string, value: string] {
  const { format, rows, columns } = tensor;
  return [KEY + name, `${format} ${rows}x${columns} group${GROUP} bf16`];
}

/** Shape of the bytes in the file. */
export function packedShape({ format, rows, columns }: PackedTensor): [number, number] {
  return [rows, packedRow(columns, format).rowBytes];
}

/**
 * The packed tensors of a file, by name.
 *
 * @throws {InputError} Naming file and tensor, if an entry cannot be read, is of an unknown format, or does not
 *   fit the bytes
 */
export function packedTensors(file: Safetensors): Map<string, PackedTensor> {
  const packed = new Map<string, PackedTensor>();
  for (const [key, value] of file.metadata) {
    if (!key.startsWith(KEY)) continue;
    const name = key.slice(KEY.length);
    packed.set(name, readEntry(file.path, name, value, file.tensors.get(name)));
  }
  return packed;
}

function readEntry(
  path: string,
  name: string,
  value: string,
  info: TensorInfo | undefined,
): PackedTensor {
  const fail = (what: string, help: string) =>
    new InputError(`Cannot open ${path}: packed tensor ${name} ${what}`, { help });
  if (!info) throw fail("is not in the file", "quantize the model again; the file is damaged");
  const parts = /^(\S+) ([1-9]\d*)x([1-9]\d*) group(\d+) (\S+)$/.exec(value);
  if (!parts) {
    throw fail(
      `is described as ${JSON.stringify(value).slice(0, 60)}`,
      "such as int4 18944x3584 group64 bf16 is right",
    );
  }
  const [format, rows, columns] = [parts[1], Number(parts[2]), Number(parts[3])];
  if (!isPacked(format) || Number(parts[4]) !== GROUP || parts[5] !== "bf16") {
    throw fail(
      `has format ${format}, group ${parts[4]}, scales ${parts[5]}`,
      `int8 and int4 in groups of ${GROUP} with scales in bf16 are read: quantize the model again`,
    );
  }
  const shape = packedShape({ format, rows, columns });
  if (info.dtype !== "U8" || info.shape.join() !== shape.join()) {
    throw fail(
      `is ${info.dtype} (${info.shape.join(", ")}), not U8 (${shape.join(", ")})`,
      "quantize the model again; the file is damaged",
    );
  }
  return { format, rows, columns };
}
