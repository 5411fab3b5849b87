// One file of a checkpoint on its way to the disk: hashed while it is written, synced before it counts.

import { createHash, type Hash } from "node:crypto";
import { FileFault, type Files, type NewFile } from "./files.ts";
import type { FileEntry } from "./manifest.ts";

/** Bytes handed to the system and the hash at a time: a tensor may be larger than one write may be. */
const SLICE = 2 ** 24;

/** A file whose size and SHA-256 are known when it is finished. */
export class DigestedFile {
  readonly #hash: Hash = createHash("sha256");
  #bytes = 0;

  private constructor(
    private readonly path: string,
    private readonly name: string,
    private readonly file: NewFile,
  ) {}

  /**
   * Makes a file, has it filled, syncs and closes it.
   *
   * @param fill writes to it; what it throws is thrown, the file being closed
   */
  static async write(
    files: Files,
    folder: string,
    name: string,
    fill: (file: DigestedFile) => Promise<void>,
  ): Promise<FileEntry> {
    const path = `${folder}/${name}`;
    const file = await files.create(path);
    const digested = new DigestedFile(path, name, file);
    try {
      await fill(digested);
      await file.sync();
    } catch (error) {
      // The first failure is the one to tell; a handle that will not close adds nothing to it.
      await file.close().catch((closing) => {
        if (!(closing instanceof FileFault)) throw closing;
      });
      throw error;
    }
    await file.close();
    return digested.#entry();
  }

  /** Writes all bytes at the end. */
  async append(bytes: Uint8Array): Promise<void> {
    for (let begin = 0; begin < bytes.length; begin += SLICE) {
      const slice = bytes.subarray(begin, begin + SLICE);
      this.#hash.update(slice);
      for (let at = 0; at < slice.length;) {
        const written = await this.file.write(slice.subarray(at));
        if (written === 0) {
          throw new FileFault("write", this.path, "the disk takes no more bytes", true);
        }
        at += written;
      }
    }
    this.#bytes += bytes.length;
  }

  #entry(): FileEntry {
    return { name: this.name, bytes: this.#bytes, sha256: this.#hash.digest("hex") };
  }
}

/** Writes a text so that its name never holds half of it. */
export async function writeWholeText(
  files: Files,
  folder: string,
  name: string,
  text: string,
): Promise<void> {
  const partial = `${name}.tmp`;
  await DigestedFile.write(files, folder, partial, async (file) => {
    await file.append(new TextEncoder().encode(text));
  });
  await files.rename(`${folder}/${partial}`, `${folder}/${name}`);
  await files.syncFolder(folder);
}
