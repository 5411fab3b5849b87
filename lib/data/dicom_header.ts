// The elements of a DICOM file that make its picture, each checked where it is used. Other elements
// (names, dates, identifiers) are never looked at, and no error repeats text of the file: whatever a
// field holds, it may identify somebody.

import { inflateRawSync } from "node:zlib";
import type { InputError } from "../errors.ts";
import { plainBytes } from "./byte_order.ts";
import {
  type DataSet,
  type Element,
  LONG_TYPES,
  PIXEL_DATA,
  readDataSet,
} from "./dicom_elements.ts";
import { dataSetStart, plainSyntaxAt } from "./dicom_start.ts";
import { type TransferSyntax, transferSyntax } from "./dicom_syntax.ts";
import { pictureError } from "./picture_kind.ts";

/** Elements that are read, by their PS3.6 keyword. */
export const TAGS = {
  transferSyntaxUid: 0x00020010,
  modality: 0x00080060,
  samplesPerPixel: 0x00280002,
  photometricInterpretation: 0x00280004,
  planarConfiguration: 0x00280006,
  numberOfFrames: 0x00280008,
  rows: 0x00280010,
  columns: 0x00280011,
  bitsAllocated: 0x00280100,
  bitsStored: 0x00280101,
  highBit: 0x00280102,
  pixelRepresentation: 0x00280103,
  pixelPaddingValue: 0x00280120,
  windowCenter: 0x00281050,
  windowWidth: 0x00281051,
  rescaleIntercept: 0x00281052,
  rescaleSlope: 0x00281053,
  voiLutFunction: 0x00281056,
  redPaletteDescriptor: 0x00281101,
  greenPaletteDescriptor: 0x00281102,
  bluePaletteDescriptor: 0x00281103,
  redPaletteData: 0x00281201,
  greenPaletteData: 0x00281202,
  bluePaletteData: 0x00281203,
  modalityLutSequence: 0x00283000,
  lutDescriptor: 0x00283002,
  lutData: 0x00283006,
  voiLutSequence: 0x00283010,
  frameVoiLutSequence: 0x00289132,
  pixelValueTransformationSequence: 0x00289145,
  sharedFunctionalGroups: 0x52009229,
  perFrameFunctionalGroups: 0x52009230,
  floatPixelData: 0x7fe00008,
  doubleFloatPixelData: 0x7fe00009,
  pixelData: PIXEL_DATA,
} as const;

/** The keyword of an element that is read. */
export type Field = keyof typeof TAGS;

/** How errors call an element: "Rows (0028,0010)". */
function label(field: Field): string {
  const tag = TAGS[field].toString(16).toUpperCase().padStart(8, "0");
  return `${field[0].toUpperCase()}${field.slice(1)} (${tag.slice(0, 4)},${tag.slice(4)})`;
}

const REPAIR = "Export the file again from the archive or scanner, or convert it with: " +
  "gdcmconv --raw in.dcm out.dcm";

/** Checked access to the elements of one data set or sequence item. */
export class Elements {
  constructor(
    private readonly data: DataSet,
    private readonly source: { bytes: Uint8Array; bigEndian: boolean; name: string },
  ) {}

  /** An InputError about one element. */
  wrong(field: Field, reason: string, help = REPAIR): InputError {
    return pictureError(this.source.name, `${label(field)} ${reason}`, help);
  }

  /** Where the value of an element lies; undefined if the element is missing. */
  place(field: Field): Element | undefined {
    return this.data.get(TAGS[field]);
  }

  /** The bytes of an element; undefined if it is missing or empty. */
  bytes(field: Field): Uint8Array | undefined {
    const element = this.place(field);
    if (!element || element.length === 0) return undefined;
    if (element.length === undefined) throw this.wrong(field, "is a sequence");
    return this.source.bytes.subarray(element.start, element.start + element.length);
  }

  /** 16-bit whole numbers; signed ones if asked for. */
  shorts(field: Field, signed = false): number[] | undefined {
    const bytes = this.bytes(field);
    if (!bytes) return undefined;
    if (bytes.length % 2) throw this.wrong(field, `has ${bytes.length} bytes`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const little = !this.source.bigEndian;
    return Array.from(
      { length: bytes.length / 2 },
      (_, i) => signed ? view.getInt16(2 * i, little) : view.getUint16(2 * i, little),
    );
  }

  /** One 16-bit whole number. */
  short(field: Field, otherwise?: number, signed = false): number {
    const value = this.shorts(field, signed)?.[0] ?? otherwise;
    if (value === undefined) throw this.wrong(field, "is missing");
    return value;
  }

  /** A code: upper case, without padding; characters that no code has are refused. */
  code(field: Field): string | undefined {
    const bytes = this.bytes(field);
    if (!bytes) return undefined;
    const text = new TextDecoder("latin1").decode(bytes).replace(/[\0 ]+$/, "").trim();
    if (!/^[A-Z0-9 _\\]{0,64}$/.test(text)) throw this.wrong(field, "is not a code");
    return text || undefined;
  }

  /** The first of the decimal numbers in text; undefined if the element is missing or empty. */
  decimal(field: Field): number | undefined {
    const bytes = this.bytes(field);
    const text = bytes && new TextDecoder("latin1").decode(bytes).replace(/[\0 ]+$/, "");
    if (!text) return undefined;
    const [first] = text.split("\\");
    const number = /^\s*[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d+)?\s*$/i.test(first) ? Number(first) : NaN;
    if (!Number.isFinite(number)) throw this.wrong(field, "is not a finite number");
    return number;
  }

  /** Item `index` of a sequence. */
  item(field: Field, index = 0): Elements | undefined {
    const data = this.place(field)?.items?.[index];
    return data && new Elements(data, this.source);
  }
}

/** A parsed file: its elements up to the pixels, and how it is written. */
export interface DicomHeader {
  elements: Elements;
  syntax: TransferSyntax;
  /** The data set, unpacked if it was deflated; offsets of elements are in it. */
  bytes: Uint8Array;
  /** What had to be assumed. */
  notes: string[];
}

/** Most bytes a deflated data set may unpack to. */
const MAX_INFLATED = 2 ** 30;

/**
 * Parses a DICOM file: with or without preamble and meta header.
 *
 * @throws {InputError} If it is damaged; the message names the file and, where known, the element
 */
export function parseDicom(file: Uint8Array, name: string): DicomHeader {
  const notes: string[] = [];
  const hasMark = new TextDecoder("latin1").decode(file.subarray(128, 132)) === "DICM";
  let at = hasMark ? 132 : dataSetStart(file) ?? 0;
  if (at > 0 && !hasMark) notes.push(`${at} stray bytes before the data set skipped`);
  let uid: string | undefined;
  if (file[at] === 2 && file[at + 1] === 0) [uid, at] = readMeta(file, at, name);
  if (uid === undefined) {
    const plain = plainSyntaxAt(file, at);
    if (!plain) throw damaged(name, `no data set begins at byte ${at}`);
    uid = { "implicit LE": "", "explicit LE": ".1", "explicit BE": ".2" }[plain];
    uid = `1.2.840.10008.1.2${uid}`;
    notes.push(`no transfer syntax in the file: taken as ${transferSyntax(uid).words}`);
  }
  const syntax = transferSyntax(uid);
  let bytes = file.subarray(at);
  if (syntax.deflated) {
    try {
      bytes = plainBytes(inflateRawSync(bytes, { maxOutputLength: MAX_INFLATED }));
    } catch {
      throw damaged(name, `its data set does not inflate to at most ${MAX_INFLATED} bytes`);
    }
  }
  const grammar = { implicit: syntax.implicit ?? false, bigEndian: syntax.bigEndian ?? false };
  let data: DataSet;
  try {
    data = readDataSet(bytes, grammar, WANTED);
  } catch (cause) {
    throw damaged(name, (cause as Error).message);
  }
  const source = { bytes, bigEndian: grammar.bigEndian, name };
  return { elements: new Elements(data, source), syntax, bytes, notes };
}

const WANTED: ReadonlySet<number> = new Set(Object.values(TAGS));

/**
 * The transfer syntax in the meta header at `at`, and where the data set begins. The meta header is
 * always explicit little-endian.
 */
function readMeta(
  file: Uint8Array,
  at: number,
  name: string,
): [uid: string | undefined, at: number] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  let uid: string | undefined;
  while (at + 8 <= file.length && view.getUint16(at, true) === 2) {
    const isLong = LONG_TYPES.has(String.fromCharCode(file[at + 4], file[at + 5]));
    const start = at + (isLong ? 12 : 8);
    if (start > file.length) throw damaged(name, "it ends in its meta header");
    const end = start + (isLong ? view.getUint32(at + 8, true) : view.getUint16(at + 6, true));
    if (end > file.length) throw damaged(name, "it ends in its meta header");
    if (view.getUint16(at + 2, true) === 0x10) {
      uid = new TextDecoder("latin1").decode(file.subarray(start, end)).replace(/[\0 ]+$/, "");
    }
    at = end;
  }
  return [uid, at];
}

function damaged(name: string, reason: string): InputError {
  return pictureError(name, `the DICOM file is damaged or cut off: ${reason}`, REPAIR);
}
