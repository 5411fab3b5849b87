// A disk that keeps a list of what was asked of it and fails at a chosen call. Syncs are counted, not made: no test
// can see one, and hundreds take minutes.

import { DISK, type Files, type NewFile } from "../../../lib/train/checkpoint/files.ts";

/** How a call fails: what the system would say, or, for a write, fewer bytes than given. */
export type Fault = "ENOSPC" | "EIO" | "short";

/** A call, its path relative to the disk's root. */
export interface Call {
  action: string;
  path: string;
}

/** Files that fail. */
export class FaultyFiles implements Files {
  /** Every call so far, the failed ones too. */
  readonly calls: Call[] = [];
  /** Whether the fault came up. */
  failed = false;
  /** What `freeBytes` says. */
  free: number | undefined;

  /**
   * @param root what paths in {@link FaultyFiles.calls} are relative to
   * @param at number of the call that fails, from 1; 0: none
   * @param fault how
   * @param forGood true: every call from then on fails as well
   */
  constructor(
    private readonly root: string,
    private readonly at = 0,
    private readonly fault: Fault = "EIO",
    private readonly forGood = false,
  ) {}

  makeFolder = (path: string) => this.#call("makeFolder", path, () => DISK.makeFolder(path));
  list = (path: string) => this.#call("list", path, () => DISK.list(path));
  rename = (from: string, to: string) => this.#call("rename", from, () => DISK.rename(from, to));
  remove = (path: string) => this.#call("remove", path, () => DISK.remove(path));
  syncFolder = (path: string) => this.#call("syncFolder", path, () => Promise.resolve());
  freeBytes = (path: string) => this.#call("freeBytes", path, () => Promise.resolve(this.free));

  create = async (path: string): Promise<NewFile> => {
    const file = await this.#call("create", path, () => DISK.create(path));
    return {
      write: (bytes) => {
        const half = bytes.subarray(0, Math.ceil(bytes.length / 2));
        return this.#call("write", path, () => file.write(bytes), () => file.write(half));
      },
      sync: () => this.#call("sync", path, () => Promise.resolve()),
      close: () => this.#call("close", path, () => file.close(), () => file.close()),
    };
  };

  async #call<T>(
    action: string,
    path: string,
    pass: () => Promise<T>,
    partly?: () => Promise<T>,
  ): Promise<T> {
    const shown = path.startsWith(this.root) ? path.slice(this.root.length + 1) : path;
    this.calls.push({ action, path: shown });
    const now = this.calls.length;
    const fails = this.at > 0 && (this.forGood ? now >= this.at : now === this.at);
    if (!fails) return await pass();
    this.failed = true;
    const done = await partly?.(); // half of the bytes are there, and the handle is closed, whatever is said
    if (this.fault === "short" && action === "write") return done!;
    const [code, message] = this.fault === "ENOSPC"
      ? ["ENOSPC", "No space left on device (os error 28)"]
      : ["EIO", "Input/output error (os error 5)"];
    throw Object.assign(new Error(message), { code });
  }
}
