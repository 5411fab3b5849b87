// The tensors of a checkpoint folder on their way to the disk, in blocks of rows: while one block is encoded, the
// next ones are read and the one before is written. What was synced is noted in the journal.

import { syncFolder, writeAll } from "../data/safetensors.ts";
import { ResourceError } from "../errors.ts";
import { isPacked } from "../packed_layout.ts";
import { type Journal, writing } from "./checkpoint_journal.ts";
import {
  encodeRows,
  type OutTensor,
  rowsOf,
  sourceRowBytes,
  type Tally,
} from "./checkpoint_rows.ts";
import type { OutFile, WriteOptions } from "./checkpoint_write.ts";

/** A file with its plan. */
export interface PlannedFile extends OutFile {
  header: Uint8Array<ArrayBuffer>;
  offsets: number[];
}

/** A block of rows. */
interface Block {
  file: PlannedFile;
  /** Number of the tensor in its file. */
  index: number;
  first: number;
  rows: number;
}

/** Blocks that are read before their turn. */
const AHEAD = 3;

/** Writes the tensors of all files in order, from where an earlier process came to. */
export class FolderWriter {
  /** By name in the file: of the packed tensors. */
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
    private readonly files: readonly PlannedFile[],
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
          const { rows } = rowsOf(tensor.shape);
          const most = Math.max(1, Math.floor(blockBytes / sourceRowBytes(tensor)));
          for (let first = 0; first < rows; first += most) {
            this.#blocks.push({ file, index, first, rows: Math.min(most, rows - first) });
          }
        }
        count++;
      });
    }
  }

  /**
   * Writes what is left.
   *
   * @throws {ResourceError} If writing fails, or the journal speaks of bytes that a file does not have
   * @throws {InputError} If a value that is to be packed is not finite
   */
  async run(): Promise<void> {
    await this.#checkResumed();
    const blocks = this.#blocks;
    const memory: ArrayBuffer[] = [];
    // Alive are blocks being read, one being encoded, and one, which may be the same bytes, being written.
    const slots = AHEAD + 2;
    const read = async (at: number): Promise<Uint8Array<ArrayBuffer>> => {
      const { file, index, first, rows } = blocks[at];
      const tensor = file.tensors[index];
      const length = rows * sourceRowBytes(tensor);
      const slot = at % slots;
      if ((memory[slot]?.byteLength ?? 0) < length) memory[slot] = new ArrayBuffer(length);
      const bytes = new Uint8Array(memory[slot], 0, length);
      await tensor.source.read(first, bytes);
      return bytes;
    };
    const reads: Promise<Uint8Array<ArrayBuffer>>[] = [];
    let [asked, writes] = [0, Promise.resolve()];
    try {
      for (let at = 0; at < blocks.length; at++) {
        this.options.signal?.throwIfAborted();
        while (asked < blocks.length && asked <= at + AHEAD) {
          const next = read(asked++);
          next.catch(() => undefined); // thrown where it is awaited; an error of an earlier block may come first
          reads.push(next);
        }
        const encoded = this.#encode(blocks[at], await reads.shift()!);
        await writes;
        writes = this.#write(blocks[at], encoded);
        writes.catch(() => undefined);
      }
      await writes;
    } finally {
      await Promise.allSettled([...reads, writes]);
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
  async #open(path: string, { header, offsets }: PlannedFile, index: number): Promise<Deno.FsFile> {
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
