// Requests to a model hub: the token goes to the hub's own origin and nowhere else, redirects are followed by hand, a
// silent connection is cut, and what may pass (no answer, 429, 5xx) is told apart from what will not.

import { InputError, LabError } from "../errors.ts";
import { duration } from "../show/progress.ts";
import type { HubWorld } from "./hub_world.ts";

/** A failure that another try may not meet. */
export class Passing extends Error {
  /** What the server asks to wait; our own patience otherwise. */
  readonly waitMs: number | undefined;
  /** True: the answer was wrong. False: there was none. */
  readonly wrongAnswer: boolean;

  constructor(
    message: string,
    options: { waitMs?: number | undefined; wrongAnswer?: boolean } = {},
  ) {
    super(message);
    this.waitMs = options.waitMs;
    this.wrongAnswer = options.wrongAnswer ?? false;
  }
}

/** An answer whose body has not been read: read it with `body()`, or drop it with `close()`. */
export interface Opened {
  response: Response;
  /** Who sends the content. */
  host: string;
  /** Headers of the hub itself, which may have sent us elsewhere for the content. */
  hub: Headers;
  /** Restarts the clock that cuts a silent connection. */
  alive(): void;
  /** Stops the clock and the transfer. */
  close(): void;
}

/** Where requests go, and on whose behalf. */
export interface HubOptions {
  /** As in `https://host` or `https://host/prefix`. */
  endpoint: string;
  token?: string | undefined;
  /** `org/name`, for messages. */
  repo: string;
  revision: string;
  world: HubWorld;
  signal: AbortSignal;
  note(text: string): void;
}

const MAX_REDIRECTS = 5;
/** The longest wait that is worth waiting out. */
const MAX_WAIT_MS = 120_000;
/** The largest list of files that is read. */
const MAX_METADATA_BYTES = 64 * 2 ** 20;
const PASSING_STATUS = [408, 425, 429, 500, 502, 503, 504];
const OFFLINE =
  "without a network, put config.json, llm_config.json, vit_config.json, vocab.json, " +
  "merges.txt, tokenizer_config.json, ae.safetensors and ema.safetensors into a folder and use " +
  "--model FOLDER";

/** The reason for which a connection that went silent is cut. */
class Silence extends Error {}

/** A client of one repository. */
export class Hub {
  readonly options: HubOptions;
  readonly #origin: string;

  constructor(options: HubOptions) {
    this.options = options;
    this.#origin = new URL(options.endpoint).origin;
  }

  /**
   * Sends one GET and follows its redirects.
   *
   * @returns An answer with status 200, 206 or 416
   * @throws {Passing} If there is no answer, or one that may be another next time
   * @throws {InputError} If there is no such thing, or no right to it
   */
  async open(url: string, headers: Record<string, string> = {}): Promise<Opened> {
    const { world, signal, token } = this.options;
    const clock = new AbortController();
    let callOff = () => {};
    const alive = () => {
      callOff();
      callOff = world.alarm(world.idleMs, () => clock.abort(new Silence()));
    };
    const close = () => {
      callOff();
      clock.abort(new Silence());
    };
    let hub: Headers | undefined;
    let next = new URL(url);
    try {
      for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
        const own = next.origin === this.#origin;
        alive();
        const response = await world.fetch(next.href, {
          headers: {
            ...headers,
            "Accept-Encoding": "identity",
            ...(own && token ? { Authorization: `Bearer ${token}` } : {}),
          },
          redirect: "manual",
          signal: AbortSignal.any([signal, clock.signal]),
        });
        if (own || !hub) hub = response.headers;
        const target = response.headers.get("Location");
        if (response.status >= 300 && response.status < 400 && target) {
          await response.body?.cancel();
          if (!URL.canParse(target, next)) throw this.#notAHub(`it redirects to ${target}`);
          next = new URL(target, next);
          if (!/^https?:$/.test(next.protocol)) throw this.#notAHub(`it redirects to ${target}`);
          continue;
        }
        if ([200, 206, 416].includes(response.status)) {
          return { response, host: next.host, hub, alive, close };
        }
        await response.body?.cancel();
        throw this.#refusal(response, own, new URL(url).pathname);
      }
    } catch (error) {
      close();
      throw this.#meaning(error, next.host);
    }
    close();
    throw this.#notAHub("its redirects have no end");
  }

  /**
   * `fetch` for the hub's library: metadata, read whole, tried again while the failure may pass.
   *
   * @throws {InputError} If the answer is not JSON
   */
  fetchMetadata(url: string, headers: Record<string, string> = {}): Promise<Response> {
    return this.retrying(`ask ${this.options.endpoint}`, 4, OFFLINE, async () => {
      const opened = await this.open(url, headers);
      const chunks: Uint8Array<ArrayBuffer>[] = [];
      let size = 0;
      for await (const chunk of this.body(opened)) {
        chunks.push(chunk);
        size += chunk.length;
        if (size > MAX_METADATA_BYTES) throw this.#notAHub("it sends more than 64 MiB of metadata");
      }
      const text = await new Blob(chunks).text();
      try {
        JSON.parse(text);
      } catch (cause) {
        throw this.#notAHub(`${new URL(url).pathname} is not JSON`, cause);
      }
      return new Response(text, { headers: opened.response.headers });
    });
  }

  /** The bytes of an answer as they come. */
  async *body(opened: Opened): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const { response, host, alive, close } = opened;
    try {
      if (!response.body) return;
      for await (const chunk of response.body) {
        alive();
        yield chunk as Uint8Array<ArrayBuffer>;
      }
    } catch (error) {
      throw this.#meaning(error, host);
    } finally {
      close();
    }
  }

  /**
   * Tries until it works or patience ends, waiting 1, 2, 4, … 30 s or what the server asks.
   *
   * @param doing for the message: `download ema.safetensors`
   * @param tries how many; an attempt that got a good part of the way calls `gain`, and the count starts anew
   * @param help what to do once they are used up
   * @throws {LabError} With exit code 1 (3 after wrong answers) once the tries are used up
   */
  async retrying<T>(
    doing: string,
    tries: number,
    help: string,
    attempt: (gain: () => void) => Promise<T>,
  ): Promise<T> {
    const { world, signal, note } = this.options;
    let failures = 0;
    while (true) {
      try {
        return await attempt(() => failures = 0);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Passing)) throw error;
        failures++;
        const waitMs = error.waitMs ?? Math.min(30_000, 1000 * 2 ** (failures - 1));
        if (failures >= tries || waitMs > MAX_WAIT_MS) {
          throw givingUp(doing, error, failures, help);
        }
        note(`${error.message}; trying again in ${duration(waitMs)}`);
        await world.sleep(waitMs, signal);
      }
    }
  }

  /** What an answer that is neither content nor redirect means. */
  #refusal(response: Response, own: boolean, path: string): Error {
    const { repo, revision, endpoint, token } = this.options;
    const { status } = response;
    if (PASSING_STATUS.includes(status)) {
      const waitMs = this.#waitFrom(response.headers.get("Retry-After"));
      return new Passing(`the hub answers ${status}`, { waitMs });
    }
    // Links to content expire: the hub gives a new one.
    if (!own) return new Passing(`the host of the content answers ${status}`);
    if (status === 401 || status === 403) {
      return new InputError(
        token
          ? `Cannot open ${repo}: the hub refuses this token (${status})`
          : `Cannot open ${repo}: it is gated, private or not there (${status})`,
        {
          help: `accept the licence at ${endpoint}/${repo} and set HF_TOKEN to a token of that ` +
            "account that may read it",
        },
      );
    }
    if (status === 404) {
      const code = response.headers.get("X-Error-Code");
      if (code === "RevisionNotFound") {
        return new InputError(`Cannot find revision ${revision} of ${repo}`, {
          help: `${endpoint}/${repo} lists branches and tags; a commit is 40 hex digits`,
        });
      }
      const what = code === "EntryNotFound" ? path : `${repo} at revision ${revision}`;
      return new InputError(`Cannot find ${what} on ${endpoint}`, {
        help: "a repository is named org/name; check its spelling, --revision and --endpoint",
      });
    }
    return this.#notAHub(`${path} answers ${status}`);
  }

  #notAHub(what: string, cause?: unknown): InputError {
    return new InputError(`Cannot read ${this.options.endpoint} as a model hub: ${what}`, {
      help: "check --endpoint and HF_ENDPOINT",
      cause,
    });
  }

  /** Milliseconds from a Retry-After header: seconds or a date. */
  #waitFrom(header: string | null): number | undefined {
    if (header === null) return undefined;
    if (/^\d+$/.test(header.trim())) return Number(header) * 1000;
    const until = Date.parse(header);
    return Number.isNaN(until) ? undefined : Math.max(0, until - this.options.world.date());
  }

  /** What a failure of fetch means: stopped by us, forbidden, or passing. */
  #meaning(error: unknown, host: string): unknown {
    const { signal } = this.options;
    if (signal.aborted) return signal.reason;
    if (error instanceof Deno.errors.NotCapable) {
      return new LabError(`Cannot reach ${host}: this process may not use the network there`, {
        help: `run it with --allow-net=${host}`,
        cause: error,
      });
    }
    if (error instanceof Silence) return new Passing(`${host} sends nothing`);
    if (!(error instanceof TypeError)) return error;
    const reason = error.cause instanceof Error ? error.cause.message : error.message;
    return new Passing(`the connection to ${host} failed: ${reason.replace(/^.*\): /, "")}`);
  }
}

function givingUp(doing: string, failure: Passing, failures: number, help: string): LabError {
  const { waitMs, wrongAnswer } = failure;
  const message = waitMs !== undefined && waitMs > MAX_WAIT_MS
    ? `Cannot ${doing}: ${failure.message} and asks to wait ${duration(waitMs)}`
    : `Cannot ${doing}: ${failure.message} (tried ${failures} times)`;
  const options = { help, cause: failure };
  return wrongAnswer ? new InputError(message, options) : new LabError(message, options);
}
