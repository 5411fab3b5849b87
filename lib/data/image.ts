// Image files: decoding to 8-bit RGB and encoding as PNG, both through sharp (libvips). Only the
// decoders of four formats are open, a file is recognised by its first bytes, and 20 megapixels is
// the limit, checked on the header. sharp is loaded on first use: it needs --allow-ffi.
//
// Decisions: EXIF rotation and colour profiles are ignored, as in the reference; of several frames
// or pages the first is read; CMYK is converted by libvips; 16-bit grey is stretched (stretch16),
// 16-bit colour keeps its upper byte; other sample types are refused.

import type { Sharp } from "sharp";
import { InputError } from "../errors.ts";
import { stretch16, toRgb } from "./color.ts";
import { MAX_PIXELS } from "./reduce.ts";
import type { Image } from "./resize.ts";

/** Most bytes an image file may have. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

/** A decoded image, (h, w, 3), with what is known of its source. */
export interface RgbImage extends Image {
  format: "jpeg" | "png" | "webp" | "tiff";
  /** Channels as stored: 1 grey, 2 grey + alpha, 3 colour, 4 colour + alpha or CMYK. */
  sourceChannels: number;
  /** Bits per sample as stored: 8 (or fewer) or 16. */
  sourceBits: 8 | 16;
  /** The EXIF orientation, 1 to 8; reported, not applied. */
  orientation: number;
}

/**
 * Reads a JPEG, PNG, WebP or TIFF image as RGB.
 *
 * @param source a path, or the bytes of a file
 * @param name what to call the bytes in errors
 * @throws {InputError} If the file is missing, empty, of another kind, truncated, corrupt or larger
 * than 20 megapixels
 */
export async function readImage(
  source: string | Uint8Array,
  name = typeof source === "string" ? source : "image",
): Promise<RgbImage> {
  const bytes = typeof source === "string" ? await readFile(source) : source;
  const format = formatOf(bytes, name);
  const sharp = await loadSharp();
  try {
    const options = { failOn: "warning", limitInputPixels: MAX_PIXELS, ignoreIcc: true } as const;
    const meta = await sharp(bytes, options).metadata();
    if (meta.width * meta.height > MAX_PIXELS) {
      throw new Error(`it has ${meta.width}x${meta.height} pixels, more than ${MAX_PIXELS}`);
    }
    if (meta.depth !== "uchar" && meta.depth !== "ushort") {
      throw new Error(`its samples are ${meta.depth}; 8-bit and 16-bit unsigned are read`);
    }
    const image = meta.space === "grey16"
      ? await decodeGrey16(sharp(bytes, options))
      : await decode8(sharp(bytes, options), losesAlpha(bytes, format, meta.channels));
    return {
      ...image,
      format,
      sourceChannels: meta.channels,
      sourceBits: meta.depth === "ushort" ? 16 : 8,
      orientation: meta.orientation ?? 1,
    };
  } catch (cause) {
    const reason = (cause as Error).message.split("\n")[0];
    throw new InputError(`Cannot read image ${name}: ${reason}`, { cause, help: REPAIR });
  }
}

const REPAIR =
  "Replace the file with a complete JPEG, PNG, WebP or TIFF image, or remove its record";

/**
 * Decodes a JPEG stream to (h, w) grey or (h, w, 3) RGB.
 *
 * @param maxPixels the largest size that is decoded
 * @throws {Error} If it is damaged or larger, in the decoder's words
 */
export async function decodeJpeg(bytes: Uint8Array, maxPixels: number): Promise<Image> {
  const sharp = await loadSharp();
  const options = { failOn: "warning", limitInputPixels: maxPixels, ignoreIcc: true } as const;
  const { channels } = await sharp(bytes, options).metadata();
  const image = sharp(bytes, options).toColourspace(channels === 1 ? "b-w" : "srgb");
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: new Uint8Array(data) };
}

/**
 * Encodes (h, w, C) bytes, C = 1, 3 or 4, as PNG.
 *
 * @throws {TypeError} If the data does not fill 1, 3 or 4 channels
 */
export async function encodePng(image: Image): Promise<Uint8Array<ArrayBuffer>> {
  const { width, height, data } = image;
  const channels = data.length / (width * height);
  if (channels !== 1 && channels !== 3 && channels !== 4) {
    throw new TypeError(
      `Cannot encode ${width}x${height} as PNG: ${data.length} bytes are not 1, 3 or 4 channels`,
    );
  }
  const sharp = await loadSharp();
  const raw = sharp(data, { raw: { width, height, channels } });
  if (channels === 1) raw.toColourspace("b-w");
  return new Uint8Array(await raw.png().toBuffer());
}

async function readFile(path: string): Promise<Uint8Array> {
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile) throw new Error("it is not a file");
    if (size > MAX_FILE_BYTES) {
      throw new Error(`it has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    }
    return await Deno.readFile(path);
  } catch (cause) {
    throw new InputError(`Cannot read image ${path}: ${(cause as Error).message}`, {
      cause,
      help: "Check the path and its permissions",
    });
  }
}

/** The format by its first bytes; the name of the file is not asked. */
function formatOf(bytes: Uint8Array, name: string): RgbImage["format"] {
  if (bytes.length === 0) {
    throw new InputError(`Cannot read image ${name}: the file is empty`, { help: REPAIR });
  }
  const head = String.fromCharCode(...bytes.subarray(0, 12));
  if (head.startsWith("\xff\xd8\xff")) return "jpeg";
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (head.startsWith("RIFF") && head.endsWith("WEBP")) return "webp";
  if (/^(II[*+]\0|MM\0[*+])/.test(head)) return "tiff";
  throw new InputError(`Cannot read image ${name}: it is not a JPEG, PNG, WebP or TIFF file`, {
    help: REPAIR,
  });
}

/**
 * Whether alpha is dropped rather than blended: true grey + alpha. In a PNG, colour type 4 says so;
 * a grey PNG with a transparent key colour also decodes to two channels, but is put on white.
 */
function losesAlpha(bytes: Uint8Array, format: string, channels: number): boolean {
  return channels === 2 && (format !== "png" || bytes[25] === 4);
}

async function decode8(source: Sharp, dropAlpha: boolean): Promise<Image> {
  const { data, info } = await source.raw().toBuffer({ resolveWithObject: true });
  return toRgb({ width: info.width, height: info.height, data }, dropAlpha ? "drop" : "white");
}

async function decodeGrey16(source: Sharp): Promise<Image> {
  const { data, info } = await source.toColourspace("grey16").raw({ depth: "ushort" })
    .toBuffer({ resolveWithObject: true });
  const all = new Uint16Array(data.buffer, data.byteOffset, data.length / 2);
  const grey = all.filter((_, i) => i % info.channels === 0);
  return toRgb({ width: info.width, height: info.height, data: stretch16(grey) });
}

type SharpModule = typeof import("sharp").default;

let loading: Promise<SharpModule> | undefined;

/** sharp with every decoder blocked but the four that are used; the setting is process-wide. */
export function loadSharp(): Promise<SharpModule> {
  return loading ??= import("sharp").then(({ default: sharp }) => {
    sharp.block({ operation: ["VipsForeignLoad"] });
    sharp.unblock({
      operation: [
        "VipsForeignLoadJpeg",
        "VipsForeignLoadPng",
        "VipsForeignLoadWebp",
        "VipsForeignLoadTiff",
      ],
    });
    return sharp;
  });
}
