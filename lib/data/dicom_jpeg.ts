// JPEG frames inside DICOM files, decoded by sharp. A JPEG stream says little about its colour, and
// decoders take three components for YCbCr: where DICOM says RGB, the stream is marked as such.

import { decodeJpeg } from "./image.ts";
import type { Layout } from "./dicom_layout.ts";
import type { Samples } from "./dicom_pixels.ts";
import { conversionHelp, type TransferSyntax } from "./dicom_syntax.ts";
import { pictureError } from "./picture_kind.ts";

/** What the segments before the first scan say. */
interface JpegHead {
  /** Bits per sample. */
  precision: number;
  /** Whether a JFIF or Adobe segment tells the colour space. */
  marked: boolean;
}

function readHead(jpeg: Uint8Array): JpegHead | undefined {
  let marked = false;
  for (let at = 2; at + 4 < jpeg.length && jpeg[at] === 0xff;) {
    const [marker, length] = [jpeg[at + 1], jpeg[at + 2] << 8 | jpeg[at + 3]];
    const name = String.fromCharCode(...jpeg.subarray(at + 4, at + 9));
    if (marker === 0xe0 && name.startsWith("JFIF") || marker === 0xee && name === "Adobe") {
      marked = true;
    }
    const startsFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (startsFrame) return { precision: jpeg[at + 4], marked };
    at += 2 + length;
  }
  return undefined;
}

/** An Adobe segment that says: the components are no YCbCr. */
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
  const head = readHead(jpeg);
  const refuse = (reason: string) =>
    pictureError(name, `its ${syntax.words} pixels ${reason}`, conversionHelp(syntax));
  if (!head) throw refuse("are damaged: no frame header");
  if (head.precision !== 8) {
    throw refuse(`have ${head.precision} bits (transfer syntax ${syntax.uid}); 8 are read`);
  }
  const rgb = layout.samples === 3;
  const stream = rgb && layout.photometric === "RGB" && !head.marked
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
