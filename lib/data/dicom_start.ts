// Where the data set of a DICOM file begins and how it is written, for files that do not say so:
// without preamble, or without the meta header that names the transfer syntax.

/** The three plain ways to write a data set. */
export type PlainSyntax = "implicit LE" | "explicit LE" | "explicit BE";

/** The types of values (PS3.5, section 6.2). */
export const VALUE_TYPES: ReadonlySet<string> = new Set(
  ("AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN " +
    "UR US UT UV").split(" "),
);

/**
 * How the element at `at` is written, if one of the first groups of a data set (0002 or 0008)
 * can begin there.
 */
export function plainSyntaxAt(bytes: Uint8Array, at: number): PlainSyntax | undefined {
  if (at + 8 > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 8);
  const type = String.fromCharCode(bytes[at + 4], bytes[at + 5]);
  for (const little of [true, false]) {
    const [group, element] = [view.getUint16(0, little), view.getUint16(2, little)];
    if (group !== 2 && group !== 8 || element > 0x2000) continue;
    if (VALUE_TYPES.has(type)) return little ? "explicit LE" : "explicit BE";
    const length = view.getUint32(4, true);
    if (little && length % 2 === 0 && length <= Math.min(bytes.length - at - 8, 1024)) {
      return "implicit LE";
    }
  }
  return undefined;
}

/** How many bytes a data set without preamble may be off the start of its file. */
const MAX_STRAY = 4;

/**
 * The start of a data set in a file that has no preamble: 0, or a few bytes later where a file was
 * cut out of another one badly; later starts must name a value type, which no accident does.
 */
export function dataSetStart(bytes: Uint8Array): number | undefined {
  if (plainSyntaxAt(bytes, 0)) return 0;
  for (let at = 1; at <= MAX_STRAY; at++) {
    if (plainSyntaxAt(bytes, at)?.startsWith("explicit")) return at;
  }
  return undefined;
}

/** Whether bytes without the mark "DICM" begin like a DICOM data set. */
export function looksLikeDataSet(bytes: Uint8Array): boolean {
  return dataSetStart(bytes) !== undefined;
}
