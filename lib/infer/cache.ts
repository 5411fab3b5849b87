// Contexts: what a model has read so far, as keys and values in pages. Contexts share the pages of what they
// have in common; a context that goes on writing into a page it shares gets a copy of that one page.

import { ResourceError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { headSize, type LanguageConfig } from "../model/config.ts";
import { type CacheLayer, PAGE } from "../ops/cached_attention.ts";
import { Tensor } from "../tensor.ts";

/** Bytes of cache per token: keys and values of every layer, in f32. */
export function cacheBytesPerToken(config: LanguageConfig): number {
  const size = 4 * Math.ceil(headSize(config) / 4);
  return config.numHiddenLayers * 2 * config.numKeyValueHeads * size * 4;
}

/** The pages of every layer's cache, allocated once. */
export class CachePool {
  readonly gpu: Gpu;
  readonly layers: readonly CacheLayer[];
  /** Tokens that fit in all. */
  readonly capacity: number;
  /** Pages copied because a context wrote into one it shared. */
  copiedPages = 0;

  readonly #references: Int32Array;
  readonly #free: number[];

  /**
   * @param tokens how many tokens must fit, over all contexts, shared ones counted once
   * @throws {ResourceError} If the budget has no room for them
   */
  constructor(gpu: Gpu, config: LanguageConfig, tokens: number) {
    const pages = Math.max(1, Math.ceil(tokens / PAGE));
    const size = 4 * Math.ceil(headSize(config) / 4);
    const shape = [pages * PAGE, config.numKeyValueHeads, size];
    const layers: CacheLayer[] = [];
    try {
      for (let i = 0; i < config.numHiddenLayers; i++) {
        const keys = Tensor.empty(gpu, shape).keep();
        layers.push({ keys, values: Tensor.empty(gpu, shape).keep() });
      }
    } catch (error) {
      for (const { keys, values } of layers) {
        keys.dispose();
        values.dispose();
      }
      throw error;
    }
    this.gpu = gpu;
    this.layers = layers;
    this.capacity = pages * PAGE;
    this.#references = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i);
  }

  /** A context that has read nothing. */
  context(): Context {
    return new Context(this, [], 0, 0);
  }

  /** @throws {ResourceError} If all pages are in use */
  take(): number {
    const page = this.#free.pop();
    if (page === undefined) {
      throw new ResourceError(
        `Cannot read on: the cache holds ${this.capacity} tokens, all in use`,
        {
          help: "ask for a larger context (--context), or for fewer or smaller images and answers",
        },
      );
    }
    this.#references[page] = 1;
    return page;
  }

  share(page: number): void {
    this.#references[page]++;
  }

  give(page: number): void {
    if (--this.#references[page] === 0) this.#free.push(page);
  }

  isShared(page: number): boolean {
    return this.#references[page] > 1;
  }

  /** A page of one's own with the contents of a shared one. */
  copy(page: number): number {
    const own = this.take();
    const [, heads, size] = this.layers[0].keys.shape;
    const bytes = 4 * PAGE * heads * size;
    // By way of a spare buffer: WebGPU does not copy within one buffer.
    const spare = Tensor.empty(this.gpu, [PAGE, heads, size]);
    for (const { keys, values } of this.layers) {
      for (const { buffer } of [keys, values]) {
        this.gpu.copy(buffer, page * bytes, spare.buffer, 0, bytes);
        this.gpu.copy(spare.buffer, 0, buffer, own * bytes, bytes);
      }
    }
    spare.dispose();
    this.give(page);
    this.copiedPages++;
    return own;
  }

  /** Gives the memory back; contexts of this pool are of no use then. */
  dispose(): void {
    for (const { keys, values } of this.layers) {
      keys.dispose();
      values.dispose();
    }
  }
}

/** One sequence's reading so far (reference: `gen_context`). */
export class Context {
  readonly pool: CachePool;
  /** Tokens cached. */
  length: number;
  /** The next rotary position; images take one whatever their size. */
  rope: number;
  readonly #pages: number[];
  /** Stands for all that was read: shared by forks, another one after each reading. */
  #read: object = {};

  constructor(pool: CachePool, pages: number[], length: number, rope: number) {
    this.pool = pool;
    this.#pages = pages;
    this.length = length;
    this.rope = rope;
  }

  /** The pages in order; some behind the last token may be spare. */
  get pages(): readonly number[] {
    return this.#pages;
  }

  /** Another context that has read the same. Nothing is copied. */
  fork(): Context {
    const pages = this.#pages.slice(0, Math.ceil(this.length / PAGE));
    for (const page of pages) this.pool.share(page);
    const fork = new Context(this.pool, pages, this.length, this.rope);
    fork.#read = this.#read;
    return fork;
  }

  /** True if both have read the very same: one was forked from the other, and neither read on since. */
  equals(other: Context): boolean {
    return this.#read === other.#read || this.length === 0 && other.length === 0;
  }

  /** Makes room for `tokens` more, in pages that are this context's own from the next token on. */
  reserve(tokens: number): void {
    const last = Math.floor(this.length / PAGE);
    if (this.length % PAGE !== 0 && this.pool.isShared(this.#pages[last])) {
      this.#pages[last] = this.pool.copy(this.#pages[last]);
    }
    const wanted = Math.ceil((this.length + tokens) / PAGE);
    while (this.#pages.length < wanted) this.#pages.push(this.pool.take());
  }

  /** Counts tokens that a pass wrote. */
  advance(tokens: number, positions: number): void {
    this.length += tokens;
    this.rope += positions;
    this.#read = {};
  }

  /** Gives its pages back. Safe to call twice. */
  dispose(): void {
    for (const page of this.#pages.splice(0)) this.pool.give(page);
    this.length = 0;
  }
}
