// Latents of a frozen autoencoder on disk, so that an image is encoded once and not in every pass. What is kept
// are the moments: a posterior sample is drawn anew each time. An entry is named by the pixels and the
// autoencoder, so it cannot be stale; it ends with a checksum, so it cannot be half.

import { createHash } from "node:crypto";
import { ResourceError } from "../../errors.ts";
import { writeWhole } from "../../write_whole.ts";
import { fileReason } from "../jsonl.ts";
import type { Pixels } from "../transforms.ts";

/** Mean and logarithm of the variance of an image's latents, before shift and scale. */
export interface LatentMoments {
  channels: number;
  height: number;
  width: number;
  /** (channels, height, width) each. */
  mean: Float32Array;
  logvar: Float32Array;
}

/** Settings of {@link openLatentCache}. */
export interface LatentCacheOptions {
  /** What the latents depend on beside the pixels: a digest of the encoder's weights. */
  autoencoder: string;
  /** Nothing is added beyond this size. Default: 32 GiB. */
  maxBytes?: number;
  /** Called where an entry is damaged, or nothing more can be kept. */
  onNote?: (message: string) => void;
}

/** The first bytes of an entry. */
const MAGIC = new TextEncoder().encode("okalat1\n");
const HEADER_BYTES = MAGIC.length + 3 * 4;
const DIGEST_BYTES = 32;
const DEFAULT_MAX_BYTES = 32 * 2 ** 30;

/**
 * Opens or makes a cache in a folder; several processes may use one.
 *
 * @throws {ResourceError} If the folder cannot be made or read
 */
export async function openLatentCache(
  dir: string,
  options: LatentCacheOptions,
): Promise<LatentCache> {
  try {
    await Deno.mkdir(dir, { recursive: true });
    return new LatentCache(dir, options, await sizeOf(dir));
  } catch (cause) {
    throw new ResourceError(`Cannot keep latents in ${dir}: ${fileReason(cause)}`, {
      cause,
      help: "Give a folder that can be written, or none: latents are then computed each time",
    });
  }
}

async function sizeOf(dir: string): Promise<number> {
  let bytes = 0;
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    const path = `${dir}/${name}`;
    bytes += isDirectory ? await sizeOf(path) : (await Deno.stat(path)).size;
  }
  return bytes;
}

/** Moments by image. */
export class LatentCache {
  /** Entries read, and asked for in vain. */
  hits = 0;
  misses = 0;
  #bytes: number;
  #full = false;

  constructor(
    readonly dir: string,
    private readonly options: LatentCacheOptions,
    bytes: number,
  ) {
    this.#bytes = bytes;
  }

  /** The name of an image's entry: SHA-256 of autoencoder, size and pixels, in hex. */
  key({ height, width, data }: Pixels): string {
    return createHash("sha256").update(`${this.options.autoencoder} ${height} ${width}\n`)
      .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest("hex");
  }

  /** The moments of an image, if they are there and whole; a damaged entry is reported. */
  async read(key: string): Promise<LatentMoments | undefined> {
    const path = this.#path(key);
    let bytes: Uint8Array;
    try {
      bytes = await Deno.readFile(path);
    } catch (cause) {
      this.misses++;
      if (cause instanceof Deno.errors.NotFound) return undefined;
      this.#note(
        `Cannot read the latents in ${path}: ${fileReason(cause)}; they are computed again`,
      );
      return undefined;
    }
    const moments = decode(bytes);
    if (moments) this.hits++;
    else {
      this.misses++;
      this.#note(`Cannot use the latents in ${path}: the file is damaged; they are computed again`);
    }
    return moments;
  }

  /** Keeps moments. Where that fails it is reported once, and nothing more is kept. */
  async write(key: string, moments: LatentMoments): Promise<void> {
    if (this.#full) return;
    const bytes = encode(moments);
    const { maxBytes = DEFAULT_MAX_BYTES } = this.options;
    if (this.#bytes + bytes.length > maxBytes) {
      this.#stop(`it has ${this.#bytes} bytes of at most ${maxBytes}`);
      return;
    }
    const path = this.#path(key);
    // Other processes may write the same entry: each has a name of its own until it is whole.
    const own = `${path}.${crypto.randomUUID()}`;
    try {
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      await writeWhole(own, bytes);
      await Deno.rename(own, path);
      this.#bytes += bytes.length;
    } catch (cause) {
      this.#stop(fileReason(cause));
    }
  }

  #stop(why: string): void {
    this.#full = true;
    this.#note(`Cannot keep more latents in ${this.dir}: ${why}; others are computed each time`);
  }

  #path(key: string): string {
    return `${this.dir}/${key.slice(0, 2)}/${key}.latents`;
  }

  #note(message: string): void {
    this.options.onNote?.(message);
  }
}

/** Magic, three sizes (u32), mean and logvar (f32), SHA-256 of all that; little-endian. */
function encode({ channels, height, width, mean, logvar }: LatentMoments): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + 4 * (mean.length + logvar.length) + DIGEST_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  [channels, height, width].forEach((n, i) => view.setUint32(MAGIC.length + 4 * i, n, true));
  let at = HEADER_BYTES;
  for (const values of [mean, logvar]) {
    for (const value of values) {
      view.setFloat32(at, value, true);
      at += 4;
    }
  }
  bytes.set(createHash("sha256").update(bytes.subarray(0, at)).digest(), at);
  return bytes;
}

function decode(bytes: Uint8Array): LatentMoments | undefined {
  const end = bytes.length - DIGEST_BYTES;
  if (end < HEADER_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte)) return undefined;
  const digest = createHash("sha256").update(bytes.subarray(0, end)).digest();
  if (digest.some((byte, i) => bytes[end + i] !== byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const [channels, height, width] = [0, 1, 2].map((i) =>
    view.getUint32(MAGIC.length + 4 * i, true)
  );
  const size = channels * height * width;
  if (end !== HEADER_BYTES + 8 * size) return undefined;
  const floats = (from: number) =>
    Float32Array.from(
      { length: size },
      (_, i) => view.getFloat32(HEADER_BYTES + 4 * (from + i), true),
    );
  return { channels, height, width, mean: floats(0), logvar: floats(size) };
}
