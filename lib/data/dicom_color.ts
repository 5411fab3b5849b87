// Colour of DICOM frames as 8-bit RGB: YBR (PS3.3 C.7.6.3.1.2), palettes, RGB of 8 to 16 bits.

import type { Elements, Field } from "./dicom_header.ts";
import type { Layout } from "./dicom_layout.ts";
import type { Samples } from "./dicom_pixels.ts";

/**
 * Stored colour values → (h, w, 3) bytes; deeper samples keep their upper 8 bits.
 *
 * @throws {InputError} If the palette is missing or incomplete
 */
export function colorToRgb(
  elements: Elements,
  layout: Layout,
  samples: Samples,
): Uint8Array<ArrayBuffer> {
  const { photometric, rows, columns, bitsStored } = layout;
  if (photometric === "PALETTE COLOR") return applyPalette(elements, samples);
  if (photometric !== "RGB" && layout.bitsAllocated !== 8) {
    throw elements.wrong("bitsAllocated", `is ${layout.bitsAllocated} with ${photometric}`);
  }
  const shift = Math.max(bitsStored - 8, 0);
  if (photometric === "RGB") return Uint8Array.from(samples, (v) => v >>> shift);
  const out = new Uint8ClampedArray(rows * columns * 3);
  const paired = photometric === "YBR_FULL_422" && samples.length < out.length;
  for (let i = 0; i < rows * columns; i++) {
    // Pairs are stored as Y Y Cb Cr.
    const pair = (i >> 1) * 4;
    const y = samples[paired ? pair + (i & 1) : 3 * i];
    const cb = samples[paired ? pair + 2 : 3 * i + 1] - 128;
    const cr = samples[paired ? pair + 3 : 3 * i + 2] - 128;
    out[3 * i] = y + 1.402 * cr;
    out[3 * i + 1] = y - 0.344136 * cb - 0.714136 * cr;
    out[3 * i + 2] = y + 1.772 * cb;
  }
  return new Uint8Array(out.buffer);
}

function applyPalette(elements: Elements, samples: Samples): Uint8Array<ArrayBuffer> {
  const tables = (["red", "green", "blue"] as const).map((color) => {
    const { first, values, bits } = readLut(
      elements,
      `${color}PaletteDescriptor`,
      `${color}PaletteData`,
      samples instanceof Int8Array || samples instanceof Int16Array,
    );
    return { first, values: values.map((v) => v >>> (bits - 8)) };
  });
  const out = new Uint8Array(samples.length * 3);
  for (let c = 0; c < 3; c++) {
    const { first, values } = tables[c];
    for (let i = 0; i < samples.length; i++) {
      const entry = Math.min(Math.max(samples[i] - first, 0), values.length - 1);
      out[3 * i + c] = values[entry];
    }
  }
  return out;
}

/** A table of a DICOM file: stored value `first + i` becomes `values[i]`; the ends go on. */
export interface Lut {
  first: number;
  values: Uint16Array;
  /** Bits of the values: 8 to 16. */
  bits: number;
}

/**
 * Reads a lookup table (PS3.3 C.11.1.1): its descriptor is entries (0 = 65536), first, bits.
 *
 * @param signed whether `first` is a signed number, as the pixels are
 * @throws {InputError} If the table is missing, or not as long as its descriptor says
 */
export function readLut(
  elements: Elements,
  descriptor: Field,
  data: Field,
  signed: boolean,
): Lut {
  const [stored, first, bits] = elements.shorts(descriptor, signed) ?? [];
  if (bits === undefined) throw elements.wrong(descriptor, "is missing or incomplete");
  const entries = (stored & 0xffff) || 65_536;
  if (bits < 8 || bits > 16) throw elements.wrong(descriptor, `has ${bits} bits, expected 8 to 16`);
  const bytes = elements.bytes(data);
  if (!bytes) throw elements.wrong(data, "is missing; segmented tables are not read");
  // Entries of 8 bits stand alone or in words of 16.
  const packed = bits === 8 && bytes.length < 2 * entries;
  const words = packed ? undefined : elements.shorts(data);
  const values = words ? Uint16Array.from(words) : Uint16Array.from(unpair(bytes, elements, data));
  if (values.length < entries) {
    throw elements.wrong(data, `has ${values.length} of ${entries} entries`);
  }
  const mask = 2 ** bits - 1;
  return { first, values: values.subarray(0, entries).map((v) => v & mask), bits };
}

/** Bytes in the order of their words: in a big-endian file each pair is the other way round. */
function unpair(bytes: Uint8Array, elements: Elements, field: Field): Uint8Array {
  const words = bytes.length % 2 ? undefined : elements.shorts(field);
  if (!words) return bytes;
  return Uint8Array.from({ length: bytes.length }, (_, i) => words[i >> 1] >> (8 * (i & 1)) & 255);
}
