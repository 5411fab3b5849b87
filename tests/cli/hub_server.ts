// A model hub on loopback that can misbehave: the paths, headers and redirects that a download uses, on two ports, as
// hubs keep large files on another host. It counts what it sends.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { download, downloadCommand } from "../../lib/cli/checkpoint_download.ts";
import { runCommand, type Shell } from "../../lib/cli/command.ts";
import { type HubWorld, type PartFile, thisHubWorld } from "../../lib/cli/hub_world.ts";

/** A request as it came. */
export interface Seen {
  /** `hub`, or `store`: the other host, which holds large files. */
  at: "hub" | "store";
  path: string;
  range: string | null;
  ifRange: string | null;
  token: string | null;
}

/** How to answer one request for content. */
export interface Fault {
  /** The connection ends at this byte of the file. */
  cutAt?: number;
  /** The connection stays open and silent from this byte of the file on. */
  stallAt?: number;
  /** Nothing but this answer. */
  answer?: () => Response;
  /** The whole file with status 200, whatever was asked for. */
  ignoreRange?: boolean;
  /** Headers on top. */
  headers?: Record<string, string>;
  /** Other bytes than the file's. */
  bytes?: Uint8Array<ArrayBuffer>;
  /** No Content-Length: the end of the connection is the end of the body. */
  unsized?: boolean;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Bytes that depend on the seed alone. */
export function contentOf(size: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  for (let i = 0, x = seed + 1; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
export const gitSha1 = (bytes: Uint8Array) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

/** A hub with one repository, `org/model`. */
export class LoopbackHub implements AsyncDisposable {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Every request, in order. */
  readonly seen: Seen[] = [];
  /** Used up one by one by requests that deliver content; `undefined` answers as it should. */
  readonly faults: (Fault | undefined)[] = [];
  /** Used up one by one by requests for metadata. */
  readonly metadataFaults: (() => Response)[] = [];
  /** Changes what the hub says of a file before it redirects or delivers. */
  hubHeaders: (path: string, headers: Headers) => void = () => {};
  /** Changes the list of files. */
  editList: (entries: Record<string, unknown>[]) => unknown = (entries) => entries;
  /** Entries to a page of the list. */
  pageSize = Infinity;
  commit: unknown = COMMIT;
  /** Bytes of content sent. */
  sentBytes = 0;
  #stalled: (() => void)[] = [];
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #store: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    const options = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.#hub = Deno.serve(options, (request) => this.#answer("hub", request));
    this.#store = Deno.serve(options, (request) => this.#answer("store", request));
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  get store(): string {
    return `http://127.0.0.1:${this.#store.addr.port}`;
  }

  /** Requests that delivered content, or were to. */
  get deliveries(): Seen[] {
    return this.seen.filter(({ at, path }) => at === "store" || !isLarge(path) && !isApi(path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#stalled) end();
    await Promise.all([this.#hub.shutdown(), this.#store.shutdown()]);
  }

  #answer(at: Seen["at"], request: Request): Response {
    const { pathname, searchParams } = new URL(request.url);
    const path = decodeURIComponent(pathname);
    const header = (name: string) => request.headers.get(name);
    const [range, ifRange, token] = [header("range"), header("if-range"), header("authorization")];
    this.seen.push({ at, path, range, ifRange, token });
    if (isApi(path)) return this.#metadata(path, searchParams);
    const prefix = at === "store" ? "/store/" : `/org/model/resolve/${COMMIT}/`;
    const name = path.slice(prefix.length);
    const bytes = path.startsWith(prefix) ? this.files.get(name) : undefined;
    if (!bytes) {
      return new Response("", { status: 404, headers: { "X-Error-Code": "EntryNotFound" } });
    }
    if (at === "store") return this.#deliver(bytes, `"${sha256(bytes)}"`, range, ifRange);
    const headers = new Headers({ "X-Repo-Commit": COMMIT });
    if (!isLarge(name)) {
      this.hubHeaders(name, headers);
      return this.#deliver(bytes, `"${gitSha1(bytes)}"`, range, ifRange, headers);
    }
    headers.set("X-Linked-Etag", `"${sha256(bytes)}"`);
    headers.set("X-Linked-Size", String(bytes.length));
    headers.set("Location", `${this.store}/store/${encodeURIComponent(name)}?signature=1`);
    this.hubHeaders(name, headers);
    return new Response(null, { status: 302, headers });
  }

  #metadata(path: string, query: URLSearchParams): Response {
    const fault = this.metadataFaults.shift();
    if (fault) return fault();
    if (path.startsWith("/api/models/org/model/revision/")) {
      return Response.json({ _id: "1", id: "org/model", sha: this.commit });
    }
    if (path !== `/api/models/org/model/tree/${COMMIT}`) return new Response("", { status: 404 });
    const folders = [...this.files.keys()].filter((name) => name.includes("/"))
      .map((name) => ({ type: "directory", path: name.slice(0, name.indexOf("/")), size: 0 }));
    const entries = [...this.files].map(([name, bytes]) =>
      isLarge(name)
        ? {
          type: "file",
          path: name,
          size: bytes.length,
          oid: "a".repeat(40), // of the pointer
          lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 },
        }
        : { type: "file", path: name, size: bytes.length, oid: gitSha1(bytes) }
    );
    const list = this.editList([...folders, ...entries]);
    if (!Array.isArray(list) || this.pageSize === Infinity) return Response.json(list);
    const from = Number(query.get("cursor") ?? 0);
    const headers = new Headers();
    if (from + this.pageSize < list.length) {
      const next = `${this.endpoint}${path}?cursor=${from + this.pageSize}`;
      headers.set("Link", `<${next}>; rel="next"`);
    }
    return Response.json(list.slice(from, from + this.pageSize), { headers });
  }

  #deliver(
    content: Uint8Array<ArrayBuffer>,
    etag: string,
    range: string | null,
    ifRange: string | null,
    headers = new Headers(),
  ): Response {
    const fault = this.faults.shift() ?? {};
    if (fault.answer) return fault.answer();
    const bytes = fault.bytes ?? content;
    headers.set("ETag", etag);
    headers.set("Accept-Ranges", "bytes");
    for (const [name, value] of Object.entries(fault.headers ?? {})) headers.set(name, value);
    const asked = /^bytes=(\d+)-$/.exec(range ?? "");
    const fresh = ifRange === null || ifRange === headers.get("ETag");
    const from = asked && fresh && !fault.ignoreRange ? Number(asked[1]) : 0;
    if (from >= bytes.length && from > 0) return new Response(null, { status: 416 });
    if (from > 0 && !headers.has("Content-Range")) {
      headers.set("Content-Range", `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
    }
    if (!fault.unsized) headers.set("Content-Length", String(bytes.length - from));
    const end = Math.min(bytes.length, fault.cutAt ?? bytes.length, fault.stallAt ?? bytes.length);
    let at = from;
    const body = new ReadableStream({
      pull: (controller) => {
        if (at < end) {
          const chunk = bytes.slice(at, Math.min(end, at + 16_384));
          at += chunk.length;
          this.sentBytes += chunk.length;
          controller.enqueue(chunk);
        } else if (fault.stallAt === undefined) controller.close();
        else return new Promise((resolve) => this.#stalled.push(resolve));
      },
    });
    return new Response(body, { status: from > 0 ? 206 : 200, headers });
  }
}

const isApi = (path: string) => path.startsWith("/api/");
const isLarge = (path: string) => path.endsWith(".safetensors");

/** What a run of the command printed, waited for and ended with. */
export interface Ran {
  code: number | undefined;
  stdout: string;
  stderr: string;
  /** Milliseconds of each wait. */
  waits: number[];
}

/** An open file with some calls replaced. */
export function partFile(file: Deno.FsFile, replaced: Partial<PartFile>): PartFile {
  return {
    read: (into) => file.read(into),
    write: (bytes) => file.write(bytes),
    seek: (offset, whence) => file.seek(offset, whence),
    truncate: (size) => file.truncate(size),
    stat: () => file.stat(),
    sync: () => file.sync(),
    tryLockSync: (exclusive) => file.tryLockSync(exclusive),
    close: () => file.close(),
    ...replaced,
  };
}

export const openPart = (path: string): Promise<Deno.FsFile> =>
  Deno.open(path, { read: true, write: true, create: true });

/**
 * Runs `checkpoint download` in this process against a hub. Waits take no time, and nothing waits for the disk:
 * hundreds of files would.
 */
export async function downloadHere(
  hub: { endpoint: string },
  cache: string,
  options: { args?: string[]; world?: Partial<HubWorld>; shell?: Partial<Shell> } = {},
): Promise<Ran> {
  const ran: Ran = { code: undefined, stdout: "", stderr: "", waits: [] };
  const shell: Shell = {
    args: ["org/model", "--endpoint", hub.endpoint, "--cache", cache, ...options.args ?? []],
    stdout: (text) => void (ran.stdout += text),
    stderr: (text) => void (ran.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void (ran.code ??= code),
    onSignal() {},
    onStray() {},
    ...options.shell,
  };
  const world: HubWorld = {
    ...thisHubWorld(),
    sleep: (ms, signal) => {
      ran.waits.push(ms);
      signal.throwIfAborted();
      return Promise.resolve();
    },
    open: async (path) => partFile(await openPart(path), { sync: () => Promise.resolve() }),
    syncFolder: () => Promise.resolve(),
    env: () => undefined,
    write: shell.stderr,
    ...options.world,
  };
  await runCommand(downloadCommand.spec, (context) => download(context, world), shell);
  return ran;
}

/** Fails unless a file has these bytes. */
export function assertBytes(path: string, want: Uint8Array): void {
  const got = Deno.readFileSync(path);
  assert.equal(got.length, want.length, `${path} has another size`);
  assert.equal(got.findIndex((byte, i) => byte !== want[i]), -1, `${path} differs at this byte`);
}

/** Size of a file, undefined where there is none. */
export function sizeOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** A folder that is removed at the end; a new one under the system's temporary folder unless one is given. */
export class TemporaryFolder implements Disposable {
  readonly path: string;

  constructor(path = Deno.makeTempDirSync({ prefix: "hub_cache_" })) {
    this.path = path;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }

  /** Every file and link below, with `/`, sorted. */
  tree(folder = this.path): string[] {
    return [...Deno.readDirSync(folder)].flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory ? this.tree(path) : [path.slice(this.path.length + 1)];
    }).sort();
  }
}

export const ROOT = "models--org--model";
export const SNAPSHOT = `${ROOT}/snapshots/${COMMIT}`;
export const text = (value: string) => new TextEncoder().encode(value);

export const WEIGHTS = contentOf(40_000, 1);
export const AUTOENCODER = contentOf(9_000, 2);
export const SMALL = {
  "config.json": text('{"model_type": "bagel"}'),
  "llm_config.json": text("{}"),
  "vocab.json": text('{"a": 0}'),
  "merges.txt": text(""), // no bytes at all
};
/** What a model is run from. */
export const TAKEN = ["ae.safetensors", ...Object.keys(SMALL), "ema.safetensors"].sort();

/** A hub with a model and what is not to be taken, and an empty cache. */
export function modelHub(folder?: string) {
  const hub = new LoopbackHub();
  for (const [name, bytes] of Object.entries(SMALL)) hub.files.set(name, bytes);
  hub.files.set("ae.safetensors", AUTOENCODER);
  hub.files.set("ema.safetensors", WEIGHTS);
  hub.files.set("model.safetensors", contentOf(50_000, 3));
  hub.files.set("pytorch_model.bin", contentOf(100, 4));
  hub.files.set("modeling.py", text("import os"));
  const cache = new TemporaryFolder(folder);
  return {
    hub,
    cache,
    run: (options?: Parameters<typeof downloadHere>[2]) => downloadHere(hub, cache.path, options),
    [Symbol.asyncDispose]: async () => {
      await hub[Symbol.asyncDispose]();
      cache[Symbol.dispose]();
    },
  };
}
