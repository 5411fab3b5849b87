// Bytes of numbers in files: their order (every machine this runs on is little-endian), their place.

/**
 * Reverses the bytes of each number, in place.
 *
 * @param size bytes per number: 1, 2, 4 or 8; the length is a multiple of it
 */
export function swapBytes(bytes: Uint8Array, size: number) {
  for (let start = 0; start < bytes.length; start += size) {
    for (let low = start, high = start + size - 1; low < high; low++, high--) {
      [bytes[low], bytes[high]] = [bytes[high], bytes[low]];
    }
  }
}

/** The same bytes as a plain Uint8Array: slice() of node's Buffer would not copy. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}
