// What is decided on the header of a JPEG, PNG, WebP or TIFF file, before anything is decoded: which page
// or level of a pyramid is read, and whether it is small enough. Limits bound memory and time: baseline
// JPEG is decoded at an eighth of its size, other streams pass whole but strip by strip, and what has to
// be whole in memory has the lowest limit.

import type { Metadata, Sharp, SharpOptions } from "sharp";
import { pictureError } from "./picture_kind.ts";
import { MAX_PIXELS } from "./reduce.ts";

/** Most pixels by how a file is decoded. */
export const PIXEL_LIMITS = {
  /** Baseline JPEG: by its own scaled decoding. */
  scaled: 1_000_000_000,
  /** PNG and TIFF: strip by strip. */
  streamed: 400_000_000,
  /** Progressive JPEG, interlaced PNG, WebP: whole. */
  whole: 64_000_000,
};

/** Longest side: decoders work on whole rows, many at a time. */
const MAX_SIDE = 100_000;

const SMALLER = "Give a smaller copy or the part that matters, made for example with: " +
  "vipsthumbnail in.png --size 4000 -o out.png";

/** A page of a TIFF or WebP file, or a sub-image of a TIFF file. */
export type Page = Pick<SharpOptions, "page" | "subifd">;

/** Fewest pixels of a pyramid's level that stands for the whole, if it needs no reducing. */
const MIN_LEVEL_PIXELS = MAX_PIXELS / 8;

/** Most pages that are looked at for a pyramid. */
const MAX_LEVELS = 32;

/**
 * The page that was asked for; else the first, or, where it is too large and others are smaller
 * copies of it, the largest copy that need not be reduced, or the smallest that must be.
 */
export async function choosePage(
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
    const most = best.meta.width * best.meta.height;
    const isBetter = most > MAX_PIXELS
      ? pixels >= MIN_LEVEL_PIXELS && pixels < most
      : pixels <= MAX_PIXELS && pixels > most;
    if (isCopy && isBetter) best = { page, meta };
  }
  return best;
}

/**
 * Refuses sizes beyond the limits, and samples that are not read.
 *
 * @throws {InputError} Saying the size and the limit
 */
export function checkHeader(meta: Metadata, format: string, name: string) {
  const { width, height, depth } = meta;
  const [kind, limit] = meta.isProgressive || format === "webp"
    ? [{ jpeg: "progressive JPEG", png: "interlaced PNG" }[format] ?? "WebP", PIXEL_LIMITS.whole]
    : format === "jpeg"
    ? ["JPEG", PIXEL_LIMITS.scaled]
    : [format.toUpperCase(), PIXEL_LIMITS.streamed];
  const size = `${width}x${height}`;
  if (width * height > limit) {
    throw pictureError(
      name,
      `it has ${size} pixels; ${kind} is read up to ${limit / 1e6} megapixels`,
      SMALLER,
    );
  }
  if (Math.max(width, height) > MAX_SIDE) {
    throw pictureError(
      name,
      `it has ${size} pixels; sides of at most ${MAX_SIDE} are read`,
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

/** Bytes of a PNG's pixels before they are packed, from its IHDR chunk. */
export function pngBytes(bytes: Uint8Array, { width, height }: Metadata): number {
  const channels = [1, 0, 3, 1, 2, 0, 4][bytes[25]] ?? 0;
  return height * (1 + Math.ceil(width * channels * bytes[24] / 8));
}

/** Frames of an animated PNG, from its acTL chunk before the pixels; 1 if there is none. */
export function pngFrames(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 8; at + 12 <= bytes.length;) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "acTL") return view.getUint32(at + 8);
    if (type === "IDAT") break;
    at += 12 + view.getUint32(at);
  }
  return 1;
}
