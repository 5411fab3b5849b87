// What identifies a run: hashes of its settings and of the sources that ran, and the commit they were
// checked out from. The hash of the sources also identifies a tree that was never committed.

import { createHash } from "node:crypto";
import { InputError } from "../errors.ts";
import type { Json } from "./config.ts";

/** Folders and files whose content decides what a run computes. */
const SOURCES = ["deno.lock", "experiments", "kernels", "lib"] as const;

/** SHA-256 of text or bytes, in hexadecimal. */
export function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** JSON with sorted keys and no spaces: equal values give equal text. */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = Object.keys(value).sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key])}`);
  return `{${fields.join(",")}}`;
}

/**
 * SHA-256 over `lib kernels experiments deno.lock`: each file's path, size and bytes, in path order.
 * Hidden files are left out; a missing `experiments` or lock counts as empty.
 *
 * @param root repository root
 * @throws {InputError} If there is no `lib` in it
 */
export function hashSources(root: string): string {
  const hash = createHash("sha256");
  let inLib = 0;
  for (const path of SOURCES.flatMap((name) => filesUnder(root, name))) {
    const bytes = Deno.readFileSync(`${root}/${path}`);
    hash.update(`${path}\0${bytes.length}\0`).update(bytes);
    if (path.startsWith("lib/")) inLib += 1;
  }
  if (inLib === 0) throw new InputError(`Cannot identify the sources: no lib folder in ${root}`);
  return hash.digest("hex");
}

/** Relative paths of the files under `path`, sorted by code unit; none if it does not exist. */
function filesUnder(root: string, path: string): string[] {
  const info = orNull(() => Deno.statSync(`${root}/${path}`), [Deno.errors.NotFound]);
  if (info === null) return [];
  if (info.isFile) return [path];
  return [...Deno.readDirSync(`${root}/${path}`)]
    .filter((entry) => !entry.name.startsWith(".") && !entry.isSymlink)
    .map((entry) => entry.name)
    .sort()
    .flatMap((name) => filesUnder(root, `${path}/${name}`));
}

/**
 * The commit that is checked out, read from `.git` without running git.
 *
 * @param root repository root
 * @returns 40 or 64 hexadecimal digits, or null if there is no repository, no commit yet, or the
 *   repository's data lies where this process may not read (a linked worktree)
 */
export function readCommit(root: string): string | null {
  let git = `${root}/.git`;
  const info = statOrNull(git);
  if (info === null) return null;
  if (info.isFile) { // a linked worktree: "gitdir: <path>"
    const target = readOrNull(git)?.replace(/^gitdir: /, "").trim();
    if (target === undefined) return null;
    git = target.startsWith("/") ? target : `${root}/${target}`;
  }
  const head = readOrNull(`${git}/HEAD`)?.trim();
  if (head === undefined) return null;
  if (!head.startsWith("ref: ")) return hexOrNull(head);
  const ref = head.slice("ref: ".length);
  const shared = readOrNull(`${git}/commondir`)?.trim();
  const common = shared === undefined ? git : shared.startsWith("/") ? shared : `${git}/${shared}`;
  const loose = readOrNull(`${common}/${ref}`)?.trim();
  if (loose !== undefined) return hexOrNull(loose);
  const packed = readOrNull(`${common}/packed-refs`)?.split("\n") ?? [];
  const line = packed.find((entry) => entry.endsWith(` ${ref}`));
  return line === undefined ? null : hexOrNull(line.split(" ")[0]);
}

const hexOrNull = (text: string) => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(text) ? text : null;

/** What `read` gives, or null if it fails in one of these ways; any other failure is thrown. */
function orNull<T>(
  read: () => T,
  answers: readonly (new (message: string) => Error)[],
): T | null {
  try {
    return read();
  } catch (error) {
    if (answers.some((kind) => error instanceof kind)) return null;
    throw error;
  }
}

/** For the commit, absent and out of reach both mean unknown. */
const UNKNOWN = [Deno.errors.NotFound, Deno.errors.NotCapable];
const readOrNull = (path: string) =>
  orNull(() => Deno.readTextFileSync(path), UNKNOWN) ?? undefined;
const statOrNull = (path: string) => orNull(() => Deno.statSync(path), UNKNOWN);
