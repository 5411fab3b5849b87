// Conformance cases of the safetensors header, `[{name, bytes_b64, expect, tensors}]`, against our reader: it must
// refuse what the published readers refuse, cleanly, and find in the rest the same tensors.

import { bf16ToFloat32 } from "../data/half.ts";
import {
  type Header,
  headerLength,
  parseHeader,
  type TensorInfo,
} from "../data/safetensors_header.ts";
import { InputError } from "../errors.ts";
import { type CheckedCase, readVectorList } from "./vector_list.ts";

/** A tensor that a case lists. */
interface ExpectedTensor {
  dtype: string;
  shape: number[];
  /** Its first values. */
  first?: number[];
}

/** One case: a whole file and the verdict on it. */
export interface SafetensorsCase {
  name: string;
  bytes: Uint8Array;
  expect: "accept" | "reject";
  /** By name, all of the file; undefined where the case lists none. */
  tensors: Record<string, ExpectedTensor> | undefined;
  /** Whether JSON.parse alone would take the case for another. */
  strictOnly: boolean;
}

const FORMAT = {
  shape: "{name, bytes_b64, expect, tensors}",
  help: "Give a file of safetensors cases, such as ../shared/fixtures/safetensors/cases.json",
};

/**
 * Reads a file of cases.
 *
 * @throws {InputError} Naming the file, the case and the field
 */
export async function readSafetensorsCases(path: string): Promise<SafetensorsCase[]> {
  const list = await readVectorList(path, FORMAT);
  return list.map((entry, i) => {
    const { name = "", bytes_b64, expect, tensors } = entry;
    const fail = (what: string) =>
      new InputError(`Cannot read ${path}: ${what} of case ${i} is not as in ${FORMAT.shape}`, {
        help: FORMAT.help,
      });
    if (typeof name !== "string") throw fail("name");
    const bytes = typeof bytes_b64 === "string" ? fromBase64(bytes_b64) : undefined;
    if (!bytes) throw fail("bytes_b64");
    if (expect !== "accept" && expect !== "reject") throw fail("expect");
    if (!isTensors(tensors)) throw fail("tensors");
    const strictOnly = entry.javascript_lenient_parse_differs === true;
    return { name: name || `${i}`, bytes, expect, tensors: tensors ?? undefined, strictOnly };
  });
}

/** Runs our header reader over the bytes of a case. */
export function checkSafetensorsCase(
  { name, bytes, expect, tensors, strictOnly }: SafetensorsCase,
): CheckedCase {
  const misses: string[] = [];
  let header: Header | undefined;
  try {
    const length = headerLength(bytes.subarray(0, 8), bytes.length, name);
    header = parseHeader(bytes.subarray(8, 8 + length), bytes.length, name);
  } catch (error) {
    if (!(error instanceof InputError)) misses.push(`refused, but not cleanly: ${error}`);
    else if (expect === "accept") misses.push(`refused, expected to be read: ${error.message}`);
  }
  if (header && expect === "reject") misses.push("read, expected to be refused");
  else if (header && tensors) misses.push(...compareTensors(header, bytes, tensors));
  return { name, kind: strictOnly ? `${expect} beyond JSON.parse` : expect, misses };
}

function compareTensors(
  header: Header,
  bytes: Uint8Array,
  expected: Record<string, ExpectedTensor>,
): string[] {
  const misses: string[] = [];
  for (const [name, info] of header.tensors) {
    const wanted = Object.hasOwn(expected, name) ? expected[name] : undefined;
    if (!wanted) {
      misses.push(`tensor ${name} is not listed`);
      continue;
    }
    const [got, want] = [info, wanted].map(({ dtype, shape }) => `${dtype} (${shape})`);
    if (got !== want) misses.push(`tensor ${name} is ${got}, expected ${want}`);
    else if (wanted.first) {
      const values = firstValues(info, bytes, wanted.first.length);
      if (!values) misses.push(`tensor ${name}: values of ${info.dtype} are not compared here`);
      else if (!values.every((value, i) => value === wanted.first![i])) {
        misses.push(`tensor ${name} begins ${values}, expected ${wanted.first}`);
      }
    }
  }
  for (const name of Object.keys(expected)) {
    if (!header.tensors.has(name)) misses.push(`tensor ${name} is missing`);
  }
  return misses;
}

type Reader = (view: DataView, at: number) => number;

/** Bytes of one value, and how to read it; all little-endian. */
const READERS: Partial<Record<TensorInfo["dtype"], [size: number, read: Reader]>> = {
  BOOL: [1, (view, at) => view.getUint8(at)],
  U8: [1, (view, at) => view.getUint8(at)],
  I8: [1, (view, at) => view.getInt8(at)],
  U16: [2, (view, at) => view.getUint16(at, true)],
  I16: [2, (view, at) => view.getInt16(at, true)],
  F16: [2, (view, at) => view.getFloat16(at, true)],
  BF16: [2, (view, at) => bf16ToFloat32(Uint16Array.of(view.getUint16(at, true)))[0]],
  U32: [4, (view, at) => view.getUint32(at, true)],
  I32: [4, (view, at) => view.getInt32(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  U64: [8, (view, at) => Number(view.getBigUint64(at, true))],
  I64: [8, (view, at) => Number(view.getBigInt64(at, true))],
  F64: [8, (view, at) => view.getFloat64(at, true)],
};

/** As many values of a tensor as there are, at most `count`; undefined for dtypes without a reader. */
function firstValues(
  { dtype, begin, end }: TensorInfo,
  bytes: Uint8Array,
  count: number,
): number[] | undefined {
  const [size, read] = READERS[dtype] ?? [];
  if (!size || !read) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = Math.min(count, (end - begin) / size);
  return Array.from({ length }, (_, i) => read(view, begin + i * size));
}

function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined; // the caller says which case it is
  }
}

function isTensors(value: unknown): value is Record<string, ExpectedTensor> | null | undefined {
  if (value === undefined || value === null) return true;
  if (typeof value !== "object" || Array.isArray(value)) return false;
  const isNumbers = (list: unknown) =>
    Array.isArray(list) && list.every((n) => typeof n === "number");
  return Object.values(value).every((entry) =>
    typeof entry?.dtype === "string" && isNumbers(entry.shape) &&
    (entry.first === undefined || isNumbers(entry.first))
  );
}
