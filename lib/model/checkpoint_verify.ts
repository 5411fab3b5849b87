// Whether files are what a list of digests says, and whether a checkpoint's numbers are all finite. Both read
// everything once, one block ahead of what is looked at.

import { createHash } from "node:crypto";
import { fileReason } from "../data/jsonl.ts";
import { InputError } from "../errors.ts";
import { packedRow } from "../packed_layout.ts";
import type { Checkpoint, StoredTensor } from "./checkpoint_folder.ts";

/** File name → SHA-256 in lower-case hex. */
export type Digests = Map<string, string>;

const HEX = /^[0-9a-f]{64}$/i;
const MOST_LIST_BYTES = 64e6;

/**
 * Reads a list of digests: the text that `sha256sum` writes (`<hex>  name`), or a JSON object `{name: hex}`.
 *
 * @throws {InputError} Naming the line or the field that is wrong; a name must lie in the folder
 */
export async function readDigests(path: string): Promise<Digests> {
  let text: string;
  try {
    const { size } = await Deno.stat(path);
    if (size > MOST_LIST_BYTES) throw new Error(`it has ${size} bytes`);
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new InputError(`Cannot read digests ${path}: ${fileReason(cause)}`, { cause });
  }
  const entries = /^\s*\{/.test(text) ? fromJson(path, text) : fromLines(path, text);
  const digests: Digests = new Map();
  for (const [place, name, hex] of entries) {
    const fail = (what: string) =>
      new InputError(`Cannot read digests ${path}: ${place}: ${what}`, {
        help: "lines are `<64 hex digits>  file`, as sha256sum writes them; JSON is {file: hex}",
      });
    if (typeof hex !== "string" || !HEX.test(hex)) throw fail(`no SHA-256 of ${name}`);
    const bare = name.replace(/^(\.\/)+/, "");
    if (bare === "" || /^[/\\]|\\|\0/.test(bare) || bare.split("/").includes("..")) {
      throw fail(`${JSON.stringify(name)} is not in the folder`);
    }
    if (digests.has(bare)) throw fail(`${bare} is there twice`);
    digests.set(bare, hex.toLowerCase());
  }
  if (digests.size === 0) throw new InputError(`Cannot read digests ${path}: it lists no file`);
  return digests;
}

type Entry = [place: string, name: string, hex: unknown];

function fromLines(path: string, text: string): Entry[] {
  return text.split(/\r?\n/).flatMap((line, i): Entry[] => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    const parts = /^([0-9a-fA-F]+) [ *](.+)$/.exec(line);
    if (!parts) {
      throw new InputError(
        `Cannot read digests ${path}: line ${i + 1} is no digest and file name`,
        {
          help: "lines are `<64 hex digits>  file`, as sha256sum writes them",
        },
      );
    }
    return [[`line ${i + 1}`, parts[2], parts[1]]];
  });
}

function fromJson(path: string, text: string): Entry[] {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read digests ${path}: it is not JSON`, { cause });
  }
  return Object.entries(json).map(([name, hex]) => [name, name, hex]);
}

/** What {@link checkDigests} and {@link findNonFinite} report as they go on. */
export interface Watch {
  /** Bytes looked at so far, and what of. */
  onBytes?: (bytes: number, what: string) => void;
  signal?: AbortSignal;
}

const BLOCK_BYTES = 2 ** 23;

/**
 * Compares a folder's files with digests.
 *
 * @returns one line for each file that is missing or differs
 */
export async function checkDigests(
  dir: string,
  digests: Digests,
  watch: Watch = {},
): Promise<string[]> {
  const wrong: string[] = [];
  let before = 0;
  for (const [name, want] of digests) {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(`${dir}/${name}`);
    } catch (cause) {
      if (!(cause instanceof Error)) throw cause;
      wrong.push(`${name} cannot be opened: ${fileReason(cause)}`);
      continue;
    }
    try {
      const hash = createHash("sha256");
      for await (const block of blocksOf(file)) {
        watch.signal?.throwIfAborted();
        hash.update(block);
        watch.onBytes?.(before += block.length, name);
      }
      const got = hash.digest("hex");
      if (got !== want) wrong.push(`${name} has SHA-256 ${got}, listed is ${want}`);
    } catch (cause) {
      if (watch.signal?.aborted) throw cause;
      wrong.push(`${name} cannot be read: ${fileReason(cause)}`);
    } finally {
      file.close();
    }
  }
  return wrong;
}

/** A file's bytes, block by block; the next one is read while one is used. */
async function* blocksOf(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  const memory = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)];
  let reading = file.read(memory[0]);
  try {
    for (let turn = 0;; turn++) {
      const n = await reading;
      if (n === null) return;
      reading = file.read(memory[(turn + 1) % 2]);
      yield memory[turn % 2].subarray(0, n);
    }
  } finally {
    await Promise.allSettled([reading]);
  }
}

/**
 * Looks for numbers that are NaN or infinite; of packed tensors, at their scales.
 *
 * @returns one line for each tensor that has some
 */
export async function findNonFinite(
  tensors: Iterable<StoredTensor>,
  checkpoint: Checkpoint,
  watch: Watch = {},
): Promise<string[]> {
  const wrong: string[] = [];
  let before = 0;
  const memory = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)];
  for (const tensor of tensors) {
    if (!tensor.file) continue;
    const { unit, scan } = scannerOf(tensor);
    const blockBytes = Math.max(unit, BLOCK_BYTES - BLOCK_BYTES % unit);
    const read = (begin: number, turn: number) => {
      const length = Math.min(blockBytes, tensor.bytes - begin);
      if (memory[turn % 2].length < length) memory[turn % 2] = new Uint8Array(length);
      const into = memory[turn % 2].subarray(0, length);
      return checkpoint.readBytes(tensor, begin, begin + length, into);
    };
    let [count, first] = [0, -1];
    let reading = read(0, 0);
    for (let begin = 0, turn = 0; begin < tensor.bytes; begin += blockBytes, turn++) {
      const block = await reading;
      if (begin + blockBytes < tensor.bytes) reading = read(begin + blockBytes, turn + 1);
      const found = scan(block);
      if (found.count > 0 && count === 0) first = begin / unit + found.first;
      count += found.count;
      watch.onBytes?.(before += block.length, tensor.name);
      if (!watch.signal?.aborted) continue;
      await Promise.allSettled([reading]);
      watch.signal.throwIfAborted();
    }
    if (count > 0) wrong.push(`${tensor.name} has ${said(tensor, count, first)}`);
  }
  return wrong;
}

function said({ dtype, shape }: StoredTensor, count: number, first: number): string {
  if (dtype === "int8" || dtype === "int4") {
    return `${count} rows with scales that are not finite, the first is ${first}`;
  }
  const columns = shape.length > 1 ? shape.reduce((n, d) => n * d, 1) / shape[0] : Infinity;
  const place = columns === Infinity
    ? `at ${first}`
    : `in row ${Math.floor(first / columns)}, column ${first % columns}`;
  return `${count} value${count > 1 ? "s" : ""} not finite, the first ${place}`;
}

/** How a tensor is looked through: bytes of a unit, and how many units of a block have something not finite. */
interface Scanner {
  unit: number;
  scan(block: Uint8Array): { count: number; first: number };
}

function scannerOf({ dtype, shape }: StoredTensor): Scanner {
  if (dtype === "int8" || dtype === "int4") {
    const { groups, scalesAt, rowBytes } = packedRow(shape[1], dtype);
    return {
      unit: rowBytes,
      scan: (block) =>
        countOf(block.length / rowBytes, (row) => {
          const high = row * rowBytes + scalesAt + 1;
          for (let g = 0; g < groups; g++) {
            const at = high + 2 * g;
            if ((block[at] & 0x7f) === 0x7f && block[at - 1] >= 0x80) return true;
          }
          return false;
        }),
    };
  }
  if (dtype === "F32") {
    return {
      unit: 4,
      scan: (block) => {
        const values = new Uint32Array(block.buffer, block.byteOffset, block.length / 4);
        return countMasked(values, 0x7f800000);
      },
    };
  }
  const mask = dtype === "F16" ? 0x7c00 : 0x7f80;
  return {
    unit: 2,
    scan: (block) =>
      countMasked(new Uint16Array(block.buffer, block.byteOffset, block.length / 2), mask),
  };
}

/** Values whose exponent bits are all set. */
function countMasked(values: Uint16Array | Uint32Array, mask: number) {
  let [count, first] = [0, -1];
  for (let i = 0; i < values.length; i++) {
    if ((values[i] & mask) !== mask) continue;
    if (count++ === 0) first = i;
  }
  return { count, first };
}

function countOf(n: number, test: (i: number) => boolean) {
  let [count, first] = [0, -1];
  for (let i = 0; i < n; i++) if (test(i) && count++ === 0) first = i;
  return { count, first };
}
