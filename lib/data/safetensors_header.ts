// The header of a safetensors file, checked before a byte of data is trusted: every offset, shape
// and name is validated, so that what follows can index the file without further tests.
// Layout: u64 little-endian header length, JSON header, data.

import { InputError } from "../errors.ts";
import { JsonNumber, parseStrictJson, type StrictJson } from "./strict_json.ts";

/** Bits of one element, by dtype name. */
const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A dtype name of the format. */
export type Dtype = keyof typeof BITS;

/** Where a tensor lies: `begin` and `end` are byte offsets in the file. */
export interface TensorInfo {
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

/** A checked header. */
export interface Header {
  /** By name, in the order of the header. */
  tensors: Map<string, TensorInfo>;
  metadata: Map<string, string>;
}

/** Longest header read, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/**
 * The header length from the first 8 bytes.
 *
 * @throws {InputError} If it exceeds 100 MB or the file
 */
export function headerLength(first8: Uint8Array, fileBytes: number, file: string): number {
  if (first8.length < 8) {
    throw bad(file, `it has ${fileBytes} bytes, fewer than the 8 of a header length`);
  }
  const length = new DataView(first8.buffer, first8.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw bad(file, `its header claims ${length} bytes; at most ${MAX_HEADER_BYTES} are read`);
  }
  if (Number(length) > fileBytes - 8) {
    throw bad(file, `its header claims ${length} bytes, but only ${fileBytes - 8} follow`);
  }
  return Number(length);
}

/**
 * Parses and checks the JSON header of a file of `fileBytes` bytes.
 *
 * @throws {InputError} Naming the file and, where there is one, the tensor
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number, file: string): Header {
  const json = parseJson(bytes, file);
  const dataStart = 8 + bytes.length;
  const header: Header = { tensors: new Map(), metadata: new Map() };
  for (const [name, entry] of json) {
    if (name === "__metadata__") header.metadata = parseMetadata(entry, file);
    else header.tensors.set(name, parseTensor(name, entry, dataStart, file));
  }
  checkCover(header.tensors, dataStart, fileBytes, file);
  return header;
}

function parseJson(bytes: Uint8Array, file: string): Map<string, StrictJson> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw bad(file, "its header is not UTF-8", cause);
  }
  if (text[0] !== "{") throw bad(file, "its header does not start with {");
  try {
    return parseStrictJson(text) as Map<string, StrictJson>;
  } catch (cause) {
    throw bad(file, `its header is not valid: ${(cause as Error).message}`, cause);
  }
}

function parseMetadata(entry: StrictJson, file: string): Map<string, string> {
  if (entry === null) return new Map(); // as the format's own library reads it
  if (!(entry instanceof Map)) throw bad(file, "__metadata__ is not an object");
  for (const [key, value] of entry) {
    if (typeof value !== "string") throw bad(file, `__metadata__.${key} is not a string`);
  }
  return entry as Map<string, string>;
}

function parseTensor(name: string, entry: StrictJson, dataStart: number, file: string): TensorInfo {
  const fail = (what: string) => bad(file, `tensor ${JSON.stringify(name)} ${what}`);
  if (name === "__proto__") throw fail("has a reserved name");
  if (!(entry instanceof Map)) throw fail("is not described by an object");
  const dtype = entry.get("dtype");
  if (typeof dtype !== "string" || !Object.hasOwn(BITS, dtype)) {
    const shown = dtype instanceof JsonNumber ? dtype.text : JSON.stringify(dtype ?? null);
    throw fail(`has the unknown dtype ${shown.slice(0, 40)}`);
  }
  const shape = indexes(entry.get("shape"));
  if (!shape) throw fail("has a shape that is not a list of integers");
  const offsets = indexes(entry.get("data_offsets"));
  if (offsets?.length !== 2) throw fail("has data_offsets that are not two integers");

  const count = shape.reduce((n, d) => n * d, 1);
  const bits = count * BITS[dtype as Dtype];
  if (overflows(shape) || !Number.isSafeInteger(bits)) {
    throw fail(`has the impossible shape (${shape})`);
  }
  if (bits % 8 !== 0) {
    throw fail(`of shape (${shape}) and dtype ${dtype} does not fill whole bytes`);
  }
  const [begin, end] = offsets;
  if (end - begin !== bits / 8) {
    throw fail(
      `of shape (${shape}) and dtype ${dtype} needs ${
        bits / 8
      } bytes, its offsets are ${begin} to ${end}`,
    );
  }
  return { dtype: dtype as Dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Whether a running product leaves the exact integers, even if a later 0 hides it. */
function overflows(shape: number[]): boolean {
  let n = 1;
  return shape.some((d) => !Number.isSafeInteger(n *= d));
}

function indexes(value: StrictJson | undefined): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const numbers = value.map((v) => v instanceof JsonNumber ? v.index : undefined);
  return numbers.every((n) => n !== undefined) ? numbers : undefined;
}

/** Tensors must cover the data exactly: no overlap, no hole, nothing after the last. */
function checkCover(
  tensors: Map<string, TensorInfo>,
  dataStart: number,
  fileBytes: number,
  file: string,
) {
  const order = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = dataStart;
  for (const [name, { begin, end }] of order) {
    if (begin !== at) {
      const what = begin < at ? "overlaps the tensor before it" : "leaves a hole before it";
      throw bad(
        file,
        `tensor ${JSON.stringify(name)} ${what}: it begins at byte ${begin - dataStart}, not ${
          at - dataStart
        }`,
      );
    }
    if (end > fileBytes) {
      throw bad(
        file,
        `tensor ${JSON.stringify(name)} ends at byte ${end} of a file of ${fileBytes} bytes`,
      );
    }
    at = end;
  }
  if (at !== fileBytes) {
    throw bad(file, `${fileBytes - at} bytes follow the last tensor`);
  }
}

function bad(file: string, what: string, cause?: unknown): InputError {
  return new InputError(`Cannot read safetensors file ${file}: ${what}`, {
    help: "Get the file again; it is damaged or is not a safetensors file",
    ...(cause === undefined ? {} : { cause }),
  });
}
