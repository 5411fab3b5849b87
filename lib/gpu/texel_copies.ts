// Copies of buffers as textures, which software adapters read several times faster. A copy stays until its buffer is
// given back or room is needed: weights and activations are read by several kernels of a step.

import type { GpuBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { CLASSES, sizeClass } from "./size_class.ts";

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
  /** Keys of the copies of a buffer and its views. */
  readonly #keys = new Map<number, string[]>();
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
    if (known) {
      this.#copies.delete(key);
    } else {
      this.#keptBytes += texels.sizeBytes;
      const keys = this.#keys.get(buffer.id);
      if (keys) keys.push(key);
      else this.#keys.set(buffer.id, [key]);
    }
    this.#copies.set(key, { texels, buffer, version: buffer.version });
    if (known?.version !== buffer.version) {
      this.#gpu.copyToTexels(buffer, offset, sizeBytes, texels);
    }
    return texels;
  }

  /** Ends a launch: the queue runs in order, so its textures may be reused for later copies. */
  release(): void {
    this.#held.clear();
    for (const [key, copy] of this.#copies) {
      if (this.#keptBytes <= KEPT_BYTES) break;
      this.#drop(key, copy);
      this.#keep(copy.texels);
    }
  }

  /** Lets the textures of a buffer be reused: what it holds is of no use any more. */
  forget({ id }: GpuBuffer): void {
    for (const key of [...this.#keys.get(id) ?? []]) {
      const copy = this.#copies.get(key)!;
      if (this.#held.has(copy.texels)) continue;
      this.#drop(key, copy);
      this.#keep(copy.texels);
    }
  }

  /** Frees all but what the launch in hand reads; what was recorded must have been submitted. */
  trim(): void {
    for (const list of this.#idle.values()) for (const texels of list) this.#destroy(texels);
    this.#idle.clear();
    for (const [key, copy] of this.#copies) {
      if (this.#held.has(copy.texels)) continue;
      this.#drop(key, copy);
      this.#destroy(copy.texels);
    }
  }

  #drop(key: string, { texels, buffer }: Copy): void {
    this.#copies.delete(key);
    this.#keptBytes -= texels.sizeBytes;
    const keys = this.#keys.get(buffer.id)!;
    if (keys.length === 1) this.#keys.delete(buffer.id);
    else keys.splice(keys.indexOf(key), 1);
  }

  /** Falling ids, so that equal steps get equal textures and bind groups. */
  #keep(texels: Texels): void {
    let list = this.#idle.get(texels.sizeBytes);
    if (!list) this.#idle.set(texels.sizeBytes, list = []);
    let at = list.length;
    while (at > 0 && list[at - 1].id < texels.id) at--;
    list.splice(at, 0, texels);
  }

  #destroy(texels: Texels): void {
    texels.raw.destroy();
    this.bytes -= texels.sizeBytes;
  }

  #rows(sizeBytes: number): number {
    const needed = Math.ceil(sizeBytes / TEXEL_ROW);
    // llvmpipe compiles a kernel anew for textures whose height is a power of two: none is.
    const tall = Number.isInteger(Math.log2(needed)) ? needed + 1 : needed;
    return Math.min(Math.max(3, tall), this.#gpu.limits.maxTextureDimension2D);
  }

  #take(sizeBytes: number): Texels {
    const bytes = sizeClass(sizeBytes);
    for (let i = 0, larger = bytes; i <= CLASSES; i++, larger = sizeClass(larger + 1)) {
      const reused = this.#idle.get(TEXEL_ROW * this.#rows(larger))?.pop();
      if (reused) return reused;
    }
    const rows = this.#rows(bytes);
    const size = TEXEL_ROW * rows;
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
