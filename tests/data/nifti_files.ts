// NIfTI files made for tests: any header, in both versions and byte orders.

/** Fields of a header that are not those of a plain int16 volume. */
export interface Fields {
  version?: 1 | 2;
  big?: boolean;
  dim?: number[];
  datatype?: number;
  bitpix?: number;
  pixdim?: number[];
  offset?: number;
  slope?: number;
  inter?: number;
  qform?: number;
  quatern?: number[];
  sform?: number;
  srow?: number[];
}

/** A NIfTI file of 2 x 3 x 2 int16 voxels, if not told otherwise. */
export function niftiFile(
  pixels: ArrayLike<number> & { buffer: ArrayBufferLike },
  fields: Fields = {},
) {
  const { version = 1, big = false, dim = [3, 2, 3, 2, 1, 1, 1, 1], slope = 1, inter = 0 } = fields;
  const fixed = version === 1 ? 352 : 544;
  const view = new DataView(new ArrayBuffer(fixed));
  const little = !big;
  const short = (at: number, v: number) => view.setInt16(at, v, little);
  const whole = (at: number, v: number) =>
    version === 1 ? view.setInt16(at, v, little) : view.setBigInt64(at, BigInt(v), little);
  const real = (at: number, v: number) =>
    version === 1 ? view.setFloat32(at, v, little) : view.setFloat64(at, v, little);
  const at = version === 1
    ? { dim: 40, type: 70, bits: 72, pixdim: 76, offset: 108, slope: 112, q: 256, s: 280, step: 4 }
    : {
      dim: 16,
      type: 12,
      bits: 14,
      pixdim: 104,
      offset: 168,
      slope: 176,
      q: 352,
      s: 400,
      step: 8,
    };
  view.setInt32(0, version === 1 ? 348 : 540, little);
  new Uint8Array(view.buffer).set(
    new TextEncoder().encode(version === 1 ? "n+1\0" : "n+2\0\r\n\x1a\n"),
    version === 1 ? 344 : 4,
  );
  dim.forEach((v, i) => whole(at.dim + i * (version === 1 ? 2 : 8), v));
  short(at.type, fields.datatype ?? 4);
  short(at.bits, fields.bitpix ?? 16);
  (fields.pixdim ?? [1, 1, 1, 1]).forEach((v, i) => real(at.pixdim + i * at.step, v));
  if (version === 1) real(at.offset, fields.offset ?? fixed);
  else whole(at.offset, fields.offset ?? fixed);
  real(at.slope, slope);
  real(at.slope + at.step, inter);
  if (version === 1) {
    short(252, fields.qform ?? 0);
    short(254, fields.sform ?? 0);
  } else {
    view.setInt32(344, fields.qform ?? 0, little);
    view.setInt32(348, fields.sform ?? 0, little);
  }
  (fields.quatern ?? []).forEach((v, i) => real(at.q + i * at.step, v));
  (fields.srow ?? []).forEach((v, i) => real(at.s + i * at.step, v));
  const bytes = new Uint8Array(pixels.buffer as ArrayBuffer).slice();
  const size = (fields.bitpix ?? 16) / 8;
  if (big) { for (let i = 0; i < bytes.length; i += size) bytes.subarray(i, i + size).reverse(); }
  const out = new Uint8Array(fixed + bytes.length);
  out.set(new Uint8Array(view.buffer));
  out.set(bytes, fixed);
  return out;
}

/** 0, 1, … 11, times 20: voxel (i, j, k) is 20 (i + 2 j + 6 k). */
export const STEPS = Int16Array.from({ length: 12 }, (_, i) => 20 * i);
