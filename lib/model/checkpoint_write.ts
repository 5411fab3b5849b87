// Writes a checkpoint folder tensor by tensor, in blocks of rows: while one block is encoded, the next is read and
// the one before is written. What was synced is in a journal, so that a killed process goes on there.

import { planSafetensors } from "../data/safetensors_plan.ts";
import { syncFolder, writeAll } from "../data/safetensors.ts";
import { ResourceError } from "../errors.ts";
import { isPacked } from "../packed_layout.ts";
import { Journal, writing } from "./checkpoint_journal.ts";
import { packedEntry } from "./checkpoint_packed.ts";
import {
  encodeRows,
  FLOAT_BYTES,
  type OutTensor,
  plannedTensor,
  rowsOf,
  type Tally,
} from "./checkpoint_rows.ts";

/** A safetensors file of the folder. */
export interface OutFile {
  name: string;
  tensors: OutTensor[];
}

/** A further file of the folder: a text, or a copy of another file. */
export type SideFile = { name: string } & ({ text: string } | { copyOf: string; bytes: number });

/** How far writing is. */
export interface WriteState {
  /** Of all files' data. */
  doneBytes: number;
  totalBytes: number;
  /** The tensor at hand. */
  tensor: string;
  /** Tensors of an earlier process that need not be written again. */
  resumed: number;
}

/** How a folder is written. */
export interface WriteOptions {
  /** What the bytes depend on besides names and shapes: the source files, a seed. */
  identity: string;
  /** Remove an unfinished folder that cannot be resumed. Default: false. */
  force?: boolean;
  /** Free bytes of the disk that a path lies on, if that can be told. */
  freeBytes?: (path: string) => number | undefined;
  onProgress?: (state: WriteState) => void;
  /** Aborting stops after the block at hand; the same call goes on. */
  signal?: AbortSignal;
  /** Bytes read at a time. Default: 16 MiB. */
  blockBytes?: number;
  /** Bytes written between syncs. Default: 256 MiB. */
  syncBytes?: number;
}

/** What was written. */
export interface Written {
  /** By name in the file: how far the packed tensors are from what they were. */
  tallies: Map<string, Tally>;
  /** Of all files. */
  bytes: number;
}

/** A file with its plan. */
interface Planned extends OutFile {
  header: Uint8Array<ArrayBuffer>;
  offsets: number[];
}

/** A block of rows. */
interface Block {
  file: Planned;
  /** Number of the tensor in its file. */
  index: number;
  first: number;
  rows: number;
}

/**
 * Writes a folder; it gets its name when it is complete.
 *
 * @param out its name
 * @param files safetensors files, in order
 * @param side further files, known before the first tensor is written
 * @param last those that depend on what was written
 * @throws {UsageError} If `out` exists, or an unfinished folder of another plan does and `force` is not set
 * @throws {ResourceError} Before anything is written if the disk has too little space, or if writing fails
 * @throws {InputError} If a value that is to be packed is not finite, naming tensor, row and column
 */
export async function writeFolder(
  out: string,
  files: readonly OutFile[],
  side: readonly SideFile[],
  last: (written: Written) => SideFile[],
  options: WriteOptions,
): Promise<Written> {
  const planned = files.map(planFile);
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
  const bytes = sum(planned.map(({ offsets }) => offsets.at(-1)!)) + sum(side.map(sizeOf));
  const plan = JSON.stringify([
    options.identity,
    planned.map(({ name, header }) => [name, new TextDecoder().decode(header.subarray(8))]),
    side.map((file) => "text" in file ? file : [file.name, file.bytes]),
  ]);
  const journal = await Journal.open<Tally>(out, plan, options.force);
  try {
    const writer = new Writer(journal, planned, options);
    try {
      checkSpace(out, bytes - writer.doneBytes, options);
    } catch (error) {
      if (journal.entries.length === 0) await journal.discard();
      throw error;
    }
    await writer.run();
    const written = { tallies: writer.tallies, bytes };
    for (const file of [...side, ...last(written)]) {
      options.signal?.throwIfAborted();
      await writeSide(`${journal.partial}/${file.name}`, file, options.signal);
    }
    await journal.finish();
    return written;
  } finally {
    journal.close();
  }
}

const sizeOf = (file: SideFile) => "text" in file ? file.text.length : file.bytes;

function planFile(file: OutFile): Planned {
  const packed = file.tensors.filter(({ stored }) => isPacked(stored)).map((tensor) => {
    const { name, stored, shape } = tensor;
    if (!isPacked(stored)) throw new TypeError(`internal: ${name} is not packed`);
    return packedEntry(name, { format: stored, ...rowsOf(shape) });
  });
  const metadata = { format: "pt", ...Object.fromEntries(packed) };
  return { ...file, ...planSafetensors(file.tensors.map(plannedTensor), metadata) };
}

function checkSpace(out: string, neededBytes: number, { freeBytes }: WriteOptions): void {
  const free = freeBytes?.(`${out}.partial`);
  if (free === undefined || free >= neededBytes) return;
  throw new ResourceError(
    `Cannot write ${out}: it needs ${neededBytes} more bytes, the disk has ${free} free`,
    { help: "free space, or give a folder on another disk by --out" },
  );
}

/** Writes or copies a file; the copy is the user's own, whatever rights the original has. */
async function writeSide(path: string, file: SideFile, signal?: AbortSignal): Promise<void> {
  await writing(path, async () => {
    const to = await Deno.open(path, { write: true, create: true, truncate: true });
    try {
      if ("text" in file) await writeAll(to, new TextEncoder().encode(file.text));
      else {
        using from = await Deno.open(file.copyOf);
        const block = new Uint8Array(COPY_BYTES);
        for (let n = await from.read(block); n !== null; n = await from.read(block)) {
          signal?.throwIfAborted();
          await writeAll(to, block.subarray(0, n));
        }
      }
      await to.sync();
    } finally {
      to.close();
    }
  });
}

const COPY_BYTES = 2 ** 23;

/** Writes the tensors of all files in order. */
class Writer {
  readonly tallies = new Map<string, Tally>();
  readonly #blocks: Block[] = [];
  readonly #resumed: number;
  #file: Deno.FsFile | undefined;
  #tally: Tally = { error: 0, size: 0 };
  #finished: Tally[] = [];
  #unsynced = 0;
  #totalBytes = 0;
  /** Of the tensors; those of an earlier process count. */
  doneBytes = 0;

  constructor(
    private readonly journal: Journal<Tally>,
    private readonly files: readonly Planned[],
    private readonly options: WriteOptions,
  ) {
    const blockBytes = options.blockBytes ?? 2 ** 24;
    this.#resumed = journal.entries.length;
    let count = 0;
    for (const file of files) {
      this.#totalBytes += file.offsets.at(-1)! - file.offsets[0];
      file.tensors.forEach((tensor, index) => {
        if (count < this.#resumed) {
          this.#note(tensor, journal.entries[count]);
          this.doneBytes += file.offsets[index + 1] - file.offsets[index];
        } else {
          const { rows, columns } = rowsOf(tensor.shape);
          const rowBytes = columns * FLOAT_BYTES[tensor.source.dtype];
          const most = Math.max(1, Math.floor(blockBytes / rowBytes));
          for (let first = 0; first < rows; first += most) {
            this.#blocks.push({ file, index, first, rows: Math.min(most, rows - first) });
          }
        }
        count++;
      });
    }
  }

  async run(): Promise<void> {
    await this.#checkResumed();
    const blocks = this.#blocks;
    const memory: ArrayBuffer[] = [];
    // Three blocks are alive: one is read, one is encoded, and one, which may be the same bytes, is written.
    const read = async (at: number): Promise<Uint8Array<ArrayBuffer>> => {
      const { file, index, first, rows } = blocks[at];
      const { source, shape } = file.tensors[index];
      const length = rows * rowsOf(shape).columns * FLOAT_BYTES[source.dtype];
      const slot = at % 3;
      if ((memory[slot]?.byteLength ?? 0) < length) memory[slot] = new ArrayBuffer(length);
      const bytes = new Uint8Array(memory[slot], 0, length);
      await source.read(first, bytes);
      return bytes;
    };
    let reading = blocks.length > 0 ? read(0) : undefined;
    let writes: Promise<void> = Promise.resolve();
    try {
      for (let at = 0; at < blocks.length; at++) {
        this.options.signal?.throwIfAborted();
        const bytes = await reading!;
        if (at + 1 < blocks.length) reading = read(at + 1);
        const encoded = this.#encode(blocks[at], bytes);
        await writes;
        writes = this.#write(blocks[at], encoded);
        writes.catch(() => undefined); // thrown where it is awaited; an error of the next block may come first
        reading!.catch(() => undefined);
      }
      await writes;
    } finally {
      await Promise.allSettled([reading, writes]);
      this.#file?.close();
    }
  }

  /** The journal's word against what the files hold. */
  async #checkResumed(): Promise<void> {
    let left = this.#resumed;
    for (const { name, tensors, offsets } of this.files) {
      if (left === 0) return;
      const done = Math.min(left, tensors.length);
      left -= done;
      const path = `${this.journal.partial}/${name}`;
      const { size } = await writing(path, () => Deno.stat(path));
      if (size >= offsets[done]) continue;
      throw new ResourceError(
        `Cannot go on with ${path}: it has ${size} bytes, by the journal ${offsets[done]}`,
        { help: "--force removes the unfinished folder and starts over" },
      );
    }
  }

  #encode({ file, index, first }: Block, bytes: Uint8Array<ArrayBuffer>): Uint8Array {
    if (first === 0) this.#tally = { error: 0, size: 0 };
    return encodeRows(file.tensors[index], first, bytes, this.#tally);
  }

  async #write(block: Block, bytes: Uint8Array): Promise<void> {
    const { file, index, first, rows } = block;
    const tensor = file.tensors[index];
    const tally = this.#tally;
    const path = `${this.journal.partial}/${file.name}`;
    const ends = first + rows === rowsOf(tensor.shape).rows;
    await writing(path, async () => {
      this.#file ??= await this.#open(path, file, index);
      await writeAll(this.#file, bytes);
      this.doneBytes += bytes.length;
      this.#unsynced += bytes.length;
      if (!ends) return;
      this.#note(tensor, tally);
      this.#finished.push(tally);
      const fileEnds = index === file.tensors.length - 1;
      if (!fileEnds && this.#unsynced < (this.options.syncBytes ?? 2 ** 28)) return;
      await this.#file.sync();
      this.#unsynced = 0;
      if (fileEnds) {
        this.#file.close();
        this.#file = undefined;
      }
      await syncFolder(path);
      await this.journal.add(this.#finished.splice(0));
    });
    this.options.onProgress?.({
      doneBytes: this.doneBytes,
      totalBytes: this.#totalBytes,
      tensor: tensor.name,
      resumed: this.#resumed,
    });
  }

  /** A file at the first byte of a tensor; what lies behind it was not in the journal and goes. */
  async #open(path: string, { header, offsets }: Planned, index: number): Promise<Deno.FsFile> {
    const handle = await Deno.open(path, { write: true, create: true });
    try {
      if (index === 0) {
        await handle.truncate();
        await writeAll(handle, header);
      } else {
        await handle.truncate(offsets[index]);
        await handle.seek(offsets[index], Deno.SeekMode.Start);
      }
      return handle;
    } catch (error) {
      handle.close();
      throw error;
    }
  }

  #note(tensor: OutTensor, tally: Tally): void {
    if (isPacked(tensor.stored)) this.tallies.set(tensor.name, tally);
  }
}
