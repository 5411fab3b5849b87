// How weights are packed into 8 or 4 bits, on disk and on the device alike, so that a file's bytes go to the
// device as they are. Quantization is symmetric, in groups along the inner axis: w ≈ scale · q.
//
// A matrix (rows, columns) is stored row by row; a row is
//   the values    int8: one byte each, two's complement; int4: two to a byte, low half first, as q + 8;
//                 filled up with q = 0 to whole groups
//   the scales    bf16, one per group of 64 values, in order
//   zeros         up to a multiple of 16 bytes

/** The packed formats: bits per value and largest |q|. */
export const PACKED = {
  int8: { bits: 8, most: 127 },
  int4: { bits: 4, most: 7 },
} as const;

/** A packed format's name. */
export type PackedFormat = keyof typeof PACKED;

/** Values that share a scale. */
export const GROUP = 64;

/** Where the parts of a packed row lie, in bytes. */
export interface PackedRow {
  /** Scales per row. */
  groups: number;
  /** Byte at which the scales start. */
  scalesAt: number;
  /** Bytes from one row to the next, a multiple of 16. */
  rowBytes: number;
}

/** The layout of rows of `columns` values. */
export function packedRow(columns: number, format: PackedFormat): PackedRow {
  const groups = Math.ceil(columns / GROUP);
  const scalesAt = groups * GROUP * PACKED[format].bits / 8;
  return { groups, scalesAt, rowBytes: 16 * Math.ceil((scalesAt + 2 * groups) / 16) };
}

/** True for the names of packed formats. */
export function isPacked(name: string): name is PackedFormat {
  return Object.hasOwn(PACKED, name);
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The nearest bf16 of a number ≥ 0, as its bits. */
function bf16Bits(value: number): number {
  float[0] = value;
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16;
}

function fromBf16(bits: number): number {
  word[0] = bits << 16;
  return float[0];
}

/**
 * Packs rows: per group, `scale = bf16(max |w| / most)` and `q = round(w / scale)`, clamped to ±most.
 *
 * @param values rows · columns numbers
 * @param out where the packed rows go, rows · rowBytes bytes
 * @throws {TypeError} If the lengths do not fit
 * @throws {RangeError} If a value is not finite
 */
export function packRows(
  values: Float32Array,
  columns: number,
  format: PackedFormat,
  out: Uint8Array = new Uint8Array(
    values.length / columns * packedRow(columns, format).rowBytes,
  ),
): Uint8Array {
  const { groups, scalesAt, rowBytes } = packedRow(columns, format);
  const rows = values.length / columns;
  if (!Number.isInteger(rows) || out.length !== rows * rowBytes) {
    throw new TypeError(
      `Cannot pack ${values.length} values in rows of ${columns} into ${out.length} bytes`,
    );
  }
  const { most } = PACKED[format];
  const four = format === "int4";
  if (four) out.fill(0x88);
  for (let row = 0; row < rows; row++) {
    const from = row * columns, to = row * rowBytes;
    if (four) out.fill(0, to + scalesAt, to + rowBytes);
    for (let g = 0; g < groups; g++) {
      const start = g * GROUP, end = Math.min(columns, start + GROUP);
      let largest = 0, finite = 0;
      for (let i = start; i < end; i++) {
        const w = values[from + i];
        const size = w < 0 ? -w : w;
        if (size > largest) largest = size;
        finite += w * 0; // NaN once a value is not finite
      }
      if (finite !== 0) {
        throw new RangeError(
          `Cannot pack row ${row}: a value in columns ${start} to ${end - 1} is not finite`,
        );
      }
      const bits = bf16Bits(largest / most);
      const scale = fromBf16(bits);
      const at = to + scalesAt + 2 * g;
      out[at] = bits & 255;
      out[at + 1] = bits >>> 8;
      const inverse = scale === 0 ? 0 : 1 / scale;
      for (let i = start; i < end; i++) {
        let q = Math.round(values[from + i] * inverse);
        if (q > most) q = most;
        else if (q < -most) q = -most;
        if (!four) out[to + i] = q;
        else if (i % 2 === 0) out[to + (i >> 1)] = 0x80 | (q + 8);
        else out[to + (i >> 1)] = (out[to + (i >> 1)] & 15) | ((q + 8) << 4);
      }
    }
  }
  return out;
}

/** The numbers of packed rows. @throws {TypeError} If the bytes are not whole rows */
export function unpackRows(
  packed: Uint8Array,
  columns: number,
  format: PackedFormat,
): Float32Array<ArrayBuffer> {
  const { scalesAt, rowBytes } = packedRow(columns, format);
  const rows = packed.length / rowBytes;
  if (!Number.isInteger(rows)) {
    throw new TypeError(`Cannot unpack ${packed.length} bytes: rows have ${rowBytes}`);
  }
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const from = row * rowBytes;
    for (let i = 0; i < columns; i++) {
      const at = from + scalesAt + 2 * Math.floor(i / GROUP);
      const scale = fromBf16(packed[at] | (packed[at + 1] << 8));
      const byte = packed[from + (format === "int4" ? i >> 1 : i)];
      const q = format === "int8" ? (byte << 24) >> 24 : (i % 2 === 0 ? byte & 15 : byte >> 4) - 8;
      values[row * columns + i] = scale * q;
    }
  }
  return values;
}
