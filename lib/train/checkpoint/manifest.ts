// What a checkpoint folder says of itself: every file with its size and SHA-256, under a digest of the list. A folder
// is whole if all of it matches; anything else about it is not looked at.

import { createHash } from "node:crypto";
import { fileReason } from "../../data/jsonl.ts";
import { InputError } from "../../errors.ts";
import { stepOf } from "./names.ts";

/** Version of the layout of a checkpoint folder. */
export const FORMAT = 1;
/** Name of the list in its folder. */
export const MANIFEST = "manifest.json";

const LONGEST = 2 ** 20; // bytes of a list that is read
const BLOCK = 2 ** 22; // bytes hashed at a time

/** A file of a checkpoint. */
export interface FileEntry {
  name: string;
  bytes: number;
  /** In hexadecimal. */
  sha256: string;
}

/** The list of a checkpoint. */
export interface Manifest {
  format: typeof FORMAT;
  /** Steps done. */
  step: number;
  /** Number of the session that wrote it: of two checkpoints, the later session's is the newer. */
  session: number;
  /** In the order they were written. */
  files: FileEntry[];
}

/** The text of the list, which ends with the digest of the rest of it: no byte of it can change unseen. */
export function manifestText({ format, step, session, files }: Manifest): string {
  const list = files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 }));
  const content = { format, step, session, files: list };
  const digest = sha256(JSON.stringify(content));
  return JSON.stringify({ ...content, sha256: digest }, null, 2) + "\n";
}

/** SHA-256 of the list's text: stands for the whole checkpoint. */
export function manifestDigest(manifest: Manifest): string {
  return sha256(manifestText(manifest));
}

/** Bytes of all files of a checkpoint, the list included. */
export function manifestBytes(manifest: Manifest): number {
  const list = new TextEncoder().encode(manifestText(manifest)).length;
  return manifest.files.reduce((sum, { bytes }) => sum + bytes, list);
}

/**
 * Reads the list of a folder.
 *
 * @throws {InputError} If it is missing, damaged, of another format, or of another step than the folder's name
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const path = `${folder}/${MANIFEST}`;
  const bad = (what: string, cause?: unknown) =>
    new InputError(`Cannot use checkpoint ${folder}: ${what}`, cause ? { cause } : {});
  let text: string;
  try {
    const { size } = await Deno.lstat(path);
    if (size > LONGEST) throw bad(`${MANIFEST} has ${size} bytes, at most ${LONGEST} are read`);
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    if (cause instanceof Deno.errors.NotFound) throw bad(`it has no ${MANIFEST}`, cause);
    throw bad(`${MANIFEST} cannot be read: ${fileReason(cause)}`, cause);
  }
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw bad(`${MANIFEST} is not JSON`, cause);
  }
  if (typeof manifest !== "object" || manifest === null) throw bad(`${MANIFEST} is no record`);
  if (manifest.format !== FORMAT) {
    throw bad(`its format is ${JSON.stringify(manifest.format)}, this code reads ${FORMAT}`);
  }
  if (!isManifest(manifest) || manifestText(manifest) !== text) {
    throw bad(`${MANIFEST} is damaged: it does not match its own sha256`);
  }
  const step = stepOf(folder.slice(folder.lastIndexOf("/") + 1));
  if (step !== undefined && step !== manifest.step) {
    throw bad(`its name is that of step ${step}, its content is step ${manifest.step}`);
  }
  return manifest;
}

/**
 * Checks a folder: its list, then that it holds those files and no others, each with its size and SHA-256. Reads all
 * bytes once; memory: 4 MiB.
 *
 * @throws {InputError} Naming the folder, the first file that is wrong and what is wrong with it
 */
export async function verifyFolder(folder: string): Promise<Manifest> {
  const manifest = await readManifest(folder);
  const bad = (what: string, cause?: unknown) =>
    new InputError(`Cannot use checkpoint ${folder}: ${what}`, cause ? { cause } : {});
  const reading = async <T>(name: string, work: (path: string) => Promise<T>): Promise<T> => {
    try {
      return await work(`${folder}/${name}`);
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) throw bad(`${name} is missing`, cause);
      throw bad(`${name} cannot be read: ${fileReason(cause)}`, cause);
    }
  };
  const expected = new Set([MANIFEST, ...manifest.files.map(({ name }) => name)]);
  const names = await reading(".", async (path) => {
    const found: string[] = [];
    for await (const { name } of Deno.readDir(path)) found.push(name);
    return found.sort();
  });
  const extra = names.find((name) => !expected.has(name));
  if (extra !== undefined) throw bad(`${extra} is not in its ${MANIFEST}`);
  for (const { name, bytes } of manifest.files) { // sizes first: they cost nothing
    const info = await reading(name, (path) => Deno.lstat(path));
    if (!info.isFile) throw bad(`${name} is not a file`);
    if (info.size !== bytes) throw bad(`${name} has ${info.size} bytes, not ${bytes}`);
  }
  for (const { name, sha256 } of manifest.files) {
    const found = await reading(name, hashFile);
    if (found !== sha256) {
      throw bad(
        `${name} is damaged: its sha256 begins ${found.slice(0, 8)}, not ${sha256.slice(0, 8)}`,
      );
    }
  }
  return manifest;
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const block = new Uint8Array(BLOCK);
  for (let n = await file.read(block); n !== null; n = await file.read(block)) {
    hash.update(block.subarray(0, n));
  }
  return hash.digest("hex");
}

function isManifest(value: Partial<Manifest>): value is Manifest {
  const count = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
  const { step, session, files } = value;
  return count(step) && count(session) && Array.isArray(files) &&
    files.every((file) =>
      typeof file === "object" && file !== null && typeof file.name === "string" &&
      /^[a-z0-9_-]+\.(safetensors|json)$/.test(file.name) && count(file.bytes) &&
      /^[0-9a-f]{64}$/.test(file.sha256)
    );
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
