// Any picture a user names, as RGB for a model: JPEG, PNG, WebP and TIFF, DICOM, NIfTI. What a file is
// is told by its bytes. Where reading has to choose (window, slice, frame, size), the choice is an
// option with a default, and `notes` say what was done. Nothing about a patient leaves this door.
//
// DICOM and NIfTI need --allow-read alone; the others, and JPEG pixels in DICOM, sharp (--allow-ffi).

import { UsageError } from "../errors.ts";
import { plainBytes } from "./byte_order.ts";
import { readDicom } from "./dicom.ts";
import { fileReason } from "./jsonl.ts";
import { readNifti } from "./nifti.ts";
import { kindOf, pictureError, type PictureKind } from "./picture_kind.ts";
import { readRaster } from "./raster.ts";
import type { Image } from "./resize.ts";
import type { UsedWindow, Window } from "./window.ts";

export type { PictureKind } from "./picture_kind.ts";
export { type UsedWindow, type Window, WINDOW_PRESETS } from "./window.ts";

/** Planes through a volume. */
export type Axis = "axial" | "coronal" | "sagittal";

/** How a picture is to be read. */
export interface PictureOptions {
  /**
   * What becomes black and white, for DICOM, NIfTI and 16-bit grey: `{center, width}`, text
   * "center/width", a preset of WINDOW_PRESETS (CT, in HU), "auto" (percentiles) or "full" (all
   * values). Default: the file's own window, else percentiles; for 16-bit PNG and TIFF "full".
   */
  window?: string | Window;
  /** Frame or page, from 0 (default: the first). DICOM, TIFF and WebP. */
  frame?: number;
  /** Slice of a volume, from 0 = lowest, rearmost or leftmost in the patient (default: middle). */
  slice?: number | "middle";
  /** Plane of the slice. Default "axial". */
  axis?: Axis;
  /** Volume of a series, from 0 (default: the first). */
  volume?: number;
  /**
   * EXIF orientation of JPEG, PNG, WebP and TIFF. Default "apply": the picture as its user sees it;
   * "ignore" is what data sets were made with (lib/data/image.ts).
   */
  orientation?: "apply" | "ignore";
  /** What to call bytes in errors. Default: the path, or "picture". */
  name?: string;
}

/** A picture, (h, w, 3), and what is known of how it was read. */
export interface Picture extends Image {
  format: PictureKind;
  /** What the file holds. */
  source: {
    width: number;
    height: number;
    /** Bits per sample. */
    bits: number;
    /** Samples per pixel. */
    channels: number;
    /** DICOM: a code such as CT. */
    modality?: string;
    /** DICOM: how pixels were stored, in words. */
    syntax?: string;
  };
  /** Which frame or page, where there are several. */
  frame?: { index: number; count: number };
  /** Which slice of a volume. */
  slice?: { axis: Axis; index: number; count: number; volume: number; volumes: number };
  /** What became black and white; undefined if bytes are shown as they are. */
  window?: UsedWindow;
  /** Conversions and choices, one phrase each. */
  notes: string[];
}

/** Most bytes a file may have. */
const MAX_FILE_BYTES = 2 ** 30;

/**
 * Reads a picture.
 *
 * @param source a path, or the bytes of a file
 * @throws {InputError} If the file is missing, empty, damaged, too large or of a kind not read here
 * @throws {UsageError} If an option is impossible, by itself or for this file
 */
export async function readPicture(
  source: string | Uint8Array,
  options: PictureOptions = {},
): Promise<Picture> {
  const name = options.name ?? (typeof source === "string" ? source : "picture");
  checkNumbers(options);
  const bytes = typeof source === "string" ? await readFile(source, name) : plainBytes(source);
  const kind = kindOf(bytes, name);
  checkFit(options, kind, name);
  if (kind === "dicom") return await readDicom(bytes, name, options);
  if (kind === "nifti") return await readNifti(bytes, name, options);
  return await readRaster(bytes, name, kind, options);
}

/** Refuses indices that are none. */
function checkNumbers(options: PictureOptions) {
  for (const key of ["frame", "slice", "volume"] as const) {
    const value = options[key];
    if (value === undefined || key === "slice" && value === "middle") continue;
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw new UsageError(`Cannot take ${key} ${value}: it is no whole number from 0 up`, {
        help: `Give --${key} 0 for the first`,
      });
    }
  }
  const axes = ["axial", "coronal", "sagittal"];
  if (options.axis !== undefined && !axes.includes(options.axis)) {
    throw new UsageError(`Cannot cut along ${options.axis}: it is no known plane`, {
      help: `Give --axis ${axes.join(", ")}`,
    });
  }
}

/** Refuses options that mean nothing for a kind of file, rather than ignoring them. */
function checkFit(options: PictureOptions, kind: PictureKind, name: string) {
  const fits = {
    frame: kind !== "nifti" && kind !== "jpeg" && kind !== "png",
    slice: kind === "nifti",
    axis: kind === "nifti",
    volume: kind === "nifti",
  };
  for (const key of ["frame", "slice", "axis", "volume"] as const) {
    if (options[key] !== undefined && !fits[key]) {
      throw new UsageError(`Cannot take a ${key} of ${name}: it is a ${KINDS[kind]} file`, {
        help: `Leave out --${key}`,
      });
    }
  }
}

const KINDS: Record<PictureKind, string> = {
  jpeg: "JPEG",
  png: "PNG",
  webp: "WebP",
  tiff: "TIFF",
  dicom: "DICOM",
  nifti: "NIfTI",
};

async function readFile(path: string, name: string): Promise<Uint8Array> {
  const help = /^https?:/.test(path)
    ? "Download the picture and give its path"
    : "Check the path and its permissions";
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile) throw new Error("it is not a file");
    if (size > MAX_FILE_BYTES) {
      throw new Error(`it has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    }
    return await Deno.readFile(path);
  } catch (cause) {
    throw pictureError(name, fileReason(cause), help, cause);
  }
}
