// Where the lines of a JSONL file begin: found in one streaming pass, so that any line can be read by
// itself later. 13 bytes of memory per line, whatever the file's size.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import { fileReason, jsonReason } from "../jsonl.ts";

/** Longest line read, in bytes; images as base64 count. */
export const MAX_LINE_BYTES = 1_000_000;

const CHUNK_BYTES = 2 ** 20;

/** Numbers that grow: offsets are beyond 2³². */
class Numbers<A extends Float64Array | Uint32Array | Uint8Array> {
  length = 0;

  constructor(private array: A, private readonly make: (length: number) => A) {}

  push(value: number) {
    if (this.length === this.array.length) {
      const longer = this.make(2 * this.length);
      longer.set(this.array);
      this.array = longer;
    }
    this.array[this.length++] = value;
  }

  /** What was pushed, without room to grow. */
  values(): A {
    return this.array.slice(0, this.length) as A;
  }
}

/** The lines of one file that were kept. */
export interface LineIndex {
  path: string;
  /** Of the whole file, in bytes. */
  sizeBytes: number;
  /** Of the whole file, in hex. */
  sha256: string;
  /** First byte of each kept line. */
  starts: Float64Array;
  /** Number of each kept line in the file, from 1. */
  lines: Uint32Array;
  /** What `tag` said of each kept line. */
  tags: Uint8Array;
}

/**
 * Reads a file once, as a stream.
 *
 * @param tag is given every line that is not blank, by its number and a function that parses it (and
 * throws an InputError if it cannot); what it returns, 0 to 255, is kept with the line, and a line for
 * which it returns undefined is left out
 * @throws {InputError} If the file cannot be read
 */
export async function indexLines(
  path: string,
  tag: (line: number, parse: () => unknown) => number | undefined,
): Promise<LineIndex> {
  const starts = new Numbers(new Float64Array(1024), (n) => new Float64Array(n));
  const lines = new Numbers(new Uint32Array(1024), (n) => new Uint32Array(n));
  const tags = new Numbers(new Uint8Array(1024), (n) => new Uint8Array(n));
  const hash = createHash("sha256");
  let [line, start, sizeBytes] = [1, 0, 0];
  const end = (bytes: Uint8Array | undefined) => {
    const isBlank = bytes?.every((byte) => byte <= 32);
    const kept = isBlank ? undefined : tag(line, () => parseLine(bytes, path, line));
    if (kept !== undefined) {
      starts.push(start);
      lines.push(line);
      tags.push(kept);
    }
    line++;
  };
  // The beginning of a line that is not over yet; undefined once it is too long to be read.
  let rest: Uint8Array | undefined = new Uint8Array(0);
  for await (const chunk of readChunks(path)) {
    hash.update(chunk);
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      end(join(rest, chunk.subarray(from, at)));
      rest = new Uint8Array(0);
      from = at + 1;
      start = sizeBytes + from;
    }
    rest = join(rest, chunk.subarray(from));
    sizeBytes += chunk.length;
  }
  if (rest === undefined || rest.length > 0) end(rest);
  const sha256 = hash.digest("hex");
  return {
    path,
    sizeBytes,
    sha256,
    starts: starts.values(),
    lines: lines.values(),
    tags: tags.values(),
  };
}

function join(a: Uint8Array | undefined, b: Uint8Array): Uint8Array | undefined {
  if (a === undefined || a.length + b.length > MAX_LINE_BYTES) return undefined;
  if (a.length === 0) return b.slice();
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}

async function* readChunks(path: string): AsyncGenerator<Uint8Array> {
  const open = () => Deno.open(path).catch((cause) => unreadable(path, cause));
  using file = await open();
  const chunk = new Uint8Array(CHUNK_BYTES);
  while (true) {
    const n = await file.read(chunk).catch((cause) => unreadable(path, cause));
    if (n === null) return;
    yield chunk.subarray(0, n);
  }
}

function unreadable(path: string, cause: unknown): never {
  throw new InputError(`Cannot read ${path}: ${fileReason(cause)}`, {
    cause,
    help: "Put a readable text file there, with one JSON object per line",
  });
}

/** The value of a line. @throws {InputError} If it is too long, no UTF-8 or no JSON */
function parseLine(bytes: Uint8Array | undefined, path: string, line: number): unknown {
  const where = `${path} line ${line}`;
  if (bytes === undefined) {
    throw new InputError(`Cannot read ${where}: it has more than ${MAX_LINE_BYTES} bytes`, {
      help: "Write one JSON object per line; put large images into files of their own or parquet",
    });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: line > 1 }).decode(bytes);
  } catch (cause) {
    throw new InputError(`Cannot read ${where}: it is not UTF-8`, {
      cause,
      help: "Save the file as UTF-8",
    });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read ${where}: it is not JSON: ${jsonReason(cause, false)}`, {
      cause,
      help: "Correct or remove the line",
    });
  }
}

/**
 * The value of a kept line.
 *
 * @param at its position in the index
 * @throws {InputError} If it is unusable, or the file's size changed since it was indexed
 */
export async function readLine(index: LineIndex, at: number): Promise<unknown> {
  const { path, sizeBytes, starts, lines } = index;
  let bytes: Uint8Array = new Uint8Array(Math.min(16_384, sizeBytes - starts[at]));
  let filled = 0;
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat();
    if (size !== sizeBytes) {
      throw new Error(`it had ${sizeBytes} bytes when it was opened and has ${size} now`);
    }
    await file.seek(starts[at], Deno.SeekMode.Start);
    while (true) {
      const n = await file.read(bytes.subarray(filled));
      const newline = bytes.subarray(filled, filled + (n ?? 0)).indexOf(10);
      filled += newline >= 0 ? newline : n ?? 0;
      if (filled > MAX_LINE_BYTES) return parseLine(undefined, path, lines[at]);
      if (newline >= 0 || n === null || starts[at] + filled === sizeBytes) break;
      if (filled === bytes.length) {
        const longer = new Uint8Array(Math.min(4 * filled, sizeBytes - starts[at]));
        longer.set(bytes);
        bytes = longer;
      }
    }
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(`Cannot read ${path} line ${lines[at]}: ${fileReason(cause)}`, {
      cause,
      help: "Leave data files as they are while they are in use, or start again",
    });
  }
  return parseLine(bytes.subarray(0, filled), path, lines[at]);
}
