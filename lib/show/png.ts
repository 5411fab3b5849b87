// Plain pixels and the smallest PNG writer that serves figures: 8-bit RGB, no filter, zlib. Equal pixels give
// equal bytes. Reading images and everything else about them is lib/data's.

import { crc32, deflateSync } from "node:zlib";

/** Rows of RGB pixels, top to bottom, one byte per channel. */
export interface Picture {
  width: number;
  height: number;
  /** (height, width, 3) */
  rgb: Uint8Array;
}

/**
 * Encodes a picture as PNG.
 *
 * @throws {RangeError} If the pixels are not width · height · 3 bytes
 */
export function encodePng({ width, height, rgb }: Picture): Uint8Array {
  if (rgb.length !== width * height * 3 || width < 1 || height < 1) {
    throw new RangeError(
      `Cannot encode a ${width} × ${height} RGB picture from ${rgb.length} bytes`,
    );
  }
  const rows = new Uint8Array(height * (1 + width * 3)); // each row starts with its filter, 0 = none
  for (let y = 0; y < height; y++) {
    rows.set(rgb.subarray(y * width * 3, (y + 1) * width * 3), y * (1 + width * 3) + 1);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2], 8); // 8 bits, colour type RGB
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const parts = [
    signature,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(rows, { level: 9 })),
    chunk("IEND", new Uint8Array(0)),
  ];
  const png = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    png.set(part, at);
    at += part.length;
  }
  return png;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = type.charCodeAt(i);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** A picture as a `data:` address. */
export function pngAddress(picture: Picture): string {
  return `data:image/png;base64,${encodePng(picture).toBase64()}`;
}

/** How pictures are laid side by side. */
export interface StripOptions {
  /** Every picture is scaled by whole pixels to about this many; default 64. */
  cell?: number;
  /** White pixels between pictures; default 4. */
  gap?: number;
}

/**
 * Lays pictures out in rows on white, each enlarged by repeating pixels. A missing picture stays white.
 *
 * @throws {RangeError} If there is no picture at all
 */
export function strip(
  rows: readonly (readonly (Picture | undefined)[])[],
  options: StripOptions = {},
): Picture {
  const { cell = 64, gap = 4 } = options;
  const pictures = rows.flat().filter((p) => p !== undefined);
  if (pictures.length === 0) throw new RangeError("Cannot lay out a strip: no pictures");
  const scale = (p: Picture) => Math.max(1, Math.round(cell / Math.max(p.width, p.height)));
  const cellWidth = Math.max(...pictures.map((p) => scale(p) * p.width));
  const cellHeight = Math.max(...pictures.map((p) => scale(p) * p.height));
  const columns = Math.max(...rows.map((row) => row.length));
  const width = columns * cellWidth + (columns - 1) * gap;
  const height = rows.length * cellHeight + (rows.length - 1) * gap;
  const rgb = new Uint8Array(width * height * 3).fill(255);
  for (const [r, row] of rows.entries()) {
    for (const [c, picture] of row.entries()) {
      if (!picture) continue;
      const k = scale(picture);
      for (let y = 0; y < picture.height * k; y++) {
        for (let x = 0; x < picture.width * k; x++) {
          const from = (Math.floor(y / k) * picture.width + Math.floor(x / k)) * 3;
          const to = ((r * (cellHeight + gap) + y) * width + c * (cellWidth + gap) + x) * 3;
          for (let i = 0; i < 3; i++) rgb[to + i] = picture.rgb[from + i];
        }
      }
    }
  }
  return { width, height, rgb };
}
