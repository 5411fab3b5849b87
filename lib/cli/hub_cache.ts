// The cache that hub tools of every language share: models--org--name/{blobs,refs,snapshots}. A blob is named by the
// digest of its bytes; a snapshot is a folder of links to blobs; a ref is a file that holds the commit of a branch.

import { InputError, ResourceError, UsageError } from "../errors.ts";
import type { HubFile } from "./hub_files.ts";

/** Variables that say where the cache is; the first one that is set counts. */
export const CACHE_VARIABLES = [
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_HOME",
  "XDG_CACHE_HOME",
  "HOME",
  "USERPROFILE",
] as const;

/**
 * The folder of the cache: HF_HUB_CACHE, else `hub` in HF_HOME, else in `huggingface` of the user's cache folder.
 *
 * @throws {UsageError} If no variable says where
 */
export function cacheFolder(env: (name: string) => string | undefined): string {
  const home = env("HOME") || env("USERPROFILE");
  const named = env("HF_HUB_CACHE") || env("HUGGINGFACE_HUB_CACHE");
  const caches = env("XDG_CACHE_HOME") || (home && `${home}/.cache`);
  const hub = env("HF_HOME") || (caches && `${caches}/huggingface`);
  const folder = named || (hub && `${hub}/hub`);
  if (!folder) {
    throw new UsageError("Cannot find the hub's cache: neither HF_HOME nor HOME is set", {
      help: "name a folder with --cache DIR",
    });
  }
  return home ? folder.replace(/^~(?=\/|$)/, home) : folder;
}

/** One repository in the cache. */
export class RepoCache {
  /** `<cache>/models--org--name`. */
  readonly folder: string;

  /** @throws {UsageError} If the name is not `org/name` or `name` */
  constructor(cache: string, repo: string) {
    if (!/^[\w.-]+(\/[\w.-]+)?$/.test(repo) || /(^|\/)\.{1,2}(\/|$)|--/.test(repo)) {
      throw new UsageError(`Cannot download ${repo}: a repository is named org/name`);
    }
    this.folder = `${cache}/models--${repo.replace("/", "--")}`;
  }

  /** Path of the blob of a file; it holds the whole file or is not there. */
  blob(file: HubFile): string {
    return `${this.folder}/blobs/${file.etag}`;
  }

  snapshot(commit: string): string {
    return `${this.folder}/snapshots/${commit}`;
  }

  /** True if the file's blob is here. One of another size was damaged after its digest had been checked: it goes. */
  async has(file: HubFile): Promise<boolean> {
    const info = await infoOf(this.blob(file));
    if (info === undefined) return false;
    if (info.size === file.sizeBytes) return true;
    await Deno.remove(this.blob(file));
    return false;
  }

  /** Bytes of the file that an earlier call left. */
  async partBytes(file: HubFile): Promise<number> {
    const info = await infoOf(`${this.blob(file)}.incomplete`);
    return Math.min(info?.size ?? 0, file.sizeBytes);
  }

  /** Makes the folders that a download writes to. */
  async prepare(commit: string): Promise<void> {
    for (const folder of [`${this.folder}/blobs`, this.snapshot(commit)]) {
      try {
        await Deno.mkdir(folder, { recursive: true });
      } catch (cause) {
        if (cause instanceof Deno.errors.NotCapable) throw cause;
        throw new ResourceError(`Cannot make ${folder}: ${(cause as Error).message}`, {
          help: "name a folder that can be written to with --cache DIR",
          cause,
        });
      }
    }
  }

  /**
   * Puts a blob into a snapshot under the file's name: a relative link, or a hard link where this process or the
   * file system has no right to make links.
   */
  async link(commit: string, file: HubFile): Promise<void> {
    const path = `${this.snapshot(commit)}/${file.path}`;
    const up = "../".repeat(2 + file.path.split("/").length - 1);
    const target = `${up}blobs/${file.etag}`;
    if (await isSameFile(path, this.blob(file))) return;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const temporary = `${this.folder}/blobs/${file.etag}.link`;
    await Deno.remove(temporary).catch(ifThere);
    try {
      await Deno.symlink(target, temporary);
    } catch (error) {
      const refused = error instanceof Deno.errors.NotCapable ||
        error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotSupported;
      if (!refused) throw error;
      await Deno.link(this.blob(file), temporary);
    }
    await Deno.rename(temporary, path);
  }

  /** Remembers the commit of a branch or tag, once its snapshot is complete. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = `${this.folder}/refs/${revision}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(`${path}.tmp`, commit);
    await Deno.rename(`${path}.tmp`, path);
  }
}

/**
 * Checks a branch, tag or commit before it becomes part of a path.
 *
 * @throws {UsageError} If it cannot be one
 */
export function checkRevision(revision: string): void {
  if (/^[\w.][\w.+-]*(\/[\w.][\w.+-]*)*$/.test(revision) && !/(^|\/)\.{1,2}(\/|$)/.test(revision)) {
    return;
  }
  throw new UsageError(`Cannot download revision ${JSON.stringify(revision)}`, {
    help: "--revision takes a branch, a tag or a commit",
  });
}

/**
 * The commit a hub gives for a revision, checked.
 *
 * @throws {InputError} If it is not 40 hex digits
 */
export function checkCommit(repo: string, commit: unknown): string {
  if (typeof commit === "string" && /^[0-9a-f]{40}$/.test(commit)) return commit;
  throw new InputError(`Cannot download ${repo}: the hub gives ${commit} as its commit`, {
    help: "this is not a model hub: check --endpoint",
  });
}

/** The folder itself, or the nearest one above it that is there. */
export async function existingPart(folder: string): Promise<string> {
  let path = folder;
  while (await infoOf(path) === undefined) {
    const cut = path.lastIndexOf("/");
    if (cut < 0) return ".";
    path = path.slice(0, cut) || "/";
  }
  return path;
}

async function infoOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    return ifThere(error);
  }
}

/** True if two paths lead to one file, by whatever kind of link. */
async function isSameFile(path: string, other: string): Promise<boolean> {
  const [a, b] = [await infoOf(path), await infoOf(other)];
  return a !== undefined && b !== undefined && a.ino !== null && a.ino === b.ino && a.dev === b.dev;
}

/** Passes over "not found", also below what is a file, and nothing else. */
function ifThere(error: unknown): undefined {
  if (error instanceof Deno.errors.NotFound) return undefined;
  if (error instanceof Deno.errors.NotADirectory) return undefined;
  throw error;
}
