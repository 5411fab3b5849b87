// What a check of data keeps of an image: its size, a digest of what is seen, and a hash of its looks. A few
// dozen bytes, whatever the image.

import { createHash } from "node:crypto";
import { perceptualHash } from "../perceptual_hash.ts";
import { decodeRef } from "./decode_ref.ts";
import type { ImageRef } from "./record.ts";

/** An image without its pixels. */
export interface ImageLook {
  width: number;
  height: number;
  /** SHA-256 of size and pixels. */
  digest: Uint8Array;
  /** Undefined if nothing is to be seen on it. */
  hash?: Uint32Array;
}

/**
 * Decodes an image and looks at it.
 *
 * @param where the record's place, for errors
 * @throws {InputError} As {@link decodeRef}
 */
export async function lookAt(image: ImageRef, where: string): Promise<ImageLook> {
  const { width, height, data } = await decodeRef(image, { where });
  const sha = createHash("sha256").update(`${width}x${height}\0`).update(data);
  const hash = perceptualHash({ width, height, data });
  return { width, height, digest: sha.digest(), ...(hash ? { hash } : {}) };
}

/** Tells files apart without decoding them: SHA-256 of the real path, the encoded bytes or the pixels. */
export function fileDigest(image: ImageRef): Uint8Array {
  const sha = createHash("sha256");
  if (image.bytes) return sha.update("bytes\0").update(image.bytes).digest();
  if (image.pixels) {
    const { width, height, data } = image.pixels;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return sha.update(`pixels ${width}x${height}\0`).update(bytes).digest();
  }
  return sha.update(`path\0${image.path}`).digest();
}
