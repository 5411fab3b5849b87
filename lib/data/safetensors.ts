// Safetensors files: read tensor by tensor, by byte range, so that a checkpoint larger than memory
// can be opened; written to a temporary file that is renamed, so that a crash leaves the old one.

import { InputError, ResourceError } from "../errors.ts";
import { bf16ToFloat32, f16ToFloat32, float32ToBf16, float32ToF16 } from "./half.ts";
import { fileReason } from "./jsonl.ts";
import { ELEMENT_BYTES, planSafetensors } from "./safetensors_plan.ts";
import { headerLength, parseHeader, type TensorInfo } from "./safetensors_header.ts";

export type { Dtype, TensorInfo } from "./safetensors_header.ts";

/** File handles of one {@link Safetensors} at most, that is reads that run at the same time. */
const MOST_HANDLES = 8;

/**
 * An open file; {@link Safetensors.close} it when done. Reads may overlap: each has a handle of its own, since a
 * handle has one position, and one that finds all in use waits its turn.
 */
export class Safetensors {
  readonly #free: Deno.FsFile[];
  readonly #waiting: ((handle: Deno.FsFile) => void)[] = [];
  #open = 1;
  #closed = false;

  constructor(
    readonly path: string,
    file: Deno.FsFile,
    /** By name, in the order of the header; offsets are in the file. */
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    /** The header's `__metadata__`. */
    readonly metadata: ReadonlyMap<string, string>,
    /** What tells the opened file from another that took its place. */
    private readonly identity: string,
  ) {
    this.#free = [file];
  }

  /** The tensor's dtype, shape and place. @throws {InputError} If the file has no such tensor */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (!info) throw new InputError(`Cannot read ${name}: ${this.path} has no such tensor`);
    return info;
  }

  /** The tensor's bytes, little-endian. */
  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.info(name);
    return await this.readRange(name, 0, end - begin);
  }

  /**
   * Bytes `begin` to `end` of a tensor, counted from its first one. One call of the system where the system
   * can: the range goes to `into` as it is read, and other work may go on meanwhile.
   *
   * @param into where they go, exactly `end - begin` bytes; default: fresh memory
   * @throws {RangeError} If the range leaves the tensor
   * @throws {TypeError} If `into` has another length
   * @throws {InputError} If the file is cut short or was replaced since it was opened
   */
  async readRange(name: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  async readRange<T extends Uint8Array>(
    name: string,
    begin: number,
    end: number,
    into: T,
  ): Promise<T>;
  async readRange(name: string, begin: number, end: number, into?: Uint8Array) {
    const info = this.info(name);
    const whole = Number.isInteger(begin) && Number.isInteger(end);
    if (!whole || begin < 0 || begin > end || end > info.end - info.begin) {
      throw new RangeError(
        `Cannot read bytes ${begin} to ${end} of ${name}: it has ${info.end - info.begin}`,
      );
    }
    const bytes = into ?? new Uint8Array(end - begin);
    if (bytes.length !== end - begin) {
      throw new TypeError(
        `Cannot read bytes ${begin} to ${end} of ${name} into ${bytes.length} bytes`,
      );
    }
    const handle = await this.#take();
    try {
      await readInto(handle, info.begin + begin, bytes, this.path);
    } finally {
      this.#give(handle);
    }
    return bytes;
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

  /** Closes the file; reads that are under way end first. */
  close() {
    this.#closed = true;
    for (const handle of this.#free.splice(0)) handle.close();
  }

  async #take(): Promise<Deno.FsFile> {
    if (this.#closed) throw new InputError(`Cannot read ${this.path}: it was closed`);
    const free = this.#free.pop();
    if (free) return free;
    if (this.#open === MOST_HANDLES) {
      return await new Promise((resolve) => this.#waiting.push(resolve));
    }
    this.#open++;
    try {
      return await this.#another();
    } catch (error) {
      this.#open--;
      throw error;
    }
  }

  /** One more handle, on the very file whose header was checked. */
  async #another(): Promise<Deno.FsFile> {
    const handle = await openFile(this.path);
    try {
      if (identityOf(await handle.stat()) === this.identity) return handle;
      throw new InputError(`Cannot read ${this.path}: it changed while it was in use`);
    } catch (error) {
      handle.close();
      throw error;
    }
  }

  #give(handle: Deno.FsFile) {
    const next = this.#waiting.shift();
    if (next) next(handle);
    else if (this.#closed) handle.close();
    else this.#free.push(handle);
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
  const file = await openFile(path);
  try {
    const stat = await file.stat();
    const { size, isFile } = stat;
    if (!isFile) throw new InputError(`Cannot open ${path}: it is not a file`, { help: OPEN_HELP });
    const first = await readRange(file, 0, Math.min(8, size), path);
    const length = headerLength(first, size, path);
    const header = parseHeader(await readRange(file, 8, 8 + length, path), size, path);
    return new Safetensors(path, file, header.tensors, header.metadata, identityOf(stat));
  } catch (error) {
    file.close();
    throw error;
  }
}

async function openFile(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path);
  } catch (cause) {
    throw new InputError(`Cannot open ${path}: ${fileReason(cause)}`, { cause, help: OPEN_HELP });
  }
}

function identityOf({ dev, ino, size, mtime }: Deno.FileInfo): string {
  return [dev, ino, size, mtime?.getTime()].join();
}

async function readRange(file: Deno.FsFile, begin: number, end: number, path: string) {
  const bytes = new Uint8Array(end - begin);
  await readInto(file, begin, bytes, path);
  return bytes;
}

async function readInto(file: Deno.FsFile, begin: number, bytes: Uint8Array, path: string) {
  await file.seek(begin, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const n = await file.read(bytes.subarray(at));
    if (n === null) throw new InputError(`Cannot read ${path}: it ends at byte ${begin + at}`);
    at += n;
  }
}

/** One tensor to write. f32 data may be stored as F32, F16 or BF16. */
export type TensorToWrite =
  & { shape: readonly number[] }
  & (
    | { dtype: "F32" | "F16" | "BF16"; data: Float32Array }
    | { dtype: "I32"; data: Int32Array }
    | { dtype: "U8"; data: Uint8Array }
  );

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
    ELEMENT_BYTES[y.dtype] - ELEMENT_BYTES[x.dtype] || (a < b ? -1 : 1)
  );
  for (const [name, { shape, data }] of list) {
    const count = shape.reduce((n, d) => n * d, 1);
    if (count === data.length) continue;
    throw new TypeError(
      `Cannot write ${name}: (${shape}) holds ${count} elements, its data ${data.length}`,
    );
  }
  const { header } = planSafetensors(list.map(([name, t]) => ({ name, ...t })), metadata);
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

function encodeData({ dtype, data }: TensorToWrite): Uint8Array {
  const stored = dtype === "F16"
    ? float32ToF16(data)
    : dtype === "BF16"
    ? float32ToBf16(data)
    : data;
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}

/** Writes all bytes at the file's position. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** Makes the renaming of a path itself durable; Windows has no such call and needs none. */
export async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  const slash = path.lastIndexOf("/");
  const folder = await Deno.open(slash < 0 ? "." : path.slice(0, slash + 1));
  try {
    await folder.sync();
  } finally {
    folder.close();
  }
}
