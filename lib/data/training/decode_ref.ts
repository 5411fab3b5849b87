// The one place where an image of training data is decoded, whatever it is: a path, the bytes of a file
// or pixels; JPEG, PNG, WebP, TIFF (16 bits too), DICOM or NIfTI. Transparency is put on white, pictures
// above 20 megapixels are reduced, and EXIF orientation is ignored, as in the data the weights know.

import { type PictureOptions, readPicture } from "../picture.ts";
import type { Image } from "../resize.ts";
import type { Pixels } from "../transforms.ts";
import { imagePlace } from "./image_field.ts";
import type { ImageRef } from "./record.ts";

/** How medical files are read: what becomes black and white, and which slice; see PictureOptions. */
export interface DecodeOptions extends Pick<PictureOptions, "window"> {
  /** The record's place, for errors about a file it names. */
  where?: string;
}

/** A decoded image, (h, w, 3) bytes. */
export interface DecodedImage extends Image {
  /** Conversions that were made, one phrase each. */
  notes: string[];
}

/**
 * Decodes an image. Volumes give their middle axial slice, files of several frames the first.
 *
 * @throws {InputError} If the file is missing, damaged, too large or of a kind that is not read
 * @throws {UsageError} If it cannot be windowed as asked
 */
export async function decodeRef(
  ref: ImageRef,
  options: DecodeOptions = {},
): Promise<DecodedImage> {
  if (ref.pixels) return { ...bytesOfPixels(ref.pixels), notes: [] };
  const source = ref.bytes ?? ref.path;
  if (source === undefined) {
    throw new TypeError(`internal: image ${ref.name} has neither path, bytes nor pixels`);
  }
  const { window, where } = options;
  const name = where !== undefined && ref.bytes === undefined
    ? `${ref.name} of ${imagePlace(ref, where)}`
    : ref.name;
  const { width, height, data, notes } = await readPicture(source, {
    name,
    orientation: "ignore",
    ...(window === undefined ? {} : { window }),
  });
  return { width, height, data, notes };
}

/** (3, h, w) in [-1, 1] → (h, w, 3) bytes, `127.5 (x + 1)`, rounded: 256 levels come back exactly. */
function bytesOfPixels({ width, height, data }: Pixels): Image {
  const area = width * height;
  const out = new Uint8Array(3 * area);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < area; i++) {
      out[3 * i + c] = Math.round(127.5 * (Math.min(1, Math.max(-1, data[c * area + i])) + 1));
    }
  }
  return { width, height, data: out };
}
