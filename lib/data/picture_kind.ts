// What a file is, by its bytes; its name is not asked. Only the formats that readPicture() reads
// pass; others that users try are refused by name.

import { constants, gunzipSync } from "node:zlib";
import { InputError } from "../errors.ts";
import { plainBytes } from "./byte_order.ts";
import { looksLikeDataSet } from "./dicom_start.ts";

/** Formats of pictures; a gzip file that holds NIfTI counts as NIfTI. */
export type PictureKind = "jpeg" | "png" | "webp" | "tiff" | "dicom" | "nifti";

/** An InputError that names the picture: `Cannot read picture NAME: reason`. */
export function pictureError(
  name: string,
  reason: string,
  help: string,
  cause?: unknown,
): InputError {
  return new InputError(`Cannot read picture ${name}: ${reason}`, { help, cause });
}

/**
 * The kind of a picture by its bytes.
 *
 * @throws {InputError} If it is empty or of no kind that is read; the message says what it is
 */
export function kindOf(bytes: Uint8Array, name: string): PictureKind {
  if (bytes.length === 0) throw pictureError(name, "the file is empty", "Give a complete file");
  const head = characters(bytes.subarray(0, 1024));
  // First, because the free 128 bytes before the mark may look like another format.
  if (head.slice(128, 132) === "DICM") return "dicom";
  if (head.startsWith("\xff\xd8\xff")) return "jpeg";
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (head.startsWith("RIFF") && head.slice(8, 12) === "WEBP") return "webp";
  if (TIFF_STARTS.some((start) => head.startsWith(start))) return "tiff";
  const volume = head.startsWith(GZIP) ? characters(unzipStart(bytes).subarray(0, 1024)) : head;
  const version = niftiVersion(volume);
  if (version === 1 && volume.slice(344, 348) === "n+1\0") return "nifti";
  if (version === 2 && volume.slice(4, 8) === "n+2\0") return "nifti";
  if (version !== undefined) {
    throw pictureError(
      name,
      "it is the header of a pair of NIfTI or Analyze files",
      "Join header and image to one .nii file",
    );
  }
  const other = OTHERS.find(({ starts, pattern }) =>
    starts?.some((start) => head.startsWith(start)) || pattern?.test(head)
  );
  if (other) {
    const help = other.help ?? "Convert it to PNG, JPEG, WebP or TIFF and give that file";
    throw pictureError(name, `it is ${other.what}`, help);
  }
  if (looksLikeDataSet(bytes)) return "dicom";
  throw pictureError(
    name,
    "it is not a JPEG, PNG, WebP, TIFF, DICOM or NIfTI file",
    "Give a complete file of one of these formats; its name does not matter",
  );
}

const GZIP = "\x1f\x8b";

/** Byte order, then 42, or 43 for files beyond 4 GB. */
const TIFF_STARTS = ["II*\0", "II+\0", "MM\0*", "MM\0+"];

/** One character per byte. TextDecoder's latin1 is another code from 0x80 to 0x9f. */
function characters(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/**
 * The first bytes that a gzip file unpacks to, 16 kB of it at most; none if they do not unpack,
 * which makes it a file of no known kind.
 */
export function unzipStart(bytes: Uint8Array): Uint8Array {
  // Without its last 8 bytes, a checksum and a length: the part that is looked at has others.
  const part = bytes.subarray(0, Math.min(16_384, Math.max(0, bytes.length - 8)));
  try {
    return plainBytes(gunzipSync(part, { finishFlush: constants.Z_SYNC_FLUSH }));
  } catch {
    return new Uint8Array(0);
  }
}

/** The version by the size of the header, 348 or 540, in either byte order. */
function niftiVersion(head: string): 1 | 2 | undefined {
  if (head.startsWith("\x5c\x01\0\0") || head.startsWith("\0\0\x01\x5c")) return 1;
  if (head.startsWith("\x1c\x02\0\0") || head.startsWith("\0\0\x02\x1c")) return 2;
  return undefined;
}

/** A format that is refused: its name, the repair if it is not conversion, its first characters. */
interface Other {
  what: string;
  help?: string;
  starts?: string[];
  pattern?: RegExp;
}

const OTHERS: readonly Other[] = [
  { what: "a GIF image", starts: ["GIF8"] },
  {
    what: "an SVG drawing",
    pattern: /^(?=[^]*<svg\b)(ï»¿)?\s*<(\?xml|!--|!doctype svg|svg\b)/i,
  },
  { what: "a PDF document", starts: ["%PDF"] },
  {
    what: "a web page",
    help: "Download the picture itself",
    pattern: /^(ï»¿)?\s*<(!doctype html|html)\b/i,
  },
  { what: "a BMP image", pattern: /^BM[^]{4}\0{4}/ },
  { what: "a HEIC or AVIF image", pattern: /^[^]{4}ftyp(hei[cx]|hevc|mif1|msf1|avi[fs])/ },
  { what: "a JPEG 2000 image", starts: ["\0\0\0\x0cjP  ", "\xff\x4f\xff\x51"] },
  { what: "a JPEG XL image", starts: ["\xff\x0a", "\0\0\0\x0cJXL "] },
  { what: "a Photoshop file", starts: ["8BPS"] },
  {
    what: "a ZIP archive",
    help: "Unpack it and give one of its files",
    starts: ["PK\x03\x04"],
  },
  {
    what: "an NRRD volume",
    help: "Convert it to NIfTI (.nii.gz) and give that file",
    starts: ["NRRD000"],
  },
  {
    what: "a Git LFS pointer, not the file itself",
    help: "Fetch the file with: git lfs pull",
    starts: ["version https://git-lfs"],
  },
  {
    what: "a gzip file that does not unpack to a NIfTI volume",
    help: "Unpack it with gunzip (or tar) and give the picture",
    starts: [GZIP],
  },
];
