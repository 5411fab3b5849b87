// The header of a safetensors file that is about to be written, and where each tensor will lie, from names,
// dtypes and shapes alone.

/** Bytes of one element, by the dtypes that are written. */
export const ELEMENT_BYTES = { F32: 4, I32: 4, F16: 2, BF16: 2, U8: 1 } as const;

/** A tensor to be written. */
export interface PlannedTensor {
  name: string;
  dtype: keyof typeof ELEMENT_BYTES;
  shape: readonly number[];
}

/** A file to be written. */
export interface FilePlan {
  /** Length and JSON, padded with spaces to a multiple of 8 bytes. */
  header: Uint8Array<ArrayBuffer>;
  /** Byte of the file at which each tensor begins, in order, then the file's size. */
  offsets: number[];
}

/**
 * Plans a file: tensors follow each other in the order given, without holes.
 *
 * @throws {TypeError} If a name is used twice or reserved
 */
export function planSafetensors(
  tensors: Iterable<PlannedTensor>,
  metadata: Readonly<Record<string, string>> = {},
): FilePlan {
  const members: string[] = [];
  const member = (key: string, value: unknown) =>
    members.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
  if (Object.keys(metadata).length > 0) member("__metadata__", metadata);
  const seen = new Set(["__metadata__", "__proto__"]);
  const offsets = [0];
  for (const { name, dtype, shape } of tensors) {
    if (seen.has(name)) throw new TypeError(`Cannot write ${name}: the name is used or reserved`);
    seen.add(name);
    const at = offsets.at(-1)!;
    const end = at + shape.reduce((n, d) => n * d, 1) * ELEMENT_BYTES[dtype];
    member(name, { dtype, shape, data_offsets: [at, end] });
    offsets.push(end);
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8; // padded, so that the data is aligned
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return { header, offsets: offsets.map((at) => header.length + at) };
}
