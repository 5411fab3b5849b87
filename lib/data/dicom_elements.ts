// The elements of a DICOM data set (PS3.5, section 7): a walk over the file that keeps the elements it
// is asked for and steps over all others, so that names and identifiers are never taken up, and a
// hostile file costs no memory and no more time than its length. It stops at the pixels.

import { VALUE_TYPES } from "./dicom_start.ts";

/** Where the value of an element lies. */
export interface Element {
  /** Its type; undefined where the syntax is implicit. */
  type: string | undefined;
  start: number;
  /** Bytes; undefined if only an end mark tells. */
  length: number | undefined;
  /** The items of a sequence. */
  items?: DataSet[];
}

/** Elements by tag: group · 65536 + element. */
export type DataSet = Map<number, Element>;

/** How a data set is written. */
export interface Grammar {
  implicit: boolean;
  bigEndian: boolean;
}

/** The element that holds the pixels. */
export const PIXEL_DATA = 0x7fe00010;

const [ITEM, ITEM_END, SEQUENCE_END] = [0xfffee000, 0xfffee00d, 0xfffee0dd];

/** Types whose length has 4 bytes in explicit data sets. */
export const LONG_TYPES: ReadonlySet<string> = new Set(
  "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(" "),
);

const UNDEFINED = 0xffffffff;

/** Most sequences of unknown length within each other. */
const MAX_DEPTH = 64;

/** Most items of a sequence that is kept. */
const MAX_ITEMS = 100_000;

/**
 * Reads the wanted elements of a data set, and of the items of wanted sequences, up to the pixels.
 *
 * @param wanted tags; of nested elements too
 * @throws {RangeError} If an element ends after the data set, is no element, or items are missing
 */
export function readDataSet(
  bytes: Uint8Array,
  grammar: Grammar,
  wanted: ReadonlySet<number>,
): DataSet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: DataSet = new Map();
  new Walk(view, wanted).elements(0, bytes.length, grammar, found, 0);
  return found;
}

class Walk {
  constructor(
    private readonly view: DataView,
    private readonly wanted: ReadonlySet<number>,
  ) {}

  /**
   * Elements from `at` to `end`, or to an end mark where `end` is undefined.
   *
   * @param keep takes the wanted ones, if there is any use for them
   * @returns where the elements end
   */
  elements(
    at: number,
    end: number | undefined,
    grammar: Grammar,
    keep: DataSet | undefined,
    depth: number,
  ): number {
    const limit = end ?? this.view.byteLength;
    const little = !grammar.bigEndian;
    while (at < limit) {
      if (at + 8 > limit) throw new RangeError(`the element at byte ${at} is cut off`);
      const tag = this.#tag(at, little);
      if (end === undefined && tag === ITEM_END) return at + 8;
      const element = this.#header(at, tag, grammar, limit);
      const { type, start, length } = element;
      if (tag === PIXEL_DATA && depth === 0) {
        keep?.set(tag, element);
        return at;
      }
      if (length !== undefined && start + length > limit) {
        throw new RangeError(`the element at byte ${at} ends at byte ${start + length}`);
      }
      const kept = keep && this.wanted.has(tag) ? element : undefined;
      if (kept) keep?.set(tag, kept);
      if (
        length === undefined || kept && (type ?? "SQ") === "SQ" && this.#isSequence(kept, little)
      ) {
        const items: DataSet[] | undefined = kept && [];
        // Sequences of unknown type are written as implicit little-endian.
        const inner = type === "UN" ? { implicit: true, bigEndian: false } : grammar;
        const last = length === undefined ? undefined : start + length;
        at = this.#items(start, last, inner, items, depth + 1);
        if (items) element.items = items;
      } else {
        at = start + length;
      }
    }
    if (end === undefined) throw new RangeError("a sequence has no end");
    return at;
  }

  #tag(at: number, little: boolean): number {
    return this.view.getUint16(at, little) * 0x10000 + this.view.getUint16(at + 2, little);
  }

  #header(at: number, tag: number, grammar: Grammar, limit: number): Element {
    const little = !grammar.bigEndian;
    const element = (type: string | undefined, start: number, length: number): Element => ({
      type,
      start,
      length: length === UNDEFINED ? undefined : length,
    });
    if (tag >= ITEM) throw new RangeError(`a mark of a sequence stands alone at byte ${at}`);
    if (grammar.implicit) return element(undefined, at + 8, this.view.getUint32(at + 4, little));
    const type = String.fromCharCode(this.view.getUint8(at + 4), this.view.getUint8(at + 5));
    if (!VALUE_TYPES.has(type)) throw new RangeError(`the element at byte ${at} has no known type`);
    if (!LONG_TYPES.has(type)) return element(type, at + 8, this.view.getUint16(at + 6, little));
    if (at + 12 > limit) throw new RangeError(`the element at byte ${at} is cut off`);
    return element(type, at + 12, this.view.getUint32(at + 8, little));
  }

  /** Whether a value of known length holds items: explicit types say so, else its first bytes do. */
  #isSequence({ type, start, length }: Element, little: boolean): boolean {
    if (type === "SQ") return length !== 0;
    return length !== undefined && length >= 8 && this.#tag(start, little) === ITEM;
  }

  /** Items from `at` to `end`, or to the mark of their end. */
  #items(
    at: number,
    end: number | undefined,
    grammar: Grammar,
    keep: DataSet[] | undefined,
    depth: number,
  ): number {
    if (depth > MAX_DEPTH) throw new RangeError("its sequences are nested too deep");
    const limit = end ?? this.view.byteLength;
    const little = !grammar.bigEndian;
    while (at < limit) {
      if (at + 8 > limit) throw new RangeError(`the item at byte ${at} is cut off`);
      const tag = this.#tag(at, little);
      const length = this.view.getUint32(at + 4, little);
      if (end === undefined && tag === SEQUENCE_END) return at + 8;
      if (tag !== ITEM) throw new RangeError(`a sequence has no item at byte ${at}`);
      const start = at + 8;
      if (length !== UNDEFINED && start + length > limit) {
        throw new RangeError(`the item at byte ${at} ends at byte ${start + length}`);
      }
      const item: DataSet | undefined = keep && new Map();
      if (item && keep!.push(item) > MAX_ITEMS) {
        throw new RangeError("a sequence has too many items");
      }
      at = length === UNDEFINED
        ? this.elements(start, undefined, grammar, item, depth)
        : item
        ? this.elements(start, start + length, grammar, item, depth)
        : start + length;
    }
    if (end === undefined) throw new RangeError("a sequence has no end");
    return at;
  }
}
