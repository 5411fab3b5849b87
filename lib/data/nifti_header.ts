// Headers of NIfTI volumes, versions 1 and 2, through nifti-reader-js, which trusts what it reads:
// it is given the fixed part of the header alone (a hostile extension list makes it loop), and each
// field that is used is checked here.

import type { InputError } from "../errors.ts";
import { pictureError, unzipStart } from "./picture_kind.ts";

/** Types of voxels: what they are called, bytes per sample, samples. */
export interface VoxelType {
  words: string;
  array: VoxelArray;
  channels: 1 | 3 | 4;
}

type VoxelArray =
  | Uint8ArrayConstructor
  | Int8ArrayConstructor
  | Uint16ArrayConstructor
  | Int16ArrayConstructor
  | Uint32ArrayConstructor
  | Int32ArrayConstructor
  | Float32ArrayConstructor
  | Float64ArrayConstructor
  | BigInt64ArrayConstructor
  | BigUint64ArrayConstructor;

const TYPES: Record<number, VoxelType> = {
  2: { words: "uint8", array: Uint8Array, channels: 1 },
  4: { words: "int16", array: Int16Array, channels: 1 },
  8: { words: "int32", array: Int32Array, channels: 1 },
  16: { words: "float32", array: Float32Array, channels: 1 },
  64: { words: "float64", array: Float64Array, channels: 1 },
  128: { words: "RGB24", array: Uint8Array, channels: 3 },
  256: { words: "int8", array: Int8Array, channels: 1 },
  512: { words: "uint16", array: Uint16Array, channels: 1 },
  768: { words: "uint32", array: Uint32Array, channels: 1 },
  1024: { words: "int64", array: BigInt64Array, channels: 1 },
  1280: { words: "uint64", array: BigUint64Array, channels: 1 },
  2304: { words: "RGBA32", array: Uint8Array, channels: 4 },
};

const UNREAD: Record<number, string> = {
  1: "single bits",
  32: "complex64",
  1536: "float128",
  1792: "complex128",
  2048: "complex256",
};

/** What is read of a header. */
export interface NiftiHeader {
  version: 1 | 2;
  littleEndian: boolean;
  type: VoxelType;
  /** Voxels along i, j, k. */
  shape: [number, number, number];
  /** Volumes: the product of all further dimensions. */
  volumes: number;
  /** Where the first voxel begins, in bytes. */
  offset: number;
  /** Bytes of one volume. */
  volumeBytes: number;
  /** Distance of voxels along i, j, k, in the file's unit; 1 where it is not told. */
  spacing: [number, number, number];
  scale: { slope: number; intercept: number };
  /** Directions in the patient (x to the right, y to the front, z up) of i, j, k, as columns. */
  directions?: [number[], number[], number[]];
}

/** Most bytes of one volume, and of a whole gzip file when unpacked. */
export const MAX_VOLUME_BYTES = 2 ** 30;

const REPAIR = "Save the volume again, for example with nibabel: nib.save(nib.load(a), b)";

/** An InputError about a NIfTI file. */
export function niftiError(
  name: string,
  reason: string,
  help = REPAIR,
  cause?: unknown,
): InputError {
  return pictureError(name, reason, help, cause);
}

/**
 * Reads and checks the header.
 *
 * @throws {InputError} Naming the field that is impossible or not read here
 */
export async function readNiftiHeader(file: Uint8Array, name: string): Promise<NiftiHeader> {
  const { readHeader } = await import("nifti-reader-js");
  const head = file[0] === 0x1f ? unzipStart(file) : file;
  const version = head[0] === 0x1c || head[3] === 0x1c ? 2 : 1;
  const fixed = version === 1 ? 348 : 540;
  if (head.length < fixed) {
    throw niftiError(name, `the NIfTI header is cut off: ${head.length} of ${fixed} bytes`);
  }
  // A copy, so that the buffer holds nothing else.
  const bytes = head.slice(0, fixed);
  let raw: NonNullable<ReturnType<typeof readHeader>>;
  try {
    raw = readHeader(bytes.buffer)!;
  } catch (cause) {
    throw niftiError(name, "the NIfTI header does not parse", REPAIR, cause);
  }
  const type = TYPES[raw.datatypeCode];
  if (!type) {
    const words = UNREAD[raw.datatypeCode] ?? `unknown (code ${raw.datatypeCode})`;
    throw niftiError(name, `datatype is ${words}, which is not read`, "Save it as float32");
  }
  const voxelBytes = type.array.BYTES_PER_ELEMENT * type.channels;
  if (raw.numBitsPerVoxel !== 8 * voxelBytes) {
    throw niftiError(
      name,
      `bitpix is ${raw.numBitsPerVoxel}, ${type.words} has ${8 * voxelBytes}`,
    );
  }
  const { shape, volumes } = readShape(raw.dims, name);
  const volumeBytes = shape[0] * shape[1] * shape[2] * voxelBytes;
  if (volumeBytes > MAX_VOLUME_BYTES) {
    throw niftiError(
      name,
      `dim says ${shape.join("x")} voxels of ${type.words}: ${volumeBytes} bytes, at most ` +
        `${MAX_VOLUME_BYTES} are read`,
      "Cut or reduce the volume first",
    );
  }
  const offset = raw.vox_offset;
  if (!Number.isSafeInteger(offset) || offset < fixed) {
    throw niftiError(name, `vox_offset is ${offset}, expected a whole number from ${fixed} up`);
  }
  return {
    version,
    littleEndian: raw.littleEndian,
    type,
    shape,
    volumes,
    offset,
    volumeBytes,
    spacing: [1, 2, 3].map((i) => {
      const distance = Math.abs(raw.pixDims[i]);
      return Number.isFinite(distance) && distance > 0 ? distance : 1;
    }) as [number, number, number],
    scale: readScale(raw.scl_slope, raw.scl_inter, type, name),
    ...readDirections(bytes, raw, version),
  };
}

function readShape(
  dims: number[],
  name: string,
): { shape: [number, number, number]; volumes: number } {
  const count = dims[0];
  if (!Number.isInteger(count) || count < 1 || count > 7) {
    throw niftiError(name, `dim[0] is ${count}, expected 1 to 7`);
  }
  const all = Array.from({ length: 7 }, (_, i) => i < count ? dims[i + 1] : 1);
  const bad = all.findIndex((n) => !Number.isSafeInteger(n) || n < 1);
  if (bad >= 0) throw niftiError(name, `dim[${bad + 1}] is ${all[bad]}, expected at least 1`);
  const volumes = all.slice(3).reduce((n, d) => n * d, 1);
  if (!Number.isSafeInteger(volumes)) throw niftiError(name, `dim says ${volumes} volumes`);
  return { shape: [all[0], all[1], all[2]], volumes };
}

/** A slope of 0 or NaN means: not scaled. Colour is never scaled. */
function readScale(slope: number, intercept: number, type: VoxelType, name: string) {
  if (type.channels > 1 || slope === 0 || Number.isNaN(slope)) return { slope: 1, intercept: 0 };
  if (!Number.isFinite(slope)) throw niftiError(name, `scl_slope is ${slope}`);
  if (!Number.isFinite(intercept)) throw niftiError(name, `scl_inter is ${intercept}`);
  return { slope, intercept };
}

/** The sform if it is set, else the qform, as nibabel chooses; undefined if neither is usable. */
function readDirections(
  bytes: Uint8Array,
  raw: { littleEndian: boolean; qform_code: number; sform_code: number; pixDims: number[] } & {
    quatern_b: number;
    quatern_c: number;
    quatern_d: number;
  },
  version: 1 | 2,
): { directions?: [number[], number[], number[]] } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const srow = (row: number, column: number) =>
    version === 1
      ? view.getFloat32(280 + 16 * row + 4 * column, raw.littleEndian)
      : view.getFloat64(400 + 32 * row + 8 * column, raw.littleEndian);
  let columns: number[][];
  if (raw.sform_code > 0) {
    columns = [0, 1, 2].map((column) => [0, 1, 2].map((row) => srow(row, column)));
  } else if (raw.qform_code > 0) {
    columns = quaternionColumns(raw.quatern_b, raw.quatern_c, raw.quatern_d);
    if (raw.pixDims[0] < 0) columns[2] = columns[2].map((v) => -v);
  } else {
    return {};
  }
  const usable = columns.every((column) => {
    const length = Math.hypot(...column);
    return Number.isFinite(length) && length > 0;
  });
  return usable ? { directions: columns as [number[], number[], number[]] } : {};
}

/** Columns of the rotation with the unit quaternion (a, b, c, d), a = √(1 - b² - c² - d²). */
function quaternionColumns(b: number, c: number, d: number): number[][] {
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  return [
    [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
    [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
    [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - c * c - b * b],
  ];
}
