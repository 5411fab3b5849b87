// JPEG, PNG, WebP and TIFF files that a user names, through sharp. Sizes are decided on the header:
// above MAX_PIXELS a picture is reduced while it is decoded (JPEG by its own scaled decoding, others
// strip by strip, a TIFF pyramid from its nearest level), so that it is never whole in memory; what
// cannot be reduced that way is refused above a limit.
//
// Decisions: EXIF orientation is applied, since the picture a model sees should be the one its user
// sees (data sets follow the reference, which ignores it: lib/data/image.ts); colour profiles are
// ignored; all transparency is put on white; CMYK is converted; 16-bit grey is windowed, 16-bit
// colour keeps its upper byte; of several frames or pages the first is read.

import type { Metadata, Sharp, SharpOptions } from "sharp";
import { UsageError } from "../errors.ts";
import { onWhite, stretch16, toRgb } from "./color.ts";
import { loadSharp } from "./image.ts";
import { orient } from "./orient.ts";
import type { Picture, PictureKind, PictureOptions } from "./picture.ts";
import { pictureError } from "./picture_kind.ts";
import { MAX_PIXELS, reducedSize, reductionNote } from "./reduce.ts";
import type { Image } from "./resize.ts";
import {
  applyWindow,
  chooseWindow,
  parseWindow,
  type UsedWindow,
  type WindowChoice,
} from "./window.ts";

/** Most pixels that are reduced while they are decoded. */
export const MAX_SOURCE_PIXELS = 1_000_000_000;

/** Most pixels of a picture that its decoder must hold whole: progressive, interlaced, WebP. */
export const MAX_WHOLE_PIXELS = 64_000_000;

const REPAIR = "Replace the file with a complete JPEG, PNG, WebP or TIFF picture";
const SMALLER = "Give a smaller copy or the part that matters, made for example with: " +
  "vipsthumbnail in.png --size 4000 -o out.png";

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
      limitInputPixels: MAX_SOURCE_PIXELS,
      ignoreIcc: true,
      ...page,
    });
  const decoded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      const reason = (cause as Error).message.split("\n")[0];
      throw pictureError(name, reason, REPAIR, cause);
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
  const deep = meta.space === "grey16";
  checkWindow(choice, deep, name);

  const size = reducedSize(meta.width, meta.height);
  const reduced = size.width < meta.width || size.height < meta.height;
  const source = open(page);
  if (reduced) source.resize(size.width, size.height, { fit: "fill" });
  const shown = await decoded(() => deep ? decode16(source, choice) : decode8(source));
  const orientation = meta.orientation ?? 1;
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

/** A page of a TIFF or WebP file, or a sub-image of a TIFF file. */
type Page = Pick<SharpOptions, "page" | "subifd">;

/** Fewest pixels of a pyramid's level that stands for the whole. */
const MIN_LEVEL_PIXELS = MAX_PIXELS / 8;

/** Most pages that are looked at for a pyramid. */
const MAX_LEVELS = 32;

/**
 * The page that was asked for; else the first, or, where it is too large and others are smaller
 * copies of it, the smallest copy that still has detail.
 */
async function choosePage(
  open: (page?: Page) => Sharp,
  first: Metadata,
  frame: number | undefined,
): Promise<{ page: Page; meta: Metadata }> {
  if (frame !== undefined) {
    const page = { page: frame };
    return { page, meta: await open(page).metadata() };
  }
  let best: { page: Page; meta: Metadata } = { page: {}, meta: first };
  if (first.format !== "tiff" || first.width * first.height <= MAX_PIXELS) return best;
  const others: Page[] = [];
  for (let i = 1; i < Math.min(first.pages ?? 1, MAX_LEVELS); i++) others.push({ page: i });
  for (let i = 0; i < Math.min(first.subifds ?? 0, MAX_LEVELS); i++) others.push({ subifd: i });
  for (const page of others) {
    const meta = await open(page).metadata();
    const pixels = meta.width * meta.height;
    const [across, down] = [meta.width / first.width, meta.height / first.height];
    // Levels are halves of each other, give or take a pixel; labels have another shape.
    const isCopy = Math.abs(across / down - 1) < 0.01 && meta.space === first.space &&
      meta.channels === first.channels;
    if (isCopy && pixels >= MIN_LEVEL_PIXELS && pixels < best.meta.width * best.meta.height) {
      best = { page, meta };
    }
  }
  return best;
}

function checkHeader(meta: Metadata, format: string, name: string) {
  const { width, height, depth } = meta;
  const whole = meta.isProgressive || format === "webp";
  const limit = whole ? MAX_WHOLE_PIXELS : MAX_SOURCE_PIXELS;
  if (width * height > limit) {
    const kind = { jpeg: "progressive JPEG", png: "interlaced PNG", webp: "WebP" }[format];
    throw pictureError(
      name,
      `it has ${width}x${height} pixels; ${whole ? kind : "at most"} ${
        whole ? `is read up to ${limit}` : `${limit} are read`
      }`,
      SMALLER,
    );
  }
  if (depth !== "uchar" && depth !== "ushort") {
    throw pictureError(
      name,
      `its samples are ${depth}; 8-bit and 16-bit unsigned are read`,
      "Convert it to 8-bit or 16-bit PNG",
    );
  }
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

/** Frames of an animated PNG, from its acTL chunk before the pixels; 1 if there is none. */
function pngFrames(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 8; at + 12 <= bytes.length;) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "acTL") return view.getUint32(at + 8);
    if (type === "IDAT") break;
    at += 12 + view.getUint32(at);
  }
  return 1;
}
