// Parquet files read through a parser that cannot hurt: it runs in a worker without permissions, gets the
// bytes it asks for and no others, and is ended when it takes too long or too much memory. A damaged
// file is an error within the deadline.

import { InputError } from "../../errors.ts";
import { fileReason } from "../jsonl.ts";
import {
  PARQUET_LIMITS,
  type ParquetMessage,
  type ParquetReply,
  type ParquetRequest,
  type ParquetShape,
  type Row,
} from "./parquet_messages.ts";

/** How long the parser may take for one question, in ms. */
export const DEADLINE_MS = 10_000;

/** How much the process may grow while the parser works: several times the largest row group. */
const MAX_GROWTH_BYTES = 4 * PARQUET_LIMITS.groupBytes;

/** How often that is looked at. */
const WATCH_MS = 25;

/** What is asked, as opposed to answered. */
type Question = Exclude<ParquetRequest, { kind: "bytes" }>;

/** A file as it was when it was opened. */
export interface ParquetFile extends ParquetShape {
  path: string;
  sizeBytes: number;
}

/** Asks one parser about any number of files, one question after another. */
export class ParquetReader {
  #worker: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #asked = 0;
  #closed = false;
  readonly #deadlineMs: number;

  constructor({ deadlineMs = DEADLINE_MS } = {}) {
    this.#deadlineMs = deadlineMs;
  }

  /**
   * Columns and row groups of a file.
   *
   * @throws {InputError} If it cannot be read, is damaged or beyond PARQUET_LIMITS
   */
  async open(path: string): Promise<ParquetFile> {
    const sizeBytes = await sizeOf(path);
    const reply = await this.#ask(path, "", { kind: "shape", ...this.#next(), sizeBytes });
    if (reply.kind !== "shape") throw new TypeError(`internal: parser said ${reply.kind}`);
    return { path, sizeBytes, ...reply.shape };
  }

  /**
   * The rows of a row group.
   *
   * @param columns top-level columns wanted
   * @throws {InputError} As {@link ParquetReader.open}
   */
  async rows({ path, sizeBytes }: ParquetFile, group: number, columns: string[]): Promise<Row[]> {
    const now = await sizeOf(path);
    if (now !== sizeBytes) {
      throw new InputError(
        `Cannot read ${path}: it had ${sizeBytes} bytes when it was opened and has ${now} now`,
        { help: "Leave data files as they are while they are in use, or start again" },
      );
    }
    const request = { kind: "rows", ...this.#next(), sizeBytes, group, columns } as const;
    const reply = await this.#ask(path, ` row group ${group}`, request);
    if (reply.kind !== "rows") throw new TypeError(`internal: parser said ${reply.kind}`);
    return reply.rows;
  }

  /** Ends the parser; what is being read is refused. */
  close() {
    this.#closed = true;
    this.#end();
  }

  /** The worker stops itself somewhat earlier than it would be ended. */
  #next() {
    return { ask: ++this.#asked, limitMs: 0.9 * this.#deadlineMs };
  }

  #end() {
    this.#worker?.terminate();
    this.#worker = undefined;
  }

  #ask(path: string, what: string, request: Question): Promise<ParquetReply> {
    const answer = this.#last.then(() => this.#askNow(path, what, request));
    this.#last = answer.catch(() => {}); // its caller hears of it; the next question does not depend on it
    return answer;
  }

  async #askNow(path: string, what: string, request: Question): Promise<ParquetReply> {
    if (this.#closed) throw new TypeError(`Cannot read ${path}: its source is closed`);
    const worker = this.#worker ??= await start();
    const before = Deno.memoryUsage().rss;
    const began = performance.now();
    const end = Promise.withResolvers<ParquetReply>();
    const watch = setInterval(() => {
      const grown = Deno.memoryUsage().rss - before;
      if (performance.now() - began > this.#deadlineMs) {
        end.reject(new Error(`it takes more than ${this.#deadlineMs / 1000} s`));
      } else if (grown > MAX_GROWTH_BYTES) {
        end.reject(new Error(`it takes more than ${MAX_GROWTH_BYTES} bytes of memory`));
      } else if (this.#closed) end.reject(new Error("its source was closed"));
    }, WATCH_MS);
    worker.onerror = (event) => {
      event.preventDefault();
      end.reject(new Error(event.message));
    };
    worker.onmessage = ({ data }: MessageEvent<ParquetMessage>) => {
      if (data.kind === "ready" || data.ask !== request.ask) return; // of a question that failed
      if (data.kind !== "need") return end.resolve(data);
      const { range, start, end: to } = data;
      readRange(path, start, to).then(
        (bytes) =>
          worker.postMessage({ kind: "bytes", range, bytes } satisfies ParquetRequest, [bytes]),
        end.reject,
      );
    };
    worker.postMessage(request);
    let reply: ParquetReply;
    try {
      reply = await end.promise;
    } catch (cause) {
      this.#end(); // it is still at work
      throw unreadable(path + what, fileReason(cause), cause);
    } finally {
      clearInterval(watch);
    }
    if (reply.kind === "failed") throw unreadable(path + what, reply.message);
    return reply;
  }
}

function unreadable(what: string, why: string, cause?: unknown): InputError {
  return new InputError(`Cannot read ${what}: ${why}`, {
    help:
      "Get or write the parquet file again; uncompressed, SNAPPY, GZIP, ZSTD, BROTLI and LZ4 are read",
    ...(cause === undefined ? {} : { cause }),
  });
}

async function start(): Promise<Worker> {
  const worker = new Worker(new URL("./parquet_worker.ts", import.meta.url), {
    type: "module",
    name: "parquet",
    deno: { permissions: "none" },
  });
  await new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(`internal: the parquet parser does not start: ${event.message}`));
    };
  });
  return worker;
}

async function sizeOf(path: string): Promise<number> {
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile) throw new Error("it is not a file");
    return size;
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: ${fileReason(cause)}`, {
      cause,
      help: "Check the path and its permissions",
    });
  }
}

/** Bytes [start, end) of a file. @throws If it has fewer, or too many are asked for */
export async function readRange(path: string, start: number, end: number): Promise<ArrayBuffer> {
  if (end - start > PARQUET_LIMITS.groupBytes) throw new Error(`a column has ${end - start} bytes`);
  using file = await Deno.open(path);
  await file.seek(start, Deno.SeekMode.Start);
  const bytes = new Uint8Array(end - start);
  for (let filled = 0; filled < bytes.length;) {
    const n = await file.read(bytes.subarray(filled));
    if (n === null) throw new Error(`it ends at byte ${start + filled}`);
    filled += n;
  }
  return bytes.buffer;
}
