// The list of bad records that `deno task data check --fix` writes: rows as they are found, under the file's
// name only once all are there.

import { fileReason } from "../data/jsonl.ts";
import type { Finding } from "../data/training/check_findings.ts";
import { type Exclusion, placeOf } from "../data/training/exclusions.ts";
import type { RecordSource } from "../data/training/source.ts";
import { ResourceError } from "../errors.ts";

/** Bytes of rows that are gathered before they are written. */
const CHUNK_BYTES = 65_536;

/** A list in the making. Leaving it before {@link BadList.finish} removes what was written. */
export class BadList {
  #rows = 0;
  #text = "";
  #file: Deno.FsFile | undefined;
  #isWhole = false;
  readonly #part: string;

  private constructor(private readonly path: string, private readonly source: RecordSource) {
    this.#part = `${path}.part.tmp`;
  }

  /** @throws {ResourceError} If no file can be written there */
  static async open(path: string, source: RecordSource): Promise<BadList> {
    const list = new BadList(path, source);
    list.#file = await list.#do(() =>
      Deno.open(list.#part, { write: true, create: true, truncate: true })
    );
    return list;
  }

  /** Lists a record if it has an error. */
  add({ level, kind, index, message }: Finding): void {
    if (level !== "error") return;
    const { count, fingerprint } = this.source;
    const record = placeOf(this.source, index);
    const row: Exclusion = { record, kind, why: message, index, records: count, fingerprint };
    this.#text += JSON.stringify(row) + "\n";
    this.#rows++;
    if (this.#text.length >= CHUNK_BYTES) this.#flush();
  }

  /** Puts the file in its place. @returns its rows @throws {ResourceError} If that fails */
  async finish(): Promise<number> {
    this.#flush();
    await this.#do(async () => {
      await this.#file!.sync();
      this.#close();
      await Deno.rename(this.#part, this.path);
      this.#isWhole = true;
    });
    return this.#rows;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isWhole) return;
    this.#close();
    await Deno.remove(this.#part);
  }

  #flush(): void {
    let bytes = new TextEncoder().encode(this.#text);
    this.#text = "";
    try {
      while (bytes.length > 0) bytes = bytes.subarray(this.#file!.writeSync(bytes));
    } catch (cause) {
      throw this.#error(cause);
    }
  }

  #close() {
    this.#file?.close();
    this.#file = undefined;
  }

  async #do<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw this.#error(cause);
    }
  }

  #error(cause: unknown): ResourceError {
    return new ResourceError(`Cannot write ${this.path}: ${fileReason(cause)}`, {
      cause,
      help: "give --out a file in a folder that exists and can be written",
    });
  }
}
