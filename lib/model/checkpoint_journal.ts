// A folder that is written over minutes: it grows under another name, a journal says what of it is on the disk for
// good, and it gets its name when it is complete. A process that was killed goes on from the journal.

import { fileReason } from "../data/jsonl.ts";
import { syncFolder, writeAll } from "../data/safetensors.ts";
import { EXIT, InputError, LabError, ResourceError, UsageError } from "../errors.ts";

/** Another process is writing the folder (exit 6). */
export class BusyError extends LabError {
  override readonly exitCode = EXIT.busy;
}

const JOURNAL = "journal.jsonl";

/** A folder under construction, locked by this process. */
export class Journal<T> {
  #closed = false;

  private constructor(
    /** Where the files grow: the final name with `.partial`. */
    readonly partial: string,
    private readonly out: string,
    private readonly file: Deno.FsFile,
    /** Entries of earlier processes. */
    readonly entries: readonly T[],
  ) {}

  /**
   * Starts or resumes a folder.
   *
   * @param out the final name; it must not exist
   * @param plan what the folder's bytes depend on; only an unfinished folder of the same plan is resumed
   * @param force true: whatever is unfinished is removed
   * @throws {UsageError} If the folder exists, or an unfinished one has another plan
   * @throws {BusyError} If another process is at it
   * @throws {ResourceError} If it cannot be written
   */
  static async open<T>(out: string, plan: string, force = false): Promise<Journal<T>> {
    if (await exists(out)) {
      throw new UsageError(`Cannot write ${out}: it exists`, {
        help: "give another folder by --out, or remove this one",
      });
    }
    const partial = `${out}.partial`;
    const path = `${partial}/${JOURNAL}`;
    const strange = await exists(partial) && !await exists(path) && !await isEmpty(partial);
    if (strange && !force) throw refuse(partial, "it has no journal");
    const file = await writing(partial, async () => {
      await Deno.mkdir(partial, { recursive: true });
      return await Deno.open(path, { read: true, write: true, create: true });
    });
    try {
      if (!file.tryLockSync(true)) {
        throw new BusyError(`Cannot write ${out}: another process is at it`, {
          help: "wait until it ends, or give another folder by --out",
        });
      }
      const { head, entries, bytes } = readLines<T>(await Deno.readTextFile(path));
      const digest = await sha256(plan);
      if (head?.plan === digest && !force) {
        await writing(path, () => file.truncate(bytes)); // a line that was cut short goes
        await file.seek(0, Deno.SeekMode.End);
        return new Journal(partial, out, file, entries);
      }
      if (head && !force) {
        throw refuse(partial, "it was begun from other weights or with other settings");
      }
      await writing(partial, async () => {
        for await (const entry of Deno.readDir(partial)) {
          if (entry.name !== JOURNAL) await Deno.remove(`${partial}/${entry.name}`);
        }
        await file.truncate();
        await file.seek(0, Deno.SeekMode.Start);
        await append(file, { plan: digest });
      });
      return new Journal<T>(partial, out, file, []);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Notes what is on the disk for good: call it after the files were synced. */
  async add(entries: readonly T[]): Promise<void> {
    await writing(this.partial, () => append(this.file, ...entries));
  }

  /** Gives the complete folder its name and removes the journal, whose lock ends here. */
  async finish(): Promise<void> {
    this.close(); // some systems rename no folder with an open file
    await writing(this.out, async () => {
      await syncFolder(`${this.partial}/.`);
      await Deno.rename(this.partial, this.out);
      await Deno.remove(`${this.out}/${JOURNAL}`);
      await syncFolder(this.out);
    });
  }

  /** Removes the unfinished folder. */
  async discard(): Promise<void> {
    await writing(this.partial, () => Deno.remove(this.partial, { recursive: true }));
  }

  close(): void {
    if (!this.#closed) this.file.close();
    this.#closed = true;
  }
}

async function append(file: Deno.FsFile, ...lines: unknown[]): Promise<void> {
  const text = lines.map((line) => JSON.stringify(line) + "\n").join("");
  await writeAll(file, new TextEncoder().encode(text));
  await file.sync();
}

/** The complete lines, and how many bytes they have. */
function readLines<T>(text: string): { head?: { plan?: string }; entries: T[]; bytes: number } {
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const lines: unknown[] = [];
  for (const line of whole.split("\n").slice(0, -1)) {
    try {
      lines.push(JSON.parse(line));
    } catch {
      lines.length = 0; // zeros where a crash lost the bytes: nothing of this journal is to be trusted
      lines.push({ plan: "unreadable" });
      break;
    }
  }
  const [head, ...entries] = lines;
  const bytes = new TextEncoder().encode(whole).length;
  return {
    ...(head === undefined ? {} : { head: head as { plan?: string } }),
    entries: entries as T[],
    bytes,
  };
}

function refuse(partial: string, why: string): UsageError {
  return new UsageError(`Cannot go on with ${partial}: ${why}`, {
    help: "--force removes it and starts over",
  });
}

/** Runs a write; what the system says against it becomes a ResourceError with the way on. */
export async function writing<R>(path: string, work: () => Promise<R>): Promise<R> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof LabError || cause instanceof Deno.errors.NotCapable) throw cause;
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: "check space and rights of the disk; the same command goes on where it stopped",
    });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw new InputError(`Cannot look at ${path}: ${fileReason(cause)}`, { cause });
  }
}

async function isEmpty(dir: string): Promise<boolean> {
  for await (const _ of Deno.readDir(dir)) return false;
  return true;
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex();
}
