// RLE Lossless of DICOM (PS3.5, annex G): a header of 64 bytes with the offsets of up to 15
// segments, each one byte plane of one sample, packed with PackBits.

/**
 * Unpacks one frame.
 *
 * @param samples samples per pixel
 * @param sampleBytes bytes per sample
 * @returns (pixels, samples) little-endian samples, interleaved
 * @throws {RangeError} If the segments are not samples · sampleBytes planes of `pixels` bytes each
 */
export function unpackRle(
  frame: Uint8Array,
  pixels: number,
  samples: number,
  sampleBytes: number,
): Uint8Array<ArrayBuffer> {
  const planes = samples * sampleBytes;
  if (frame.length < 64) throw new RangeError(`its RLE header has ${frame.length} of 64 bytes`);
  const view = new DataView(frame.buffer, frame.byteOffset, 64);
  const count = view.getUint32(0, true);
  if (count !== planes) throw new RangeError(`it has ${count} RLE segments, expected ${planes}`);
  const starts = Array.from({ length: planes }, (_, i) => view.getUint32(4 + 4 * i, true));
  starts.push(frame.length);
  const out = new Uint8Array(pixels * planes);
  for (let plane = 0; plane < planes; plane++) {
    const [start, end] = [starts[plane], starts[plane + 1]];
    if (start < 64 || end < start || end > frame.length) {
      throw new RangeError(`RLE segment ${plane + 1} lies at bytes ${start} to ${end}`);
    }
    // Segments hold the most significant byte of a sample first.
    const sample = Math.floor(plane / sampleBytes);
    const byte = sampleBytes - 1 - plane % sampleBytes;
    const target = out.subarray(sample * sampleBytes + byte);
    const written = unpackBits(frame.subarray(start, end), target, planes, pixels);
    if (written < pixels) {
      throw new RangeError(`RLE segment ${plane + 1} has ${written} of ${pixels} bytes`);
    }
  }
  return out;
}

/** PackBits: n < 128 copies n + 1 bytes, n > 128 repeats one byte 257 - n times. */
function unpackBits(packed: Uint8Array, out: Uint8Array, step: number, limit: number): number {
  let written = 0;
  for (let at = 0; at + 1 < packed.length && written < limit;) {
    const n = packed[at++];
    if (n === 128) continue;
    const repeats = n > 128;
    const run = Math.min(repeats ? 257 - n : n + 1, limit - written);
    if (!repeats && at + run > packed.length) break;
    for (let i = 0; i < run; i++) out[written++ * step] = packed[repeats ? at : at + i];
    at += repeats ? 1 : n + 1;
  }
  return written;
}
