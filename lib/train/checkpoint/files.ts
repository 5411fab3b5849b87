// The calls by which checkpoints become durable, in one small record: a test passes one that fails at the k-th call.
// Each failure comes out as one kind of error that knows its path and whether the disk was full.

import { statfs } from "node:fs/promises";
import { fileReason } from "../../data/jsonl.ts";
import { ResourceError } from "../../errors.ts";

/** A file that is being written. */
export interface NewFile {
  /** Writes some of the bytes, at least one, and says how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Returns when all that was written is on the disk for good. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** What checkpoints need of a file system. Paths are whole; errors are the system's. */
export interface Files {
  /** Makes a folder and those above it; one that exists is fine. */
  makeFolder(path: string): Promise<void>;
  /** Names in a folder, sorted, or null if there is no folder. */
  list(path: string): Promise<string[] | null>;
  /** Makes a file, or empties it. */
  create(path: string): Promise<NewFile>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a folder with all in it; an absent one is fine. */
  remove(path: string): Promise<void>;
  /** Makes the names in a folder durable. */
  syncFolder(path: string): Promise<void>;
  /** Free bytes of the disk a folder lies on, if that can be told. */
  freeBytes(path: string): Promise<number | undefined>;
}

/** The disk. Free bytes need `--allow-sys=statfs` and are unknown without. */
export const DISK: Files = {
  makeFolder: (path) => Deno.mkdir(path, { recursive: true }),
  list: async (path) => {
    const names = await unlessAbsent(async () => {
      const found: string[] = [];
      for await (const { name } of Deno.readDir(path)) found.push(name);
      return found;
    });
    return names?.sort() ?? null;
  },
  create: async (path) => {
    const file = await Deno.open(path, { write: true, create: true, truncate: true });
    return {
      write: (bytes) => file.write(bytes),
      sync: () => file.sync(),
      close: () => Promise.resolve(file.close()),
    };
  },
  rename: (from, to) => Deno.rename(from, to),
  remove: async (path) => void await unlessAbsent(() => Deno.remove(path, { recursive: true })),
  syncFolder: async (path) => {
    if (Deno.build.os === "windows") return; // folders cannot be opened there
    using folder = await Deno.open(path);
    await folder.sync();
  },
  freeBytes: async (path) => {
    try {
      const { bavail, bsize } = await statfs(path);
      return bavail * bsize;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) return undefined;
      throw error;
    }
  },
};

async function unlessAbsent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** A call of {@link Files} that failed (exit 4). */
export class FileFault extends ResourceError {
  constructor(
    /** What was tried, such as `write`. */
    readonly action: string,
    readonly path: string,
    /** The system's words. */
    readonly reason: string,
    /** Whether there was no room: another try after making some may pass. */
    readonly full: boolean,
    cause?: unknown,
  ) {
    super(`Cannot ${action} ${path}: ${reason}`, {
      help: "check space and rights of the disk",
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

/** Codes of the system for a disk or a quota that is used up. */
const FULL = ["ENOSPC", "EDQUOT"];

/** Runs one call; what the system says against it becomes a {@link FileFault}. */
export async function told<T>(action: string, path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof FileFault || cause instanceof Deno.errors.NotCapable) throw cause;
    const full = FULL.includes((cause as { code?: string }).code ?? "");
    throw new FileFault(action, path, fileReason(cause), full, cause);
  }
}

/** The same file system, failing with {@link FileFault}. */
export function tellingFiles(files: Files): Files {
  return {
    makeFolder: (path) => told("make folder", path, () => files.makeFolder(path)),
    list: (path) => told("list", path, () => files.list(path)),
    create: async (path) => {
      const file = await told("create", path, () => files.create(path));
      return {
        write: (bytes) => told("write", path, () => file.write(bytes)),
        sync: () => told("sync", path, () => file.sync()),
        close: () => told("close", path, () => file.close()),
      };
    },
    rename: (from, to) => told("rename", from, () => files.rename(from, to)),
    remove: (path) => told("remove", path, () => files.remove(path)),
    syncFolder: (path) => told("sync folder", path, () => files.syncFolder(path)),
    freeBytes: (path) => told("look for free space at", path, () => files.freeBytes(path)),
  };
}
