// Device memory: buffers are reused by size class, counted, and refused above the budget. Work on one
// queue runs in order, so a buffer given back may be handed out again before the GPU is done with it.

import { ResourceError } from "../errors.ts";
import type { Gpu } from "./device.ts";
import { CLASSES, sizeClass, SMALLEST } from "./size_class.ts";
import { TexelCopies } from "./texel_copies.ts";

/** A device buffer and the size it was made with (its size class, not the size asked for). */
export interface GpuBuffer {
  readonly raw: GPUBuffer;
  readonly sizeBytes: number;
  /** Bytes asked for by whoever holds it. */
  usedBytes: number;
  /** Those of their size class: what counts as live, and what kernels bind. The buffer may be larger. */
  heldBytes: number;
  /** Distinguishes buffers in cache keys. */
  readonly id: number;
  /** Counts what was recorded to write to it: copies of an older version are stale. Views count at their root. */
  version: number;
  /** First byte in `raw`: 0 but for views. */
  readonly offset: number;
  /** The buffer that this is a view of, if it is one. */
  readonly root?: GpuBuffer;
}

/** What a buffer is a view of, or itself. */
export function rootOf(buffer: GpuBuffer): GpuBuffer {
  return buffer.root ?? buffer;
}

/** Buffers up to this size are handed out for half of it too. */
const LOOSE_BYTES = 2 ** 24;

/** Formats bytes for messages. */
export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return `${bytes} B`;
}

/** Hands out and takes back device buffers. */
export class BufferPool {
  /** Bytes handed out now. */
  liveBytes = 0;
  /** The largest `liveBytes` seen. */
  peakBytes = 0;
  /** Buffers handed out now. */
  liveCount = 0;
  /** How often {@link BufferPool.trim} freed memory: caches of bind groups go by it. */
  trims = 0;
  /** The largest sum of live and idle bytes allowed. */
  readonly budgetBytes: number;
  /** Copies of buffers for kernels that read texels. */
  readonly texels: TexelCopies;

  readonly #gpu: Gpu;
  readonly #idle = new Map<number, GpuBuffer[]>();
  /** Bytes of all buffers, in use or not. */
  #madeBytes = 0;
  #nextId = 1;

  constructor(gpu: Gpu, budgetBytes: number) {
    this.#gpu = gpu;
    this.budgetBytes = budgetBytes;
    this.texels = new TexelCopies(gpu, (bytes) => this.#makeRoom(bytes, "copies read as texels"));
  }

  /** Bytes kept for reuse now, copies that kernels read as texels included. */
  get idleBytes(): number {
    return this.#madeBytes - this.liveBytes + this.texels.bytes;
  }

  /**
   * A buffer of at least `sizeBytes`, contents undefined.
   *
   * @param what what it is for, named when the budget is exceeded
   * @param exact true to take no more than asked for: for weights, which are many and stay
   * @throws {ResourceError} If the budget or the largest buffer size would be exceeded
   */
  take(sizeBytes: number, what: string, exact = false): GpuBuffer {
    const size = exact ? SMALLEST * Math.ceil(sizeBytes / SMALLEST) : sizeClass(sizeBytes);
    const reused = this.#reuse(size, exact);
    if (reused) {
      this.#count(size);
      reused.usedBytes = sizeBytes;
      reused.heldBytes = size;
      return reused;
    }
    if (size > this.#gpu.limits.maxBufferSize) {
      const most = formatBytes(this.#gpu.limits.maxBufferSize);
      throw new ResourceError(
        `Cannot allocate ${formatBytes(size)} for ${what}: this adapter's buffers end at ${most}`,
        { help: "use fewer tokens per step" },
      );
    }
    this.#makeRoom(size, what);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const raw = this.#gpu.device.createBuffer({ label: what, size, usage });
    this.#madeBytes += size;
    this.#count(size);
    return {
      raw,
      sizeBytes: size,
      usedBytes: sizeBytes,
      heldBytes: size,
      id: this.#nextId++,
      version: 0,
      offset: 0,
    };
  }

  /**
   * An idle buffer of this size or of the classes up to twice of it, unless it must be exact, is large, or memory is
   * so short that what nobody uses of it could be missed.
   */
  #reuse(size: number, exact: boolean): GpuBuffer | undefined {
    const found = this.#idle.get(size)?.pop();
    const short = 2 * this.#madeBytes > this.budgetBytes;
    if (found || exact || short || 2 * size > LOOSE_BYTES) return found;
    for (let i = 0, larger = size; i < CLASSES; i++) {
      larger = sizeClass(larger + 1);
      const loose = this.#idle.get(larger)?.pop();
      if (loose) return loose;
    }
    return undefined;
  }

  /**
   * Part of a buffer, in the same memory. It is never given back: whoever took the buffer keeps it as long as its
   * views are in use.
   */
  view(buffer: GpuBuffer, offset: number, usedBytes: number): GpuBuffer {
    const root = rootOf(buffer);
    const from = buffer.offset + offset;
    const sizeBytes = Math.min(16 * Math.ceil(usedBytes / 16), root.sizeBytes - from);
    const { raw } = root;
    return {
      raw,
      sizeBytes,
      usedBytes,
      heldBytes: sizeBytes,
      id: this.#nextId++,
      version: 0,
      offset: from,
      root,
    };
  }

  /** Takes a buffer back for reuse. */
  give(buffer: GpuBuffer): void {
    this.liveBytes -= buffer.heldBytes;
    this.liveCount--;
    this.texels.forget(buffer);
    let list = this.#idle.get(buffer.sizeBytes);
    if (!list) this.#idle.set(buffer.sizeBytes, list = []);
    // Falling ids, so that the lowest is handed out next: equal steps then get equal buffers and bind groups.
    let at = list.length;
    while (at > 0 && list[at - 1].id < buffer.id) at--;
    list.splice(at, 0, buffer);
  }

  /** Frees every idle buffer and every copy that no launch in hand reads. */
  trim(): void {
    this.#gpu.flush();
    this.trims++;
    for (const list of this.#idle.values()) {
      for (const { raw, sizeBytes } of list) {
        raw.destroy();
        this.#madeBytes -= sizeBytes;
      }
    }
    this.#idle.clear();
    this.texels.trim();
  }

  #makeRoom(size: number, what: string): void {
    if (this.liveBytes + this.idleBytes + size > this.budgetBytes) this.trim();
    if (this.#madeBytes + size > this.budgetBytes) {
      throw new ResourceError(
        `Cannot allocate ${formatBytes(size)} for ${what}: ${formatBytes(this.liveBytes)} of the ` +
          `budget of ${formatBytes(this.budgetBytes)} is in use`,
        { help: "raise --budget, or lower the images or tokens per step" },
      );
    }
  }

  #count(size: number): void {
    this.liveBytes += size;
    this.liveCount++;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
  }
}
