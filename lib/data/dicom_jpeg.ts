// JPEG frames inside DICOM files, decoded by sharp. A JPEG stream says little about its colour, and
// decoders take three components for YCbCr: where DICOM says RGB, the stream is marked as such.

import { decodeJpeg } from "./image.ts";
import type { Layout } from "./dicom_layout.ts";
import type { Samples } from "./dicom_pixels.ts";
import { conversionHelp, type TransferSyntax } from "./dicom_syntax.ts";
import { pictureError } from "./picture_kind.ts";

/** Bits per sample, from the frame header before the first scan. */
function precisionOf(jpeg: Uint8Array): number | undefined {
  for (let at = 2; at + 4 < jpeg.length && jpeg[at] === 0xff;) {
    const [marker, length] = [jpeg[at + 1], jpeg[at + 2] << 8 | jpeg[at + 3]];
    const startsFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (startsFrame) return jpeg[at + 4];
    at += 2 + length;
  }
  return undefined;
}

/** An Adobe segment that says: no YCbCr. A JFIF segment, or an Adobe segment after it, outweighs it. */
const ADOBE_RGB = [0xff, 0xee, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0];

/**
 * Decodes one frame.
 *
 * @returns (h, w) grey values, or (h, w, 3) RGB
 * @throws {InputError} If the stream is damaged, of more than 8 bits, or not of the file's shape
 */
export async function decodeJpegFrame(
  jpeg: Uint8Array,
  layout: Layout,
  syntax: TransferSyntax,
  name: string,
): Promise<{ samples: Samples; rgb: boolean }> {
  const precision = precisionOf(jpeg);
  const refuse = (reason: string) =>
    pictureError(name, `its ${syntax.words} pixels ${reason}`, conversionHelp(syntax));
  if (precision === undefined) throw refuse("are damaged: no frame header");
  if (precision !== 8) {
    throw refuse(`have ${precision} bits (transfer syntax ${syntax.uid}); 8 are read`);
  }
  const rgb = layout.samples === 3;
  const stream = rgb && layout.photometric === "RGB"
    ? Uint8Array.from([...jpeg.subarray(0, 2), ...ADOBE_RGB, ...jpeg.subarray(2)])
    : jpeg;
  let image;
  try {
    image = await decodeJpeg(stream, layout.rows * layout.columns);
  } catch (cause) {
    throw refuse(`are damaged: ${(cause as Error).message.split("\n")[0]}`);
  }
  const { columns, rows, samples } = layout;
  const channels = image.data.length / (image.width * image.height);
  if (image.width !== columns || image.height !== rows || channels !== samples) {
    throw refuse(
      `are ${image.width}x${image.height}x${channels}, the header says ${columns}x${rows}x${samples}`,
    );
  }
  return { samples: image.data, rgb };
}
