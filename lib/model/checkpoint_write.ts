// Writes a checkpoint folder: safetensors files tensor by tensor, then what travels along. It grows under another
// name; a journal says what is on the disk for good, so that a killed process goes on there.

import { planSafetensors } from "../data/safetensors_plan.ts";
import { writeAll } from "../data/safetensors.ts";
import { ResourceError } from "../errors.ts";
import { isPacked } from "../packed_layout.ts";
import { Journal, writing } from "./checkpoint_journal.ts";
import { packedEntry } from "./checkpoint_packed.ts";
import { type OutTensor, plannedTensor, rowsOf, type Tally } from "./checkpoint_rows.ts";
import { FolderWriter, type PlannedFile } from "./checkpoint_writer.ts";

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
    const writer = new FolderWriter(journal, planned, options);
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

function planFile(file: OutFile): PlannedFile {
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
