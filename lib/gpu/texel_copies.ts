// Copies of buffers as textures, which software adapters read several times faster. A copy stays until its buffer is
// written or room is needed: weights and activations are read by several kernels of a step.

import type { GpuBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { sizeClass } from "./size_class.ts";

/** A texture with a copy of part of a buffer, 16 bytes to a texel, {@link TEXEL_COLUMNS} to a row. */
export interface Texels {
  readonly raw: GPUTexture;
  readonly view: GPUTextureView;
  readonly sizeBytes: number;
  /** Distinguishes textures in cache keys. */
  readonly id: number;
}

/** Texels in a row of a {@link Texels} texture; kernels compute positions with this number. */
export const TEXEL_COLUMNS = 1024;

/** Texels are read as four words; kernels make floats of them. */
const FORMAT = "rgba32uint";
const TEXEL_ROW = 16 * TEXEL_COLUMNS; // bytes
/** Copies kept beyond the launch in hand, in bytes, at most: beyond that the least recently read go. */
const KEPT_BYTES = 2 ** 27;

interface Copy {
  texels: Texels;
  buffer: GpuBuffer;
  version: number;
}

/** The copies of one device. */
export class TexelCopies {
  /** Bytes of all textures. */
  bytes = 0;

  readonly #gpu: Gpu;
  readonly #makeRoom: (bytes: number) => void;
  /** By buffer and range, the most recently read last. */
  readonly #copies = new Map<string, Copy>();
  readonly #idle = new Map<number, Texels[]>();
  /** Those of the launch in hand. */
  readonly #held = new Set<Texels>();
  #keptBytes = 0;
  #nextId = 1;

  /** @param makeRoom called before a texture is made; throws if the budget does not allow it */
  constructor(gpu: Gpu, makeRoom: (bytes: number) => void) {
    this.#gpu = gpu;
    this.#makeRoom = makeRoom;
  }

  /** Bytes of the largest copy. */
  get mostBytes(): number {
    return TEXEL_ROW * this.#gpu.limits.maxTextureDimension2D;
  }

  /**
   * The texels of `sizeBytes` bytes of a buffer from `offset`, copied unless an up-to-date copy exists. It is held
   * until {@link TexelCopies.release}.
   *
   * @throws {ResourceError} As `BufferPool.take`
   */
  of(buffer: GpuBuffer, offset: number, sizeBytes: number): Texels {
    const key = `${buffer.id} ${offset} ${sizeBytes}`;
    const known = this.#copies.get(key);
    const texels = known?.texels ?? this.#take(sizeBytes);
    this.#held.add(texels);
    if (known) this.#copies.delete(key);
    else this.#keptBytes += texels.sizeBytes;
    this.#copies.set(key, { texels, buffer, version: buffer.version });
    if (known?.version !== buffer.version) {
      this.#gpu.copyToTexels(buffer, offset, sizeBytes, texels);
    }
    return texels;
  }

  /** Ends a launch: the queue runs in order, so its textures may be reused for later copies. */
  release(): void {
    this.#held.clear();
    for (const [key, { texels }] of this.#copies) {
      if (this.#keptBytes <= KEPT_BYTES) break;
      this.#copies.delete(key);
      this.#keptBytes -= texels.sizeBytes;
      const list = this.#idle.get(texels.sizeBytes);
      if (list) list.push(texels);
      else this.#idle.set(texels.sizeBytes, [texels]);
    }
  }

  /** Frees all but what the launch in hand reads; what was recorded must have been submitted. */
  trim(): void {
    for (const list of this.#idle.values()) for (const texels of list) this.#destroy(texels);
    this.#idle.clear();
    for (const [key, { texels }] of this.#copies) {
      if (this.#held.has(texels)) continue;
      this.#copies.delete(key);
      this.#keptBytes -= texels.sizeBytes;
      this.#destroy(texels);
    }
  }

  #destroy(texels: Texels): void {
    texels.raw.destroy();
    this.bytes -= texels.sizeBytes;
  }

  #take(sizeBytes: number): Texels {
    const bytes = sizeClass(sizeBytes);
    const needed = Math.ceil(bytes / TEXEL_ROW);
    // llvmpipe compiles a kernel anew for textures whose height is a power of two: none is.
    const tall = Number.isInteger(Math.log2(needed)) ? needed + 1 : needed;
    const rows = Math.min(Math.max(3, tall), this.#gpu.limits.maxTextureDimension2D);
    const size = TEXEL_ROW * rows;
    const reused = this.#idle.get(size)?.pop();
    if (reused) return reused;
    this.#makeRoom(size);
    const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST;
    const raw = this.#gpu.device.createTexture({
      size: [TEXEL_COLUMNS, rows],
      format: FORMAT,
      usage,
    });
    this.bytes += size;
    return { raw, view: raw.createView(), sizeBytes: size, id: this.#nextId++ };
  }
}
