// Files a verb writes: whether they can be is found out before anything is computed, and each appears whole or not at
// all.

import { fileReason } from "../../data/jsonl.ts";
import type { Image } from "../../data/resize.ts";
import { ResourceError, UsageError } from "../../errors.ts";
import { encodePng } from "../../show/png.ts";
import { writeWhole } from "../../write_whole.ts";

const folderOf = (path: string) =>
  /^(.*)[\\/][^\\/]*$/.exec(path)?.[1] || (path.startsWith("/") ? "/" : ".");

/** Whether a path names a PNG. */
export const isPng = (path: string): boolean => /[^/\\]\.png$/i.test(path);

/**
 * Checks that a file can be written: the folder, or the nearest one that exists, takes a file, and the path is no
 * folder itself. Nothing stays behind.
 *
 * @param kind images are written as PNG, answers as text, traces of a profile as JSON
 * @throws {UsageError} If it cannot
 */
export async function checkOut(path: string, kind: "png" | "text" | "trace"): Promise<void> {
  const flag = kind === "trace" ? "--profile-out" : "--out";
  const refuse = (reason: string, help: string, cause?: unknown) =>
    new UsageError(`Cannot write to ${path}: ${reason}`, { help, cause });
  if (kind === "png" && !isPng(path)) {
    throw refuse("images are written as PNG", `give a name that ends in .png`);
  }
  if (kind === "text" && isPng(path)) {
    throw refuse("an answer is text", "give another name, such as answer.txt");
  }
  if (kind === "trace" && !/[^/\\]\.json$/i.test(path)) {
    throw refuse("a trace is JSON", "give a name that ends in .json");
  }
  try {
    if ((await statOf(path))?.isDirectory) {
      throw refuse("it is a folder", `give a file in it, such as ${path}/out`);
    }
    let folder = folderOf(path);
    while (!await statOf(folder) && folder !== folderOf(folder)) folder = folderOf(folder);
    await Deno.remove(await Deno.makeTempFile({ dir: folder, prefix: ".writable-" }));
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    const reason = cause instanceof Deno.errors.NotCapable
      ? "this command may not write there"
      : fileReason(cause).replace(/: [a-z]+ '[^']*'.*$/s, ""); // the probe's own name says nothing
    throw refuse(reason, `choose another place with ${flag}`, cause);
  }
}

async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw cause;
  }
}

/** `a.png` → `a-2.png` for the second of several; the path itself where there is one. */
export function numbered(path: string, index: number, count: number): string {
  return count === 1 ? path : path.replace(/(\.[^./\\]*)?$/, `-${index + 1}$1`);
}

/** Writes an image as PNG, making its folder. @throws {ResourceError} If it cannot be written */
export async function writePicture(path: string, { width, height, data }: Image): Promise<void> {
  await writeFile(path, encodePng({ width, height, rgb: data }));
}

/** Writes a text and a line end, making its folder. @throws {ResourceError} If it cannot be written */
export async function writeAnswer(path: string, text: string): Promise<void> {
  await writeFile(path, `${text}\n`);
}

/** Writes a value as JSON, making its folder. @throws {ResourceError} If it cannot be written */
export async function writeTrace(path: string, trace: object): Promise<void> {
  await writeFile(path, JSON.stringify(trace) + "\n", "--profile-out");
}

async function writeFile(path: string, content: Uint8Array | string, flag = "--out") {
  try {
    await Deno.mkdir(folderOf(path), { recursive: true });
    await writeWhole(path, content);
  } catch (cause) {
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: `check the disk's free space and the folder, or choose another place with ${flag}`,
    });
  }
}

async function removeIfThere(path: string): Promise<void> {
  await Deno.remove(path).catch((gone) => {
    if (!(gone instanceof Deno.errors.NotFound)) throw gone;
  });
}

/** The image as it becomes, in a file of its own that goes when the drawing is done. */
export class Preview {
  readonly path: string;
  #written = false;

  constructor(out: string, readonly onFirst: (path: string) => void) {
    this.path = out.replace(/\.png$/i, ".preview.png");
  }

  /** Replaces what the file shows. */
  async show(image: Image): Promise<void> {
    await writePicture(this.path, image);
    if (!this.#written) this.onFirst(this.path);
    this.#written = true;
  }

  /** Removes the file, if there was one. */
  async remove(): Promise<void> {
    if (!this.#written) return;
    this.#written = false;
    await removeIfThere(this.path);
  }
}
