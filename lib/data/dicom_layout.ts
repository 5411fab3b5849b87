// How the pixels of a DICOM file are laid out, checked before anything is allocated: sizes against
// limits, bits against each other, and native pixels against rows × columns × samples × frames × bits.

import type { Elements } from "./dicom_header.ts";

/** The photometric interpretations that are read. */
export const PHOTOMETRICS = [
  "MONOCHROME1",
  "MONOCHROME2",
  "PALETTE COLOR",
  "RGB",
  "YBR_FULL",
  "YBR_FULL_422",
] as const;

/** Shape and bits of the pixels. */
export interface Layout {
  rows: number;
  columns: number;
  /** 1 grey or palette index, 3 colour. */
  samples: 1 | 3;
  /** Whether the three samples of colour are stored as planes. */
  planar: boolean;
  frames: number;
  bitsAllocated: 1 | 8 | 16 | 32;
  bitsStored: number;
  highBit: number;
  signed: boolean;
  photometric: (typeof PHOTOMETRICS)[number];
}

/** Most pixels a frame may have. */
const MAX_FRAME_PIXELS = 100_000_000;

/**
 * Reads and checks the elements of the image pixel module (PS3.3 C.7.6.3).
 *
 * @throws {InputError} Naming the element that is missing, impossible or not read here
 */
export function readLayout(elements: Elements): Layout {
  const [rows, columns] = [elements.short("rows"), elements.short("columns")];
  if (rows === 0) throw elements.wrong("rows", "is 0");
  if (columns === 0) throw elements.wrong("columns", "is 0");
  if (rows * columns > MAX_FRAME_PIXELS) {
    const size = `${columns}x${rows}`;
    throw elements.wrong("rows", `makes ${size} pixels; at most ${MAX_FRAME_PIXELS} are read`);
  }
  const samples = elements.short("samplesPerPixel", 1);
  if (samples !== 1 && samples !== 3) {
    throw elements.wrong("samplesPerPixel", `is ${samples}, expected 1 or 3`);
  }
  const code = elements.code("photometricInterpretation") ??
    (samples === 1 ? "MONOCHROME2" : "RGB");
  const photometric = PHOTOMETRICS.find((known) => known === code);
  if (!photometric) {
    throw elements.wrong(
      "photometricInterpretation",
      `is none of those read: ${PHOTOMETRICS.join(", ")}`,
    );
  }
  const grey = photometric.startsWith("MONO") || photometric === "PALETTE COLOR";
  if (grey !== (samples === 1)) {
    throw elements.wrong(
      "photometricInterpretation",
      `is ${photometric} with ${samples} samples per pixel`,
    );
  }
  const frames = elements.decimal("numberOfFrames") ?? 1;
  if (!Number.isSafeInteger(frames) || frames < 1) {
    throw elements.wrong("numberOfFrames", "is not a whole number from 1 up");
  }
  return {
    rows,
    columns,
    samples,
    planar: samples === 3 && readPlanar(elements),
    frames,
    ...readBits(elements, samples),
    photometric,
  };
}

function readPlanar(elements: Elements): boolean {
  const planar = elements.short("planarConfiguration", 0);
  if (planar > 1) throw elements.wrong("planarConfiguration", `is ${planar}, expected 0 or 1`);
  return planar === 1;
}

function readBits(elements: Elements, samples: number) {
  const bitsAllocated = elements.short("bitsAllocated");
  if (
    bitsAllocated !== 1 && bitsAllocated !== 8 && bitsAllocated !== 16 && bitsAllocated !== 32
  ) {
    throw elements.wrong("bitsAllocated", `is ${bitsAllocated}, expected 1, 8, 16 or 32`);
  }
  if (bitsAllocated === 1 && samples > 1) {
    throw elements.wrong("bitsAllocated", `is 1 with ${samples} samples per pixel`);
  }
  const bitsStored = elements.short("bitsStored", bitsAllocated);
  if (bitsStored < 1 || bitsStored > bitsAllocated) {
    throw elements.wrong("bitsStored", `is ${bitsStored} of ${bitsAllocated} bits`);
  }
  const highBit = elements.short("highBit", bitsStored - 1);
  if (highBit < bitsStored - 1 || highBit >= bitsAllocated) {
    const bits = `${bitsStored} of ${bitsAllocated} bits`;
    throw elements.wrong("highBit", `is ${highBit} with ${bits} stored`);
  }
  const representation = elements.short("pixelRepresentation", 0);
  if (representation > 1) {
    throw elements.wrong("pixelRepresentation", `is ${representation}, expected 0 or 1`);
  }
  return {
    bitsAllocated,
    bitsStored,
    highBit,
    signed: representation === 1,
  } as const;
}

/** Bytes of one frame of native pixels; frames of single bits need not end on a byte. */
export function nativeFrameBytes(layout: Layout): number {
  // YBR_FULL_422 stores two samples per pixel: each pair of pixels shares its chroma.
  const samples = layout.photometric === "YBR_FULL_422" ? 2 : layout.samples;
  return layout.rows * layout.columns * samples * layout.bitsAllocated / 8;
}
