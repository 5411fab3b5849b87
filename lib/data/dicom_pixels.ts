// The stored values of one frame: native, RLE or JPEG bytes become numbers, (h, w, samples),
// without high or low bits that are not part of them.

import type { InputError } from "../errors.ts";
import { swapBytes } from "./byte_order.ts";
import type { DicomHeader } from "./dicom_header.ts";
import { type Layout, nativeFrameBytes } from "./dicom_layout.ts";
import { unpackRle } from "./dicom_rle.ts";

/** Stored values of one frame. */
export type Samples = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array;

/** One frame as it is stored: values, or a JPEG stream. */
export type StoredFrame = { samples: Samples } | { jpeg: Uint8Array };

/**
 * The bytes or values of frame `frame` (from 0).
 *
 * @throws {InputError} If there are no pixels, or their size or coding is not what the header says
 */
export function readFrame(
  header: DicomHeader,
  layout: Layout,
  frame: number,
): StoredFrame {
  const { syntax, elements, bytes } = header;
  const element = elements.place("pixelData");
  if (!element) {
    for (const field of ["floatPixelData", "doubleFloatPixelData"] as const) {
      if (elements.place(field)) throw elements.wrong(field, "holds the pixels; it is not read");
    }
    throw elements.wrong("pixelData", "is missing: the file has no picture");
  }
  const { start, length, type } = element;
  if ((length === undefined) !== (syntax.coding !== "native")) {
    const is = length === undefined ? "encapsulated" : "not encapsulated";
    throw elements.wrong("pixelData", `is ${is}, against the syntax ${syntax.words}`);
  }
  if (length !== undefined) {
    const swapped = syntax.bigEndian && layout.bitsAllocated === 8 && type === "OW";
    const all = bytes.subarray(start, start + length);
    return { samples: nativeFrame(header, layout, all, length, frame, swapped) };
  }
  const wrong = (reason: string) => elements.wrong("pixelData", reason);
  const coded = encapsulatedFrame(bytes, start, layout.frames, frame, wrong);
  if (syntax.coding === "jpeg") return { jpeg: coded };
  if (layout.bitsAllocated === 1) throw elements.wrong("bitsAllocated", "is 1 with RLE");
  const sampleBytes = layout.bitsAllocated / 8;
  let plain: Uint8Array<ArrayBuffer>;
  try {
    plain = unpackRle(coded, layout.rows * layout.columns, layout.samples, sampleBytes);
  } catch (cause) {
    throw wrong(`is damaged or cut off: ${(cause as Error).message}`);
  }
  return { samples: toSamples(plain, { ...layout, planar: false }, false) };
}

function nativeFrame(
  { elements, syntax }: DicomHeader,
  layout: Layout,
  all: Uint8Array,
  declared: number,
  frame: number,
  swapped: boolean | undefined,
): Samples {
  const frameBytes = nativeFrameBytes(layout);
  const needed = Math.ceil(frameBytes * layout.frames);
  // Elements have an even length: one byte may be padding.
  if (all.length !== needed && all.length !== needed + needed % 2 || declared !== all.length) {
    const { rows, columns, samples, bitsAllocated, frames } = layout;
    const shape = `${frames > 1 ? `${frames} frames of ` : ""}${columns}x${rows}x${samples}`;
    throw elements.wrong(
      "pixelData",
      `has ${all.length} bytes in the file${
        declared === all.length ? "" : ` of ${declared} declared`
      }; ${shape} samples of ${bitsAllocated} bits need ${needed}`,
    );
  }
  if (layout.bitsAllocated === 1) {
    const pixels = layout.rows * layout.columns;
    const bit = (i: number) => all[i >> 3] >> (i & 7) & 1;
    return Uint8Array.from({ length: pixels }, (_, i) => bit(frame * pixels + i));
  }
  const start = frame * frameBytes;
  const own = new Uint8Array(Math.ceil(frameBytes));
  own.set(all.subarray(start, start + frameBytes));
  if (swapped) {
    for (let i = 0; i < own.length; i++) own[i] = all[(start + i) ^ 1];
  }
  return toSamples(own, layout, syntax.bigEndian ?? false);
}

/** Bytes → values: byte order, then planes side by side, then the stored bits alone. */
function toSamples(bytes: Uint8Array<ArrayBuffer>, layout: Layout, bigEndian: boolean): Samples {
  const { bitsAllocated, bitsStored, highBit, signed } = layout;
  const size = bitsAllocated / 8;
  if (bigEndian) swapBytes(bytes, size);
  const values = new (signed ? SIGNED : UNSIGNED)[size as 1 | 2 | 4](bytes.buffer);
  const [up, down] = [32 - 1 - highBit, 32 - bitsStored];
  if (bitsStored < bitsAllocated) {
    for (let i = 0; i < values.length; i++) {
      const top = values[i] << up;
      values[i] = signed ? top >> down : top >>> down;
    }
  }
  if (!layout.planar) return values;
  const pixels = values.length / 3;
  const mixed = new (values.constructor as Uint8ArrayConstructor)(values.length);
  for (let i = 0; i < values.length; i++) mixed[i] = values[(i % 3) * pixels + Math.floor(i / 3)];
  return mixed;
}

const UNSIGNED = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array } as const;
const SIGNED = { 1: Int8Array, 2: Int16Array, 4: Int32Array } as const;

/** Most fragments that pixels may be stored in. */
const MAX_FRAGMENTS = 1_000_000;

const ITEM = 0xe000fffe;
const DELIMITER = 0xe0ddfffe;

/**
 * The coded bytes of one frame (PS3.5 A.4): an item with the offset table, fragments, a delimiter.
 * Always little-endian.
 */
function encapsulatedFrame(
  bytes: Uint8Array,
  start: number,
  frames: number,
  frame: number,
  wrong: (reason: string) => InputError,
): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const items: { from: number; to: number }[] = [];
  let at = start;
  for (;;) {
    if (at + 8 > bytes.length) throw wrong("is cut off: it has no end mark");
    const tag = view.getUint32(at, true);
    if (tag === DELIMITER) break;
    const to = at + 8 + view.getUint32(at + 4, true);
    if (tag !== ITEM) throw wrong(`has no fragment at byte ${at} of the data set`);
    if (to > bytes.length) throw wrong(`is cut off in fragment ${items.length}`);
    if (items.push({ from: at + 8, to }) > MAX_FRAGMENTS) {
      throw wrong(`has more than ${MAX_FRAGMENTS} fragments`);
    }
    at = to;
  }
  const [table, ...fragments] = items;
  if (!table || fragments.length === 0) throw wrong("has no fragments");
  const offsets = Array.from(
    { length: Math.floor((table.to - table.from) / 4) },
    (_, i) => view.getUint32(table.from + 4 * i, true),
  );
  const own = fragmentsOf(bytes, fragments, offsets, frames, frame);
  if (own.length === 0) {
    throw wrong(`has ${fragments.length} fragments that do not divide into ${frames} frames`);
  }
  if (own.length === 1) return bytes.subarray(own[0].from, own[0].to);
  const joined = new Uint8Array(own.reduce((sum, { from, to }) => sum + to - from, 0));
  let filled = 0;
  for (const { from, to } of own) {
    joined.set(bytes.subarray(from, to), filled);
    filled += to - from;
  }
  return joined;
}

/** The fragments of a frame: all, one each, by the offset table, or from JPEG start to start. */
function fragmentsOf(
  bytes: Uint8Array,
  fragments: { from: number; to: number }[],
  offsets: number[],
  frames: number,
  frame: number,
): { from: number; to: number }[] {
  if (frames === 1) return fragments;
  if (fragments.length === frames) return [fragments[frame]];
  const base = fragments[0].from - 8;
  const starts = offsets.length === frames
    ? offsets.map((offset) => fragments.findIndex(({ from }) => from - 8 - base === offset))
    : fragments.flatMap(({ from }, i) => bytes[from] === 0xff && bytes[from + 1] === 0xd8 ? i : []);
  if (starts.length !== frames || starts.includes(-1)) return [];
  return fragments.slice(starts[frame], starts[frame + 1]);
}
