// NIfTI volumes as pictures: one slice of one volume, as radiologists look at it, windowed to 8 bits.
//
// The header's sform (else qform) tells only which voxel axis runs along which axis of the patient,
// and which way; the slice itself is the file's own grid, not resampled into the patient's. Axial and
// coronal slices have the patient's right on the picture's left, sagittal ones the front on the left;
// front or head is up. Slices count from the feet, the back and the left. Without sform and qform the
// axes are taken as nibabel takes them: i to the left, j to the front, k up.

import { gunzipSync } from "node:zlib";
import { UsageError } from "../errors.ts";
import { plainBytes, swapBytes } from "./byte_order.ts";
import { toRgb } from "./color.ts";
import { MAX_VOLUME_BYTES, niftiError, type NiftiHeader, readNiftiHeader } from "./nifti_header.ts";
import { follow, type NumberArray } from "./orient.ts";
import type { Axis, Picture, PictureOptions } from "./picture.ts";
import { MAX_PIXELS, reduceImage } from "./reduce.ts";
import { type Image, resizeBicubic } from "./resize.ts";
import { applyWindow, chooseWindow, parseWindow } from "./window.ts";

/** One volume with its header; `values` are as stored: (k, j, i, channels). */
export interface NiftiVolume extends NiftiHeader {
  volume: number;
  values: NumberArray;
}

/**
 * Reads one volume.
 *
 * @param volume from 0
 * @throws {InputError} If the header is impossible, or the file is not as long as it says
 * @throws {UsageError} If there is no such volume
 */
export async function readNiftiVolume(
  file: Uint8Array,
  name: string,
  volume = 0,
): Promise<NiftiVolume> {
  const header = await readNiftiHeader(file, name);
  const { offset, volumeBytes, volumes, type } = header;
  if (volume >= volumes) {
    throw new UsageError(
      `Cannot take volume ${volume} of ${name}: it has ${volumes}, from 0 to ${volumes - 1}`,
      { help: "Give a smaller --volume" },
    );
  }
  const needed = offset + volumeBytes * volumes;
  const bytes = file[0] === 0x1f ? unpack(file, needed, name) : file;
  if (bytes.length !== needed) {
    const { shape } = header;
    const voxels = `${shape.join("x")}${volumes > 1 ? `x${volumes}` : ""} voxels of ${type.words}`;
    throw niftiError(
      name,
      `the file has ${bytes.length} bytes; dim, datatype and vox_offset (${voxels} from byte ` +
        `${offset}) need ${needed}`,
    );
  }
  const start = offset + volume * volumeBytes;
  const own = bytes.slice(start, start + volumeBytes);
  if (!header.littleEndian) swapBytes(own, type.array.BYTES_PER_ELEMENT);
  const stored = new type.array(own.buffer);
  // 64-bit integers become doubles: exact up to 2⁵³.
  const values = stored instanceof BigInt64Array || stored instanceof BigUint64Array
    ? Float64Array.from(stored as BigInt64Array, Number)
    : stored;
  return { ...header, volume, values };
}

/** Unpacks a gzip file that should hold `needed` bytes; a longer one stops there. */
function unpack(file: Uint8Array, needed: number, name: string): Uint8Array {
  if (needed > MAX_VOLUME_BYTES) {
    throw niftiError(
      name,
      `it unpacks to ${needed} bytes; at most ${MAX_VOLUME_BYTES} are read from gzip`,
      "Unpack it with gunzip, or cut it to fewer volumes",
    );
  }
  try {
    return plainBytes(gunzipSync(file, { maxOutputLength: needed }));
  } catch (cause) {
    const tooLong = (cause as { code?: string }).code === "ERR_BUFFER_TOO_LARGE";
    throw niftiError(
      name,
      tooLong
        ? `it unpacks to more than the ${needed} bytes that its header needs`
        : `its gzip data is damaged or cut off: ${(cause as Error).message}`,
      undefined,
      cause,
    );
  }
}

/** Which voxel axis runs along x (left to right), y (back to front) and z (feet to head). */
export interface Orientation {
  /** Voxel axis by patient axis. */
  axis: [number, number, number];
  /** Whether indices along it count against the patient axis. */
  flipped: [boolean, boolean, boolean];
  /** The largest angle between a voxel axis and its patient axis, in degrees. */
  obliqueDegrees: number;
}

/** The assignment of axes that follows the largest direction cosines. */
export function orientationOf({ directions }: Pick<NiftiHeader, "directions">): Orientation {
  const columns = (directions ?? [[-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    .map((column) => column.map((v) => v / Math.hypot(...column)));
  const out: Orientation = {
    axis: [0, 1, 2],
    flipped: [false, false, false],
    obliqueDegrees: 0,
  };
  const [voxel, patient] = [new Set([0, 1, 2]), new Set([0, 1, 2])];
  while (voxel.size > 0) {
    let [best, v, p] = [-1, 0, 0];
    for (const i of voxel) {
      for (const j of patient) {
        if (Math.abs(columns[i][j]) > best) [best, v, p] = [Math.abs(columns[i][j]), i, j];
      }
    }
    out.axis[p] = v;
    out.flipped[p] = columns[v][p] < 0;
    out.obliqueDegrees = Math.max(
      out.obliqueDegrees,
      Math.acos(Math.min(best, 1)) * 180 / Math.PI,
    );
    voxel.delete(v);
    patient.delete(p);
  }
  return out;
}

/** Patient axes of each plane: cut along, then across and down the picture. */
const PLANES: Record<Axis, [cut: number, across: number, down: number]> = {
  axial: [2, 0, 1],
  coronal: [1, 0, 2],
  sagittal: [0, 1, 2],
};

/** A slice of a volume: (h, w, channels) stored values, with the distances of columns and rows. */
export interface Slice {
  width: number;
  height: number;
  values: NumberArray;
  index: number;
  count: number;
  spacing: [across: number, down: number];
}

/**
 * Cuts a slice.
 *
 * @param index from 0 at the feet, the back or the left
 * @throws {UsageError} If there is no such slice
 */
export function takeSlice(
  volume: NiftiVolume,
  axis: Axis,
  index: number | "middle",
  name: string,
): Slice {
  const { axis: voxelAxis, flipped } = orientationOf(volume);
  const { shape } = volume;
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [cut, across, down] = PLANES[axis];
  const count = shape[voxelAxis[cut]];
  const slice = index === "middle" ? Math.floor(count / 2) : index;
  if (slice >= count) {
    throw new UsageError(
      `Cannot take ${axis} slice ${slice} of ${name}: it has ${count}, from 0 to ${count - 1}`,
      { help: "Give a smaller --slice" },
    );
  }
  // Across and down the picture, patient axes run backwards: from right, front and head.
  const size = (patient: number) => shape[voxelAxis[patient]];
  const stride = (patient: number) => strides[voxelAxis[patient]];
  const first = (patient: number) => flipped[patient] ? 0 : (size(patient) - 1) * stride(patient);
  const step = (patient: number) => flipped[patient] ? stride(patient) : -stride(patient);
  const walk = {
    width: size(across),
    height: size(down),
    start: (flipped[cut] ? count - 1 - slice : slice) * stride(cut) + first(across) + first(down),
    across: step(across),
    down: step(down),
  };
  return {
    width: walk.width,
    height: walk.height,
    values: follow(volume.values, walk, volume.type.channels),
    index: slice,
    count,
    spacing: [volume.spacing[voxelAxis[across]], volume.spacing[voxelAxis[down]]],
  };
}

/**
 * Reads a slice of a NIfTI file as a picture.
 *
 * @throws {InputError} As readNiftiVolume()
 * @throws {UsageError} If there is no such volume or slice, or colour is to be windowed
 */
export async function readNifti(
  file: Uint8Array,
  name: string,
  options: PictureOptions,
): Promise<Picture> {
  const choice = options.window === undefined ? undefined : parseWindow(options.window);
  const volume = await readNiftiVolume(file, name, options.volume ?? 0);
  const { axis = "axial" } = options;
  const slice = takeSlice(volume, axis, options.slice ?? "middle", name);
  const { channels, words } = volume.type;
  if (channels > 1 && choice) {
    throw new UsageError(`Cannot window ${name}: its voxels are ${words}`, {
      help: "Leave out --window",
    });
  }
  const notes = describe(volume, slice, options);
  const { width, height } = slice;
  // Percentiles are those of the whole volume, so that its slices look alike.
  const window = channels > 1
    ? undefined
    : chooseWindow(choice, undefined, volume.values, volume.scale);
  if (!window && channels === 1) notes.push("all values are equal: shown black");
  const data = channels > 1
    ? slice.values as Uint8Array
    : window
    ? applyWindow(slice.values, volume.scale, window, window.shape)
    : new Uint8Array(width * height);
  const square = squarePixels({ width, height, data }, slice.spacing, notes);
  return {
    ...toRgb(reduceImage(square, notes)),
    format: "nifti",
    source: { width, height, bits: 8 * volume.type.array.BYTES_PER_ELEMENT, channels },
    slice: {
      axis,
      index: slice.index,
      count: slice.count,
      volume: volume.volume,
      volumes: volume.volumes,
    },
    ...(window ? { window } : {}),
    notes,
  };
}

function describe(volume: NiftiVolume, slice: Slice, options: PictureOptions): string[] {
  const notes: string[] = [];
  if (typeof options.slice !== "number") {
    notes.push(`middle slice: ${slice.index} of 0 to ${slice.count - 1}`);
  }
  if (volume.volumes > 1 && options.volume === undefined) {
    notes.push(`first of ${volume.volumes} volumes`);
  }
  if (!volume.directions) {
    notes.push("no orientation in the file: i taken to the left, j front, k up");
  }
  const degrees = Math.round(orientationOf(volume).obliqueDegrees);
  if (degrees > 0) notes.push(`volume tilted by ${degrees} degrees: shown along its own axes`);
  return notes;
}

/** Most times one distance may be another where pixels are made square. */
const MAX_STRETCH = 32;

/** Enlarges the axis along which voxels are farther apart, so that shapes are true. */
function squarePixels(image: Image, [across, down]: [number, number], notes: string[]): Image {
  const finest = Math.min(across, down);
  const stretch = Math.max(across, down) / finest;
  if (stretch < 1.01) return image;
  const width = Math.round(image.width * across / finest);
  const height = Math.round(image.height * down / finest);
  if (stretch > MAX_STRETCH || width * height > MAX_PIXELS) {
    notes.push(`voxels ${stretch.toPrecision(3)} times as far apart one way: not corrected`);
    return image;
  }
  notes.push(`resampled from ${image.width}x${image.height} to square pixels`);
  return resizeBicubic(image, width, height);
}
