// Safetensors files: read tensor by tensor, by byte range, so that a checkpoint larger than memory
// can be opened; written to a temporary file that is renamed, so that a crash leaves the old one.

import { InputError, ResourceError } from "../errors.ts";
import { bf16ToFloat32, f16ToFloat32, float32ToBf16, float32ToF16 } from "./half.ts";
import { fileReason } from "./jsonl.ts";
import { headerLength, parseHeader, type TensorInfo } from "./safetensors_header.ts";

export type { Dtype, TensorInfo } from "./safetensors_header.ts";

/** An open file; {@link close} it when done. */
export class Safetensors {
  /** Serialises seek + read: they share the file's position. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    readonly path: string,
    private readonly file: Deno.FsFile,
    /** By name, in the order of the header; offsets are in the file. */
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    /** The header's `__metadata__`. */
    readonly metadata: ReadonlyMap<string, string>,
  ) {}

  /** The tensor's dtype, shape and place. @throws {InputError} If the file has no such tensor */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (!info) throw new InputError(`Cannot read ${name}: ${this.path} has no such tensor`);
    return info;
  }

  /** The tensor's bytes, little-endian. */
  read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.info(name);
    const task = this.#queue.then(() => readRange(this.file, begin, end, this.path));
    this.#queue = task.catch(() => undefined); // the caller sees the error; the queue goes on
    return task;
  }

  /** A tensor of dtype F32, F16 or BF16 as f32. @throws {InputError} On another dtype */
  async readFloat32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") throw this.#wrong(name, "f32");
    const { buffer } = await this.read(name);
    if (dtype === "F32") return new Float32Array(buffer);
    const bits = new Uint16Array(buffer);
    return dtype === "F16" ? f16ToFloat32(bits) : bf16ToFloat32(bits);
  }

  /** A tensor of dtype I32. @throws {InputError} On another dtype */
  async readInt32(name: string): Promise<Int32Array<ArrayBuffer>> {
    if (this.info(name).dtype !== "I32") throw this.#wrong(name, "i32");
    return new Int32Array((await this.read(name)).buffer);
  }

  close() {
    this.file.close();
  }

  #wrong(name: string, wanted: string): InputError {
    return new InputError(
      `Cannot read ${name} of ${this.path} as ${wanted}: its dtype is ${this.info(name).dtype}`,
    );
  }
}

const OPEN_HELP = "Give the path of a readable .safetensors file";

/**
 * Opens a file and checks its whole header; data is read on demand. Memory: the header's size.
 *
 * @throws {InputError} If the file is missing, unreadable or malformed
 */
export async function openSafetensors(path: string): Promise<Safetensors> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (cause) {
    throw new InputError(`Cannot open ${path}: ${fileReason(cause)}`, { cause, help: OPEN_HELP });
  }
  try {
    const { size, isFile } = await file.stat();
    if (!isFile) throw new InputError(`Cannot open ${path}: it is not a file`, { help: OPEN_HELP });
    const first = await readRange(file, 0, Math.min(8, size), path);
    const length = headerLength(first, size, path);
    const header = parseHeader(await readRange(file, 8, 8 + length, path), size, path);
    return new Safetensors(path, file, header.tensors, header.metadata);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function readRange(file: Deno.FsFile, begin: number, end: number, path: string) {
  const bytes = new Uint8Array(end - begin);
  await file.seek(begin, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const n = await file.read(bytes.subarray(at));
    if (n === null) throw new InputError(`Cannot read ${path}: it ends at byte ${begin + at}`);
    at += n;
  }
  return bytes;
}

/** One tensor to write. f32 data may be stored as F32, F16 or BF16. */
export type TensorToWrite =
  & { shape: readonly number[] }
  & (
    | { dtype: "F32" | "F16" | "BF16"; data: Float32Array }
    | { dtype: "I32"; data: Int32Array }
    | { dtype: "U8"; data: Uint8Array }
  );

const BYTES = { F32: 4, I32: 4, F16: 2, BF16: 2, U8: 1 } as const;

/**
 * Writes a file: tensors by falling element size, then name, so that all are aligned and equal
 * contents give equal bytes. The data goes to a temporary file beside `path`, which is synced and
 * renamed; whatever happens, `path` is either as it was or complete.
 *
 * @throws {TypeError} If a shape does not fit its data
 * @throws {ResourceError} If writing fails; the temporary file is removed
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, TensorToWrite]>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const list = [...tensors].sort(([a, x], [b, y]) =>
    BYTES[y.dtype] - BYTES[x.dtype] || (a < b ? -1 : 1)
  );
  const header = encodeHeader(list, metadata);
  const partial = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    const file = await Deno.open(partial, { write: true, createNew: true });
    try {
      await writeAll(file, header);
      for (const [, tensor] of list) await writeAll(file, encodeData(tensor));
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(partial, path);
    await syncFolder(path);
  } catch (cause) {
    await Deno.remove(partial).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: "Check that the folder exists, is writable and has space",
    });
  }
}

function encodeHeader(
  list: (readonly [string, TensorToWrite])[],
  metadata: Record<string, string>,
): Uint8Array {
  const members: string[] = [];
  const member = (key: string, value: unknown) =>
    members.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
  if (Object.keys(metadata).length > 0) member("__metadata__", metadata);
  const seen = new Set(["__metadata__", "__proto__"]);
  let at = 0;
  for (const [name, { dtype, shape, data }] of list) {
    const count = shape.reduce((n, d) => n * d, 1);
    if (count !== data.length) {
      throw new TypeError(
        `Cannot write ${name}: (${shape}) holds ${count} elements, its data ${data.length}`,
      );
    }
    if (seen.has(name)) throw new TypeError(`Cannot write ${name}: the name is used or reserved`);
    seen.add(name);
    const end = at + count * BYTES[dtype];
    member(name, { dtype, shape, data_offsets: [at, end] });
    at = end;
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8; // padded, so that the data is aligned
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

function encodeData({ dtype, data }: TensorToWrite): Uint8Array {
  const stored = dtype === "F16"
    ? float32ToF16(data)
    : dtype === "BF16"
    ? float32ToBf16(data)
    : data;
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array) {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** Makes the rename itself durable; Windows has no such call and needs none. */
async function syncFolder(path: string) {
  if (Deno.build.os === "windows") return;
  const slash = path.lastIndexOf("/");
  const folder = await Deno.open(slash < 0 ? "." : path.slice(0, slash + 1));
  try {
    await folder.sync();
  } finally {
    folder.close();
  }
}
