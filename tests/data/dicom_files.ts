// DICOM files made for tests: any data set, in any of the plain transfer syntaxes, and RLE frames.

import assert from "node:assert/strict";
import { readPicture } from "../../lib/data/picture.ts";
import { InputError } from "../../lib/errors.ts";

/** An element: tag, value type, value. */
export type Part = [tag: number, type: string, value: Value];

/** Numbers for US and SS, text, bytes, items of a sequence, or coded fragments of pixels. */
export type Value =
  | number[]
  | string
  | Uint8Array
  | { items: Part[][] }
  | { table?: number[]; fragments: Uint8Array[] };

/** How to write a file. */
export interface FileOptions {
  /** Default: explicit little-endian. */
  syntax?: string;
  /** What the data set is written as, if the syntax does not say: "implicit", "big". */
  as?: "implicit" | "big";
  /** Default true. */
  preamble?: boolean;
  /** Whether there is a meta header with the syntax. Default true. */
  meta?: boolean;
}

export const ROOT = "1.2.840.10008.1.2";

const LONG = new Set(["OB", "OW", "OV", "SQ", "UN", "UT"]);

/** Joins bytes. */
export function join(...parts: (ArrayLike<number>)[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function number(value: number, bytes: 2 | 4, big: boolean): number[] {
  const out = Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) & 255);
  return big ? out.reverse() : out;
}

/** A data set, or the contents of an item. */
export function dataSet(parts: Part[], implicit: boolean, big: boolean): Uint8Array<ArrayBuffer> {
  const two = (v: number) => number(v, 2, big);
  const four = (v: number) => number(v, 4, big);
  const tagOf = (tag: number) => [...two(tag >>> 16), ...two(tag & 0xffff)];
  const item = (bytes: Uint8Array) => join(tagOf(0xfffee000), four(bytes.length), bytes);
  return join(...parts.map(([tag, type, value]) => {
    let bytes: Uint8Array;
    let length: number | undefined;
    if (typeof value === "string") {
      bytes = new TextEncoder().encode(value.length % 2 ? `${value} ` : value);
    } else if (value instanceof Uint8Array) bytes = value;
    else if (Array.isArray(value)) bytes = join(...value.map((v) => two(v & 0xffff)));
    else if ("items" in value) {
      bytes = join(...value.items.map((each) => item(dataSet(each, implicit, big))));
    } else {
      const table = join(...(value.table ?? []).map(four));
      const end = [...tagOf(0xfffee0dd), 0, 0, 0, 0];
      bytes = join(item(table), ...value.fragments.map(item), end);
      length = 0xffffffff;
    }
    length ??= bytes.length;
    const typed = implicit
      ? four(length)
      : LONG.has(type)
      ? [...new TextEncoder().encode(type), 0, 0, ...four(length)]
      : [...new TextEncoder().encode(type), ...two(length)];
    return join(tagOf(tag), typed, bytes);
  }));
}

/** A DICOM file. */
export function dicomFile(parts: Part[], options: FileOptions = {}): Uint8Array<ArrayBuffer> {
  const { syntax = `${ROOT}.1`, preamble = true, meta = true } = options;
  const as = options.as ??
    (syntax === ROOT ? "implicit" : syntax === `${ROOT}.2` ? "big" : undefined);
  const uid = new TextEncoder().encode(syntax.length % 2 ? `${syntax}\0` : syntax);
  const head = dataSet([[0x00020010, "UI", uid]], false, false);
  return join(
    preamble ? join(new Uint8Array(128), new TextEncoder().encode("DICM")) : [],
    meta ? join(dataSet([[0x00020000, "UL", [head.length, 0]]], false, false), head) : [],
    dataSet(parts, as === "implicit", as === "big"),
  );
}

/** Shape and bits of an image, as elements; grey of 16 bits if not told otherwise. */
export function imageParts(
  rows: number,
  columns: number,
  pixels: Value,
  more: Record<number, Value | undefined> = {},
): Part[] {
  const types: Record<number, string> = {
    0x00080060: "CS",
    0x00280004: "CS",
    0x00280008: "IS",
    0x00281056: "CS",
    0x7fe00010: "OW",
  };
  const all: Record<number, Value | undefined> = {
    0x00080060: "MR",
    0x00280002: [1],
    0x00280004: "MONOCHROME2",
    0x00280010: [rows],
    0x00280011: [columns],
    0x00280100: [16],
    0x00280101: [16],
    0x00280102: [15],
    0x00280103: [0],
    ...more,
    0x7fe00010: pixels,
  };
  return Object.entries(all)
    .filter(([, value]) => value !== undefined)
    .map(([tag, value]): Part => {
      const type = types[+tag] ??
        (typeof value === "string" ? "DS" : Array.isArray(value) ? "US" : "");
      const other = value instanceof Uint8Array ? "OW" : "SQ";
      return [+tag, type || other, value!];
    })
    .sort(([a], [b]) => a - b);
}

/** Values → little- or big-endian words. */
export function words(values: ArrayLike<number>, big = false): Uint8Array<ArrayBuffer> {
  return join(...Array.from(values, (v) => number(v & 0xffff, 2, big)));
}

/** One RLE frame of planes: each as runs of up to 128 equal bytes, else as copies. */
export function rleFrame(planes: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const packed = planes.map((plane) => {
    const out: number[] = [];
    for (let i = 0; i < plane.length;) {
      let run = 1;
      while (run < 128 && plane[i + run] === plane[i]) run++;
      if (run > 1) out.push(257 - run, plane[i]);
      else out.push(0, plane[i]);
      i += run;
    }
    if (out.length % 2) out.push(128);
    return Uint8Array.from(out);
  });
  const header = new DataView(new ArrayBuffer(64));
  header.setUint32(0, planes.length, true);
  let at = 64;
  packed.forEach((part, i) => {
    header.setUint32(4 + 4 * i, at, true);
    at += part.length;
  });
  return join(new Uint8Array(header.buffer), ...packed);
}

/** The picture in a file that errors call x.dcm. */
export const read = (file: Uint8Array, options = {}) =>
  readPicture(file, { name: "x.dcm", ...options });

/** The red channel of the picture, which is that of grey. */
export const greys = async (file: Uint8Array, options = {}) =>
  [...(await read(file, options)).data].filter((_, i) => i % 3 === 0);

/** Why a file is refused, without its name; "accepted" if it is not. */
export async function refusal(file: Uint8Array, options = {}): Promise<string> {
  try {
    await read(file, options);
  } catch (error) {
    assert.ok(error instanceof InputError && error.help, `${error}`);
    return error.message.replace("Cannot read picture x.dcm: ", "");
  }
  return "accepted";
}

/** Tags. */
export const [SAMPLES, PHOTOMETRIC, PLANAR, FRAMES] = [
  0x00280002,
  0x00280004,
  0x00280006,
  0x00280008,
];
export const [ALLOCATED, STORED, HIGH, SIGNED] = [0x00280100, 0x00280101, 0x00280102, 0x00280103];
export const [CENTER, WIDTH, INTERCEPT, SLOPE, SHAPE] = [
  0x00281050,
  0x00281051,
  0x00281052,
  0x00281053,
  0x00281056,
];
export const MODALITY = 0x00080060;
/** Grey of 8 bits. */
export const BYTE = { [ALLOCATED]: [8], [STORED]: [8], [HIGH]: [7] };
/** RGB of 8 bits. */
export const COLOR = { ...BYTE, [SAMPLES]: [3], [PHOTOMETRIC]: "RGB" };
/** Bytes by value. */
export const bytes = (...values: number[]) => Uint8Array.from(values);

/** A ramp of 2 x 4 pixels. */
export const RAMP = [0, 100, 200, 300, 400, 500, 600, 700];
/** The ramp as a file, with other elements. */
export const ramp = (more = {}) => dicomFile(imageParts(2, 4, words(RAMP), more));
