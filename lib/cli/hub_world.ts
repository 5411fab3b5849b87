// What a download takes from the system, as a record: network, clocks, free space, environment, stderr.

import { statfs } from "node:fs/promises";

/** An open file, as far as a download uses it. */
export type PartFile = Pick<
  Deno.FsFile,
  "read" | "write" | "seek" | "truncate" | "stat" | "sync" | "tryLockSync" | "close"
>;

/** What a download needs from the system; tests pass theirs. */
export interface HubWorld {
  fetch(url: string, init: RequestInit): Promise<Response>;
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** The date, in milliseconds since 1970: servers may name the moment to try again. */
  date(): number;
  /** Waits, or rejects with the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Calls back once after a while. @returns what calls it off */
  alarm(ms: number, ring: () => void): () => void;
  /** Free bytes on the disk of an existing folder; undefined where this process may not ask. */
  freeBytes(folder: string): Promise<number | undefined>;
  /** Opens a file to read and write, making it where it is missing. */
  open(path: string): Promise<PartFile>;
  rename(from: string, to: string): Promise<void>;
  /** Makes a rename in a folder last through a loss of power. */
  syncFolder(path: string): Promise<void>;
  /** Milliseconds without a byte after which a connection counts as cut. */
  idleMs: number;
  /** A variable of the environment. */
  env(name: string): string | undefined;
  /** Writes to stderr. */
  write(text: string): void;
}

/** This process. */
export function thisHubWorld(): HubWorld {
  return {
    fetch: (url, init) => fetch(url, init),
    now: () => performance.now(),
    date: () => Date.now(),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const stop = () => {
          clearTimeout(timer);
          reject(signal.reason);
        };
        const timer = setTimeout(() => {
          signal.removeEventListener("abort", stop);
          resolve();
        }, ms);
        if (signal.aborted) stop();
        else signal.addEventListener("abort", stop, { once: true });
      }),
    alarm: (ms, ring) => {
      const timer = setTimeout(ring, ms);
      return () => clearTimeout(timer);
    },
    freeBytes: async (folder) => {
      try {
        const { bavail, bsize } = await statfs(folder);
        return bavail * bsize;
      } catch (error) {
        if (error instanceof Deno.errors.NotCapable) return undefined;
        throw error;
      }
    },
    open: (path) => Deno.open(path, { read: true, write: true, create: true }),
    rename: (from, to) => Deno.rename(from, to),
    syncFolder: async (path) => {
      if (Deno.build.os === "windows") return; // folders cannot be opened there
      using folder = await Deno.open(path);
      await folder.sync();
    },
    idleMs: 60_000,
    env: (name) => Deno.env.get(name),
    write: (text) => void Deno.stderr.writeSync(new TextEncoder().encode(text)),
  };
}
