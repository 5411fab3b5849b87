// Transfer syntaxes of DICOM (PS3.6, table A-1): how a data set and its pixels are written, which
// of them are read here, and how to convert the others.

/** How pixels are stored. */
export type PixelCoding = "native" | "rle" | "jpeg";

/** A transfer syntax. */
export interface TransferSyntax {
  uid: string;
  /** Its name, without the word "Transfer Syntax". */
  words: string;
  /** How pixels are stored; undefined if they cannot be read here. */
  coding?: PixelCoding;
  implicit?: true;
  bigEndian?: true;
  deflated?: true;
}

const ROOT = "1.2.840.10008.1.2";

const KNOWN: readonly TransferSyntax[] = [
  { uid: ROOT, words: "Implicit VR Little Endian", coding: "native", implicit: true },
  { uid: `${ROOT}.1`, words: "Explicit VR Little Endian", coding: "native" },
  {
    uid: `${ROOT}.1.99`,
    words: "Deflated Explicit VR Little Endian",
    coding: "native",
    deflated: true,
  },
  { uid: `${ROOT}.2`, words: "Explicit VR Big Endian", coding: "native", bigEndian: true },
  { uid: `${ROOT}.5`, words: "RLE Lossless", coding: "rle" },
  { uid: `${ROOT}.4.50`, words: "JPEG Baseline (Process 1)", coding: "jpeg" },
  { uid: `${ROOT}.4.51`, words: "JPEG Extended (Process 2 and 4)", coding: "jpeg" },
  { uid: `${ROOT}.1.98`, words: "Encapsulated Uncompressed Explicit VR Little Endian" },
  { uid: `${ROOT}.4.57`, words: "JPEG Lossless, Non-Hierarchical (Process 14)" },
  { uid: `${ROOT}.4.70`, words: "JPEG Lossless, First-Order Prediction (Process 14, SV 1)" },
  { uid: `${ROOT}.4.80`, words: "JPEG-LS Lossless" },
  { uid: `${ROOT}.4.81`, words: "JPEG-LS Near-Lossless" },
  { uid: `${ROOT}.4.90`, words: "JPEG 2000 Lossless" },
  { uid: `${ROOT}.4.91`, words: "JPEG 2000" },
  { uid: `${ROOT}.4.92`, words: "JPEG 2000 Part 2 Multi-component, Lossless" },
  { uid: `${ROOT}.4.93`, words: "JPEG 2000 Part 2 Multi-component" },
  { uid: `${ROOT}.4.94`, words: "JPIP Referenced" },
  { uid: `${ROOT}.4.95`, words: "JPIP Referenced Deflate" },
  { uid: `${ROOT}.4.100`, words: "MPEG2 Main Profile, Main Level" },
  { uid: `${ROOT}.4.101`, words: "MPEG2 Main Profile, High Level" },
  { uid: `${ROOT}.4.102`, words: "MPEG-4 AVC/H.264 High Profile, Level 4.1" },
  { uid: `${ROOT}.4.103`, words: "MPEG-4 AVC/H.264 BD-compatible, Level 4.1" },
  { uid: `${ROOT}.4.104`, words: "MPEG-4 AVC/H.264 for 2D video, Level 4.2" },
  { uid: `${ROOT}.4.105`, words: "MPEG-4 AVC/H.264 for 3D video, Level 4.2" },
  { uid: `${ROOT}.4.106`, words: "MPEG-4 AVC/H.264 Stereo High Profile, Level 4.2" },
  { uid: `${ROOT}.4.107`, words: "HEVC/H.265 Main Profile, Level 5.1" },
  { uid: `${ROOT}.4.108`, words: "HEVC/H.265 Main 10 Profile, Level 5.1" },
  { uid: `${ROOT}.4.110`, words: "JPEG XL Lossless" },
  { uid: `${ROOT}.4.111`, words: "JPEG XL JPEG Recompression" },
  { uid: `${ROOT}.4.112`, words: "JPEG XL" },
  { uid: `${ROOT}.4.201`, words: "High-Throughput JPEG 2000 Lossless" },
  { uid: `${ROOT}.4.202`, words: "High-Throughput JPEG 2000 with RPCL, Lossless" },
  { uid: `${ROOT}.4.203`, words: "High-Throughput JPEG 2000" },
];

const BY_UID = new Map(KNOWN.map((syntax) => [syntax.uid, syntax]));

/**
 * A transfer syntax by its identifier. One that is not in the table cannot be read; what is no
 * identifier at all is not repeated, since anything could stand there.
 */
export function transferSyntax(uid: string): TransferSyntax {
  return BY_UID.get(uid) ??
    { uid: /^[\d.]{1,64}$/.test(uid) ? uid : "not an identifier", words: "unknown" };
}

/** How to make a file of a syntax readable: the tool of the DCMTK that knows it, or GDCM's. */
export function conversionHelp({ uid }: TransferSyntax): string {
  const tool = /\.4\.(5\d|70)$/.test(uid)
    ? "dcmdjpeg in.dcm out.dcm"
    : /\.4\.8[01]$/.test(uid)
    ? "dcmdjpls in.dcm out.dcm"
    : /\.4\.(9[45]|1\d\d)$/.test(uid)
    ? undefined
    : "gdcmconv --raw in.dcm out.dcm";
  if (tool === undefined) return "Export one frame as PNG from a DICOM viewer and give that file";
  const other = tool.startsWith("gdcm") ? "" : " (or: gdcmconv --raw in.dcm out.dcm)";
  return `Convert it to Explicit VR Little Endian with: ${tool}${other}`;
}
