// Device memory: buffers are reused by size class, counted, and refused above the budget. Work on one
// queue runs in order, so a buffer given back may be handed out again before the GPU is done with it.

import { ResourceError } from "../errors.ts";
import type { Gpu } from "./device.ts";

/** A device buffer and the size it was made with (its size class, not the size asked for). */
export interface GpuBuffer {
  readonly raw: GPUBuffer;
  readonly sizeBytes: number;
  /** Bytes asked for by whoever holds it. */
  usedBytes: number;
  /** Distinguishes buffers in cache keys. */
  readonly id: number;
}

/** A texture that a kernel reads a copy of a buffer from, 16 bytes to a texel, {@link TEXEL_COLUMNS} to a row. */
export interface Texels {
  readonly raw: GPUTexture;
  readonly view: GPUTextureView;
  readonly sizeBytes: number;
  readonly format: TexelFormat;
}

/** What a texel is read as: four floats or four unsigned integers. */
export type TexelFormat = "rgba32float" | "rgba32uint";

/** Texels in a row of a {@link Texels} texture; kernels compute positions with this number. */
export const TEXEL_COLUMNS = 4096;

const SMALLEST = 256;
const TEXEL_ROW = 16 * TEXEL_COLUMNS; // bytes

/** Rounds up to a size class: four classes per power of two, so at most a fifth is unused. */
export function sizeClass(sizeBytes: number): number {
  if (sizeBytes <= SMALLEST) return SMALLEST;
  const step = 2 ** Math.max(6, Math.floor(Math.log2(sizeBytes - 1)) - 2);
  return Math.ceil(sizeBytes / step) * step;
}

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
  /** Bytes kept for reuse now. */
  idleBytes = 0;
  /** The largest `liveBytes` seen. */
  peakBytes = 0;
  /** Buffers handed out now. */
  liveCount = 0;
  /** The largest sum of live and idle bytes allowed. */
  readonly budgetBytes: number;

  readonly #gpu: Gpu;
  readonly #idle = new Map<number, GpuBuffer[]>();
  readonly #idleTexels = new Map<string, Texels[]>();
  #nextId = 1;

  constructor(gpu: Gpu, budgetBytes: number) {
    this.#gpu = gpu;
    this.budgetBytes = budgetBytes;
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
    const reused = this.#idle.get(size)?.pop();
    if (reused) {
      this.idleBytes -= size;
      this.#count(size);
      reused.usedBytes = sizeBytes;
      return reused;
    }
    if (size > this.#gpu.device.limits.maxBufferSize) {
      const most = formatBytes(this.#gpu.device.limits.maxBufferSize);
      throw new ResourceError(
        `Cannot allocate ${formatBytes(size)} for ${what}: this adapter's buffers end at ${most}`,
        { help: "use fewer tokens per step" },
      );
    }
    this.#makeRoom(size, what);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const raw = this.#gpu.device.createBuffer({ label: what, size, usage });
    this.#count(size);
    return { raw, sizeBytes: size, usedBytes: sizeBytes, id: this.#nextId++ };
  }

  /** Takes a buffer back for reuse. */
  give(buffer: GpuBuffer): void {
    this.liveBytes -= buffer.sizeBytes;
    this.liveCount--;
    this.idleBytes += buffer.sizeBytes;
    const list = this.#idle.get(buffer.sizeBytes);
    if (list) list.push(buffer);
    else this.#idle.set(buffer.sizeBytes, [buffer]);
  }

  /**
   * A texture of at least `sizeBytes`, contents undefined. It serves one launch and is given back at once, so it
   * counts as idle memory, within the budget.
   *
   * @throws {ResourceError} As {@link take}
   */
  takeTexels(sizeBytes: number, format: TexelFormat): Texels {
    const rows = Math.ceil(sizeClass(sizeBytes) / TEXEL_ROW);
    const size = rows * TEXEL_ROW;
    const reused = this.#idleTexels.get(`${format} ${size}`)?.pop();
    if (reused) {
      this.idleBytes -= size;
      return reused;
    }
    this.#makeRoom(size, "a copy that kernels read as texels");
    const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST;
    const raw = this.#gpu.device.createTexture({ size: [TEXEL_COLUMNS, rows], format, usage });
    return { raw, view: raw.createView(), sizeBytes: size, format };
  }

  /** Takes a texture back for reuse. */
  giveTexels(texels: Texels): void {
    this.idleBytes += texels.sizeBytes;
    const key = `${texels.format} ${texels.sizeBytes}`;
    const list = this.#idleTexels.get(key);
    if (list) list.push(texels);
    else this.#idleTexels.set(key, [texels]);
  }

  /** Frees every idle buffer and texture. */
  trim(): void {
    this.#gpu.flush();
    for (const list of this.#idle.values()) for (const buffer of list) buffer.raw.destroy();
    for (const list of this.#idleTexels.values()) for (const texels of list) texels.raw.destroy();
    this.#idle.clear();
    this.#idleTexels.clear();
    this.idleBytes = 0;
  }

  #makeRoom(size: number, what: string): void {
    if (this.liveBytes + this.idleBytes + size > this.budgetBytes) this.trim();
    if (this.liveBytes + size > this.budgetBytes) {
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
