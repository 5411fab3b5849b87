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

/** One group's values on their way: their bits, and the same memory as numbers. */
const bits = new Int32Array(GROUP);
const floats = new Float32Array(bits.buffer);

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The nearest bf16 of a number ≥ 0, as its bits. */
function bf16Bits(value: number): number {
  float[0] = value;
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16;
}

function fromBits(value: number): number {
  word[0] = value;
  return float[0];
}

/**
 * Packs rows: per group, `scale = bf16(max |w| / most)` and `q = round(w / scale)`, clamped to ±most; halves are
 * rounded up.
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
  out?: Uint8Array,
): Uint8Array {
  const source = new Int32Array(values.buffer, values.byteOffset, values.length);
  const load = (start: number, n: number) => {
    let largest = 0;
    for (let i = 0; i < n; i++) {
      const value = source[start + i];
      const size = value & 0x7fffffff; // bits of |w| are ordered as |w|
      bits[i] = value;
      largest = size > largest ? size : largest;
    }
    return largest;
  };
  return packGroups(load, values.length, columns, format, out);
}

/** As {@link packRows}, from bf16 bit patterns: the same bytes as from the numbers, in less time. */
export function packBf16Rows(
  values: Uint16Array,
  columns: number,
  format: PackedFormat,
  out?: Uint8Array,
): Uint8Array {
  const load = (start: number, n: number) => {
    let largest = 0;
    for (let i = 0; i < n; i++) {
      const value = values[start + i] << 16;
      const size = value & 0x7fffffff;
      bits[i] = value;
      largest = size > largest ? size : largest;
    }
    return largest;
  };
  return packGroups(load, values.length, columns, format, out);
}

/** @param load puts n values from `start` on into {@link bits} and returns the bits of the largest |w| */
function packGroups(
  load: (start: number, n: number) => number,
  count: number,
  columns: number,
  format: PackedFormat,
  given: Uint8Array | undefined,
): Uint8Array {
  const { groups, scalesAt, rowBytes } = packedRow(columns, format);
  const rows = count / columns;
  const out = given ?? new Uint8Array(rows * rowBytes);
  if (!Number.isInteger(rows) || out.length !== rows * rowBytes) {
    throw new TypeError(
      `Cannot pack ${count} values in rows of ${columns} into ${out.length} bytes`,
    );
  }
  const { most } = PACKED[format];
  const store = format === "int4" ? storeInt4 : storeInt8;
  const groupBytes = scalesAt / groups;
  for (let row = 0; row < rows; row++) {
    const to = row * rowBytes;
    for (let g = 0; g < groups; g++) {
      const start = g * GROUP, n = Math.min(GROUP, columns - start);
      if (n < GROUP) bits.fill(0, n);
      const largest = load(row * columns + start, n);
      if (largest >= 0x7f800000) {
        throw new RangeError(
          `Cannot pack row ${row}: a value in columns ${start} to ${start + n - 1} is not finite`,
        );
      }
      const scaleBits = bf16Bits(fromBits(largest) / most);
      const scale = fromBits(scaleBits << 16);
      if (scaleBits < 0x100) clampGroup(most * scale); // only such small scales round by more than |w| / 2 most
      const at = to + scalesAt + 2 * g;
      out[at] = scaleBits & 255;
      out[at + 1] = scaleBits >>> 8;
      store(scale === 0 ? 0 : 1 / scale, out, to + g * groupBytes);
    }
    out.fill(0, to + scalesAt + 2 * groups, to + rowBytes);
  }
  return out;
}

function clampGroup(limit: number): void {
  for (let i = 0; i < GROUP; i++) {
    if (floats[i] > limit) floats[i] = limit;
    else if (floats[i] < -limit) floats[i] = -limit;
  }
}

// Math.round(x) is written as floor(x + 0.5), less 1 where the sum was rounded up past x: a third of the time.

function storeInt4(inverse: number, out: Uint8Array, at: number): void {
  for (let i = 0; i < GROUP; i += 2) {
    const x = floats[i] * inverse, y = floats[i + 1] * inverse;
    let low = Math.floor(x + 0.5), high = Math.floor(y + 0.5);
    if (low - 0.5 > x) low -= 1;
    if (high - 0.5 > y) high -= 1;
    out[at++] = ((low | 0) + 8) | (((high | 0) + 8) << 4);
  }
}

function storeInt8(inverse: number, out: Uint8Array, at: number): void {
  for (let i = 0; i < GROUP; i++) {
    const x = floats[i] * inverse;
    let q = Math.floor(x + 0.5);
    if (q - 0.5 > x) q -= 1;
    out[at++] = q | 0;
  }
}

/** The numbers of packed rows. @throws {TypeError} If the bytes are not whole rows */
export function unpackRows(
  packed: Uint8Array,
  columns: number,
  format: PackedFormat,
): Float32Array<ArrayBuffer> {
  const { groups, scalesAt, rowBytes } = packedRow(columns, format);
  const rows = packed.length / rowBytes;
  if (!Number.isInteger(rows)) {
    throw new TypeError(`Cannot unpack ${packed.length} bytes: rows have ${rowBytes}`);
  }
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const from = row * rowBytes;
    for (let g = 0; g < groups; g++) {
      const at = from + scalesAt + 2 * g;
      const scale = fromBits((packed[at] | (packed[at + 1] << 8)) << 16);
      const end = Math.min(columns, (g + 1) * GROUP);
      if (format === "int8") {
        for (let i = g * GROUP; i < end; i++) {
          values[row * columns + i] = scale * ((packed[from + i] << 24) >> 24);
        }
      } else {
        for (let i = g * GROUP; i < end; i++) {
          const q = (packed[from + (i >> 1)] >> (4 * (i & 1))) & 15;
          values[row * columns + i] = scale * (q - 8);
        }
      }
    }
  }
  return values;
}
