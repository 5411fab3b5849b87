// One file from a hub to its blob. Bytes go to `<blob>.incomplete`, which outlives a cut, a kill and a full disk; the
// next call asks for the rest by range. Nothing gets the blob's name before its size and digest are right.

import { createHash, type Hash } from "node:crypto";
import { InputError, LabError, ResourceError } from "../errors.ts";
import { BusyError } from "../study/run_folder.ts";
import { type Hub, type Opened, Passing } from "./hub_client.ts";
import type { HubFile } from "./hub_files.ts";
import type { PartFile } from "./hub_world.ts";

/** Attempts without progress before a download gives up. */
const TRIES = 6;
/** Bytes that count as progress: after them the attempts are counted anew. */
const GAIN_BYTES = 4 * 2 ** 20;
const CHUNK_BYTES = 2 ** 20;

/** What a download took. */
export interface Fetched {
  /** Bytes that an earlier call had left. */
  resumedFrom: number;
  /** Bytes that came over the network, those thrown away too. */
  receivedBytes: number;
}

/** Where a download stands. */
export interface BlobProgress {
  /** Bytes of the file that are here. */
  hereBytes: number;
  /** Bytes that came over the network during this call. */
  receivedBytes: number;
}

/** What to fetch and where to put it. */
export interface BlobRequest {
  hub: Hub;
  file: HubFile;
  /** Address of the file's content on the hub. */
  url: string;
  /** Path of the blob; its folder exists. */
  blob: string;
  onProgress(progress: BlobProgress): void;
}

/**
 * Fetches a file into its blob, going on from what an earlier call left.
 *
 * @throws {InputError} If the bytes are not the ones the list promised; they are removed
 * @throws {ResourceError} If the disk is full; what came is kept
 * @throws {BusyError} If another process is fetching the same file
 */
export async function fetchBlob(request: BlobRequest): Promise<Fetched> {
  const { hub, file, blob } = request;
  const { world } = hub.options;
  const path = `${blob}.incomplete`;
  let disk: PartFile | undefined;
  try {
    disk = await world.open(path);
    if (!disk.tryLockSync(true)) {
      throw new BusyError(`Cannot download ${file.path}: another process is at it`, {
        help: `wait for it to end; it holds ${path}`,
      });
    }
    if (await isThere(blob)) { // another process has just ended
      if (await isThere(path)) await Deno.remove(path);
      return { resumedFrom: file.sizeBytes, receivedBytes: 0 };
    }
    const part = new Part(disk, request);
    const resumedFrom = await part.takeUp();
    await part.complete();
    if (!part.isRight() && resumedFrom > 0) {
      hub.options.note(
        `${file.path}: what an earlier call left belongs to another file; starting over`,
      );
      await part.startOver();
      await part.complete();
    }
    if (!part.isRight()) {
      await Deno.remove(path);
      throw new InputError(
        `Cannot download ${file.path}: its bytes have another ${file.digest} than the hub lists ` +
          `(${file.etag})`,
        { help: "what came was removed; run the command again, and check --endpoint if it recurs" },
      );
    }
    await disk.sync();
    await world.rename(path, blob);
    await world.syncFolder(folderOf(blob));
    return { resumedFrom, receivedBytes: part.receivedBytes };
  } catch (error) {
    throw await diskTrouble(error, request);
  } finally {
    disk?.close();
  }
}

/** What an error of the file system means; every other error as it is. */
async function diskTrouble(cause: unknown, { hub, file, blob }: BlobRequest): Promise<unknown> {
  const { code } = cause as { code?: unknown };
  if (cause instanceof LabError || typeof code !== "string") return cause;
  const folder = folderOf(blob);
  const help = `free some space in ${folder}, or name another folder with --cache DIR`;
  if (code !== "ENOSPC" && code !== "EDQUOT") {
    const message = `Cannot write ${file.path} to ${folder}: ${(cause as Error).message}`;
    return new ResourceError(message, { help, cause });
  }
  const here = (await Deno.stat(`${blob}.incomplete`)).size;
  const free = await hub.options.world.freeBytes(folder);
  return new ResourceError(
    `Cannot download ${file.path}: the disk is full, ${file.sizeBytes - here} more bytes are ` +
      `needed${free === undefined ? "" : ` and ${free} are free`} in ${folder}`,
    { help, cause },
  );
}

/** The incomplete file: how far it is, and the digest of what it holds. */
class Part {
  receivedBytes = 0;
  readonly #disk: PartFile;
  readonly #request: BlobRequest;
  #hereBytes = 0;
  #hash: Hash;
  /** The content host's strong etag of the bytes that came; asked for with the rest. */
  #validator: string | undefined;
  /** True once the server has answered a range with other bytes: it is asked for the whole file from then on. */
  #rangesFail = false;

  constructor(disk: PartFile, request: BlobRequest) {
    this.#disk = disk;
    this.#request = request;
    this.#hash = hashOf(request.file);
  }

  /** Reads what is there, for the digest. @returns its bytes */
  async takeUp(): Promise<number> {
    const { file, hub } = this.#request;
    const { size } = await this.#disk.stat();
    if (size > file.sizeBytes) await this.startOver();
    else if (size > 0) {
      const chunk = new Uint8Array(CHUNK_BYTES);
      let n: number | null;
      while ((n = await this.#disk.read(chunk)) !== null) {
        hub.options.signal.throwIfAborted();
        this.#count(chunk.subarray(0, n));
      }
    }
    return this.#hereBytes;
  }

  /** Fetches until the size is right. */
  async complete(): Promise<void> {
    const { file, hub } = this.#request;
    const help = "run the same command again: it goes on from the bytes that are here";
    await hub.retrying(`download ${file.path}`, TRIES, help, async (gain) => {
      if (this.#hereBytes === file.sizeBytes) return;
      await this.#receive(gain);
    });
  }

  isRight(): boolean {
    return this.#hash.copy().digest("hex") === this.#request.file.etag;
  }

  async startOver(): Promise<void> {
    if (this.#hereBytes > 0 || (await this.#disk.stat()).size > 0) await this.#disk.truncate(0);
    this.#hereBytes = 0;
    this.#hash = hashOf(this.#request.file);
    this.#validator = undefined;
  }

  async #receive(gain: () => void): Promise<void> {
    const { file, hub, url } = this.#request;
    if (this.#rangesFail) await this.startOver();
    const from = this.#hereBytes;
    const opened = await hub.open(
      url,
      from === 0 ? {} : {
        Range: `bytes=${from}-`,
        ...(this.#validator ? { "If-Range": this.#validator } : {}),
      },
    );
    try {
      await this.#judge(opened, from);
    } catch (error) {
      opened.close();
      throw error;
    }
    await this.#disk.seek(this.#hereBytes, Deno.SeekMode.Start);
    let gained = 0;
    for await (const chunk of hub.body(opened)) {
      this.receivedBytes += chunk.length;
      if (this.#hereBytes + chunk.length > file.sizeBytes) {
        await this.startOver();
        throw new Passing(`${opened.host} sends more than the ${file.sizeBytes} bytes listed`, {
          wrongAnswer: true,
        });
      }
      await this.#write(chunk);
      this.#count(chunk);
      gained += chunk.length;
      if (gained >= GAIN_BYTES) gain();
    }
    if (this.#hereBytes < file.sizeBytes) {
      throw new Passing(
        `${opened.host} ended ${file.path} at byte ${this.#hereBytes} of ${file.sizeBytes}`,
        { wrongAnswer: true },
      );
    }
  }

  /** Decides whether an answer's bytes belong behind what is here, begin anew, or are not to be used. */
  async #judge({ response, hub, host }: Opened, from: number): Promise<void> {
    const { file } = this.#request;
    const wrong = (what: string) => new Passing(`${host} ${what}`, { wrongAnswer: true });
    const named = hub.get("X-Linked-Etag") ?? hub.get("ETag");
    const etag = named?.replace(/^W\//, "").replaceAll('"', "");
    if (etag !== undefined && etag.length === file.etag.length && etag !== file.etag) {
      throw new InputError(
        `Cannot download ${file.path}: the hub now gives ${etag}, and listed ${file.etag}`,
        { help: "it changed meanwhile: run the same command again" },
      );
    }
    const seen = response.headers.get("ETag");
    const validator = seen?.startsWith('"') ? seen : undefined;
    if (response.status === 416) {
      this.#rangesFail = true;
      throw wrong(`has no bytes from ${from} on`);
    }
    if (response.status === 206) {
      const range = response.headers.get("Content-Range") ?? "no range";
      const [, first, , total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? [];
      const fits = Number(first) === from && (total === "*" || Number(total) === file.sizeBytes);
      const changed = this.#validator !== undefined && validator !== undefined &&
        validator !== this.#validator;
      if (!fits || changed) {
        this.#rangesFail = true;
        throw wrong(changed ? "has other content now" : `sends ${range} for bytes from ${from}`);
      }
    } else {
      const length = response.headers.get("Content-Length");
      if (length !== null && Number(length) !== file.sizeBytes) {
        throw wrong(`sends ${length} bytes for ${file.path}, ${file.sizeBytes} are listed`);
      }
      if (from > 0) await this.startOver(); // it knows no ranges, or has other content
    }
    this.#validator = validator ?? this.#validator;
  }

  async #write(chunk: Uint8Array): Promise<void> {
    for (let n = 0; n < chunk.length;) n += await this.#disk.write(chunk.subarray(n));
  }

  #count(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#hereBytes += chunk.length;
    const { onProgress } = this.#request;
    onProgress({ hereBytes: this.#hereBytes, receivedBytes: this.receivedBytes });
  }
}

/** The digest that the file's etag is, before its first byte. */
function hashOf({ digest, sizeBytes }: HubFile): Hash {
  return digest === "sha256"
    ? createHash("sha256")
    : createHash("sha1").update(`blob ${sizeBytes}\0`);
}

const folderOf = (path: string) => path.slice(0, path.lastIndexOf("/"));

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
