// The elements of a DICOM file, through dicom-parser, which checks little: every value that is used
// is checked here. Values of other elements (names, dates, identifiers) are never looked at, and no
// error repeats text of the file: whatever a field holds, it may identify somebody.

import { inflateRawSync } from "node:zlib";
import type { DataSet, Element } from "dicom-parser";
import type { InputError } from "../errors.ts";
import { plainBytes } from "./byte_order.ts";
import { dataSetStart, plainSyntaxAt } from "./dicom_start.ts";
import { type TransferSyntax, transferSyntax } from "./dicom_syntax.ts";
import { pictureError } from "./picture_kind.ts";

/** Elements that are read, by their PS3.6 keyword. */
export const TAGS = {
  transferSyntaxUid: "x00020010",
  modality: "x00080060",
  samplesPerPixel: "x00280002",
  photometricInterpretation: "x00280004",
  planarConfiguration: "x00280006",
  numberOfFrames: "x00280008",
  rows: "x00280010",
  columns: "x00280011",
  bitsAllocated: "x00280100",
  bitsStored: "x00280101",
  highBit: "x00280102",
  pixelRepresentation: "x00280103",
  pixelPaddingValue: "x00280120",
  windowCenter: "x00281050",
  windowWidth: "x00281051",
  rescaleIntercept: "x00281052",
  rescaleSlope: "x00281053",
  voiLutFunction: "x00281056",
  redPaletteDescriptor: "x00281101",
  greenPaletteDescriptor: "x00281102",
  bluePaletteDescriptor: "x00281103",
  redPaletteData: "x00281201",
  greenPaletteData: "x00281202",
  bluePaletteData: "x00281203",
  modalityLutSequence: "x00283000",
  lutDescriptor: "x00283002",
  lutData: "x00283006",
  voiLutSequence: "x00283010",
  frameVoiLutSequence: "x00289132",
  pixelValueTransformationSequence: "x00289145",
  sharedFunctionalGroups: "x52009229",
  perFrameFunctionalGroups: "x52009230",
  floatPixelData: "x7fe00008",
  doubleFloatPixelData: "x7fe00009",
  pixelData: "x7fe00010",
} as const;

/** The keyword of an element that is read. */
export type Field = keyof typeof TAGS;

/** How errors call an element: "Rows (0028,0010)". */
function label(field: Field): string {
  const tag = TAGS[field].toUpperCase();
  return `${field[0].toUpperCase()}${field.slice(1)} (${tag.slice(1, 5)},${tag.slice(5)})`;
}

const REPAIR = "Export the file again from the archive or scanner, or convert it with: " +
  "gdcmconv --raw in.dcm out.dcm";

/** Checked access to the elements of one data set or sequence item. */
export class Elements {
  constructor(readonly data: DataSet, private readonly name: string) {}

  /** An InputError about one element. */
  wrong(field: Field, reason: string, help = REPAIR): InputError {
    return pictureError(this.name, `${label(field)} ${reason}`, help);
  }

  /** Whether the element is there and not empty. */
  has(field: Field): boolean {
    return (this.data.elements[TAGS[field]]?.length ?? 0) > 0;
  }

  /** The bytes of an element. */
  bytes(field: Field): Uint8Array | undefined {
    const element = this.data.elements[TAGS[field]];
    if (!element || element.length === 0) return undefined;
    const end = element.dataOffset + element.length;
    if (end > this.data.byteArray.length) throw this.wrong(field, "ends after the file");
    return this.data.byteArray.subarray(element.dataOffset, end);
  }

  /** 16-bit whole numbers; signed ones if asked for. */
  shorts(field: Field, signed = false): number[] | undefined {
    const bytes = this.bytes(field);
    if (!bytes) return undefined;
    if (bytes.length % 2) throw this.wrong(field, `has ${bytes.length} bytes`);
    return Array.from(
      { length: bytes.length / 2 },
      (_, i) => (signed ? this.data.int16 : this.data.uint16).call(this.data, TAGS[field], i)!,
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
    const data = this.data.elements[TAGS[field]]?.items?.[index]?.dataSet;
    return data && new Elements(data, this.name);
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
export async function parseDicom(file: Uint8Array, name: string): Promise<DicomHeader> {
  const parser = await loadParser();
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
  const data = parseElements(parser, bytes, syntax, name);
  return { elements: new Elements(data, name), syntax, bytes: data.byteArray, notes };
}

/**
 * The transfer syntax in the meta header at `at`, and where the data set begins. The meta header is
 * always explicit little-endian; the parser's own reader looks beyond it, where bytes may be deflated.
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

/** Types whose length has 4 bytes in explicit data sets. */
const LONG_TYPES = new Set("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(" "));

/** Types with a 4-byte length that the parser takes for types with a 2-byte length. */
const MISREAD = new Set(["OV", "SV", "UV"]);

/** How many elements of such a type a data set may have before its pixels. */
const MAX_PATCHES = 8;

/** All elements up to the pixel data; nothing is read behind its first byte. */
function parseElements(
  parser: Parser,
  bytes: Uint8Array,
  syntax: TransferSyntax,
  name: string,
): DataSet {
  const options = {
    TransferSyntaxUID: `1.2.840.10008.1.2${syntax.implicit ? "" : syntax.bigEndian ? ".2" : ".1"}`,
    untilTag: TAGS.pixelData,
  };
  for (let patches = 0; patches <= MAX_PATCHES; patches++) {
    let data: DataSet | undefined;
    let failed = false;
    try {
      data = parser.parseDicom(bytes, options);
    } catch (thrown) {
      failed = true;
      data = (thrown as { dataSet?: DataSet }).dataSet;
    }
    const misread: Element | undefined = syntax.implicit
      ? undefined
      : Object.values(data?.elements ?? {}).find(({ vr }) => MISREAD.has(vr ?? ""));
    if (!misread && data && !failed) return data;
    if (!misread) break;
    if (patches === 0) bytes = bytes.slice();
    bytes.set([85, 78], misread.dataOffset - 4); // "UN": unknown, with a 4-byte length
  }
  throw damaged(name, "its data elements do not parse");
}

function damaged(name: string, reason: string): InputError {
  return pictureError(name, `the DICOM file is damaged or cut off: ${reason}`, REPAIR);
}

type Parser = typeof import("dicom-parser");

/** The module's functions are on its default export, which its types do not know. */
async function loadParser(): Promise<Parser> {
  const module = await import("dicom-parser");
  return (module as unknown as { default: Parser }).default;
}
