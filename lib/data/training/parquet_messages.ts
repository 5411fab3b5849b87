// What the parquet parser's worker and the thread that asks it say to each other.

/** A row group as its rows are numbered in the file. */
export interface ParquetShape {
  /** Names of the top-level columns. */
  columns: string[];
  /** Rows of each row group. */
  groupRows: number[];
}

/** A cell: bytes as they are stored (texts too), lists, structs, or what else parquet knows. */
export type Cell =
  | Uint8Array
  | Cell[]
  | { [field: string]: Cell }
  | number
  | bigint
  | boolean
  | null;

/** A row by column. */
export type Row = Record<string, Cell>;

/** A question to the worker, one at a time, or the answer to one of its own. `ask` numbers questions. */
export type ParquetRequest =
  | { kind: "shape"; ask: number; limitMs: number; sizeBytes: number }
  | {
    kind: "rows";
    ask: number;
    limitMs: number;
    sizeBytes: number;
    group: number;
    columns: string[];
  }
  | { kind: "bytes"; range: number; bytes: ArrayBuffer };

/** How a question ends. */
export type ParquetReply =
  | { kind: "shape"; shape: ParquetShape }
  | { kind: "rows"; rows: Row[] }
  | { kind: "failed"; message: string };

/** What the worker says: it is there, it needs bytes [start, end) of the file, or a question ended. */
export type ParquetMessage =
  | { kind: "ready" }
  | { kind: "need"; ask: number; range: number; start: number; end: number }
  | ParquetReply & { ask: number };

/** Limits, which the worker holds itself to and its owner checks where it can. */
export const PARQUET_LIMITS = {
  /** Most bytes of a file's footer. */
  footerBytes: 64 * 2 ** 20,
  /** Most rows of a row group. */
  groupRows: 1_000_000,
  /** Most bytes of the wanted columns of a row group, stored or unpacked. */
  groupBytes: 512 * 2 ** 20,
  /** Most values of a column in a row group. */
  values: 4_000_000,
};
