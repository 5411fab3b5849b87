// JPEG, PNG, WebP and TIFF files that a user names, through sharp. Sizes are decided on the header:
// above MAX_PIXELS a picture is reduced while it is decoded (JPEG by its own scaled decoding, others
// strip by strip, a TIFF pyramid from its nearest level), so that it is never whole in memory; what
// cannot be reduced that way is refused above a limit.
//
// Decisions: EXIF orientation is applied, since the picture a model sees should be the one its user
// sees (data sets follow the reference, which ignores it: lib/data/image.ts); colour profiles are
// ignored; all transparency is put on white; CMYK is converted; 16-bit grey is windowed, 16-bit
// colour keeps its upper byte; of several frames or pages the first is read.

import type { Sharp } from "sharp";
import { UsageError } from "../errors.ts";
import { onWhite, stretch16, toRgb } from "./color.ts";
import { loadSharp } from "./image.ts";
import { orient } from "./orient.ts";
import type { Picture, PictureKind, PictureOptions } from "./picture.ts";
import { pictureError } from "./picture_kind.ts";
import { checkHeader, choosePage, type Page, pngBytes, pngFrames } from "./raster_header.ts";
import { reducedSize, reductionNote } from "./reduce.ts";
import type { Image } from "./resize.ts";
import {
  applyWindow,
  chooseWindow,
  parseWindow,
  type UsedWindow,
  type WindowChoice,
} from "./window.ts";

/** How many times its size deflate can unpack to. */
const MAX_DEFLATE_RATIO = 1032;

const REPAIR = "Replace the file with a complete JPEG, PNG, WebP or TIFF picture";

/**
 * Reads a JPEG, PNG, WebP or TIFF file as a picture.
 *
 * @throws {InputError} If it is truncated, corrupt, too large or of a sample type not read here
 * @throws {UsageError} If it has no such page, or cannot be windowed
 */
export async function readRaster(
  bytes: Uint8Array,
  name: string,
  format: Exclude<PictureKind, "dicom" | "nifti">,
  options: PictureOptions,
): Promise<Picture> {
  const choice = options.window === undefined ? undefined : parseWindow(options.window);
  const sharp = await loadSharp();
  const open = (page: Page = {}) =>
    sharp(bytes, {
      failOn: "warning",
      limitInputPixels: false, // checkHeader() says what is wrong
      ignoreIcc: true,
      ...page,
    });
  const decoded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      throw pictureError(name, decoderReason(cause), REPAIR, cause);
    }
  };
  const first = await decoded(() => open().metadata());
  const frames = first.pages ?? (format === "png" ? pngFrames(bytes) : 1);
  if (options.frame !== undefined && options.frame >= frames) {
    throw new UsageError(
      `Cannot take frame ${options.frame} of ${name}: it has ${frames}, from 0 to ${frames - 1}`,
      { help: "Give a smaller --frame" },
    );
  }
  const notes: string[] = [];
  const { page, meta } = await decoded(() => choosePage(open, first, options.frame));
  checkHeader(meta, format, name);
  if (format === "png" && bytes.length * MAX_DEFLATE_RATIO < pngBytes(bytes, meta)) {
    const size = `${meta.width}x${meta.height}`;
    throw pictureError(name, `${bytes.length} bytes cannot hold its ${size} pixels`, REPAIR);
  }
  const deep = meta.space === "grey16";
  checkWindow(choice, deep, name);

  const size = reducedSize(meta.width, meta.height);
  const reduced = size.width < meta.width || size.height < meta.height;
  const source = open(page);
  // The triangle filter makes no values that are not between those of the picture.
  if (reduced) source.resize(size.width, size.height, { fit: "fill", kernel: "linear" });
  const shown = await decoded(() => deep ? decode16(source, choice) : decode8(source));
  const ignored = options.orientation === "ignore";
  const orientation = ignored ? 1 : meta.orientation ?? 1;
  if (page.page !== undefined && options.frame === undefined || page.subifd !== undefined) {
    notes.push(`level of a pyramid: ${reductionNote(first, meta)}`);
  } else if (frames > 1 && options.frame === undefined) {
    notes.push(`first of ${frames} ${format === "tiff" ? "pages" : "frames"}`);
  }
  if (reduced) notes.push(reductionNote(meta, size));
  if (meta.space === "cmyk") notes.push("CMYK converted to RGB");
  if (meta.depth === "ushort" && !deep) notes.push("16-bit colour reduced to its upper byte");
  if (meta.hasAlpha) notes.push("transparency put on white");
  if (meta.hasProfile) notes.push("colour profile ignored");
  if (orientation > 1) notes.push(`EXIF orientation ${orientation} applied`);
  if (ignored && (meta.orientation ?? 1) > 1) {
    notes.push(`EXIF orientation ${meta.orientation} ignored`);
  }
  return {
    ...orient(shown.image, orientation),
    format,
    source: {
      width: first.width,
      height: first.height,
      bits: meta.bitsPerSample ?? (meta.depth === "ushort" ? 16 : 8),
      channels: meta.channels,
    },
    ...(frames > 1 ? { frame: { index: options.frame ?? 0, count: frames } } : {}),
    ...(shown.window ? { window: shown.window } : {}),
    notes,
  };
}

/** What a decoder said, where it says more than that the file is wrong. */
function decoderReason(cause: unknown): string {
  const text = (cause as Error).message.split("\n")[0]
    .replace(/^Input buffer (has corrupt header:|contains unsupported image format)\s*/, "")
    .replace(/^Warning treated as error due to failOn setting$/, "")
    .replace(/\s*\bvips\w*: .*$/, ""); // the library's own log, of which other threads take part at random
  return `it is damaged or cut off${text && `: ${text}`}`;
}

function checkWindow(choice: WindowChoice | undefined, deep: boolean, name: string) {
  if (choice && !deep) {
    throw new UsageError(`Cannot window ${name}: it is not DICOM, NIfTI or 16-bit grey`, {
      help: "Leave out --window",
    });
  }
  if (choice?.kind === "given" && choice.preset) {
    throw new UsageError(
      `Cannot use window ${choice.preset} on ${name}: presets are for CT in DICOM or NIfTI`,
      { help: "Give --window center/width in the file's values, or leave it out" },
    );
  }
}

interface Shown {
  /** (h, w, 3). */
  image: Image;
  window?: UsedWindow;
}

async function decode8(source: Sharp): Promise<Shown> {
  const { data, info } = await source.raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  if (channels !== 2) return { image: toRgb({ width, height, data }) };
  const grey = Uint8Array.from(
    { length: width * height },
    (_, i) => onWhite(data[2 * i], data[2 * i + 1]),
  );
  return { image: toRgb({ width, height, data: grey }) };
}

/** Grey of 16 bits, windowed; then transparency is put on white. */
async function decode16(source: Sharp, choice: WindowChoice | undefined): Promise<Shown> {
  const { data, info } = await source.toColourspace("grey16").raw({ depth: "ushort" })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const all = new Uint16Array(data.buffer, data.byteOffset, data.length / 2);
  const values = channels === 1 ? all : all.filter((_, i) => i % channels === 0);
  const seen = channels === 1 ? values : values.filter((_, i) => all[i * channels + 1] > 0);
  const scale = { slope: 1, intercept: 0 };
  const window = chooseWindow(choice ?? { kind: "full" }, undefined, seen, scale);
  const grey = window ? applyWindow(values, scale, window) : stretch16(values);
  if (channels > 1) {
    for (let i = 0; i < grey.length; i++) grey[i] = onWhite(grey[i], all[i * channels + 1] >> 8);
  }
  return {
    image: toRgb({ width, height, data: grey }),
    ...(window ? { window } : {}),
  };
}
