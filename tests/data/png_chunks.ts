// Chunks of PNG files, for tests of what encoders do not write.

/** Puts a chunk with its checksum before the first IDAT of a PNG. */
export function insertChunk(png: Uint8Array, type: string, content: number[]): Uint8Array {
  const body = [...new TextEncoder().encode(type), ...content];
  let crc = ~0;
  for (const byte of body) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const chunk = new Uint8Array(body.length + 8);
  new DataView(chunk.buffer).setUint32(0, content.length);
  chunk.set(body, 4);
  new DataView(chunk.buffer).setUint32(chunk.length - 4, ~crc >>> 0);
  const at = String.fromCharCode(...png).indexOf("IDAT") - 4;
  return Uint8Array.from([...png.subarray(0, at), ...chunk, ...png.subarray(at)]);
}
