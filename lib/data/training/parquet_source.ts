// Parquet files as a source: read by row group, of which the last few stay in memory. A row group is what
// is cheap to read at once, so a loader that goes through `blocks` in turn decodes each once.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { EDIT_COLUMNS, inspectEdit, parseEdit } from "./edit.ts";
import type { Cell, Row } from "./parquet_messages.ts";
import { type ParquetFile, ParquetReader, readRange } from "./parquet_reader.ts";
import { type InspectedRecord, TASKS, type TrainingRecord } from "./record.ts";
import {
  baseName,
  checkIndex,
  emptySource,
  type RecordSource,
  type SourceOptions,
  splitOfName,
} from "./source.ts";
import { inspectT2i, parseT2i, T2I_COLUMNS } from "./t2i.ts";

const FORMATS = {
  t2i: { task: "t2i", columns: T2I_COLUMNS, parse: parseT2i, inspect: inspectT2i },
  edit: { task: "interleaved", columns: EDIT_COLUMNS, parse: parseEdit, inspect: inspectEdit },
} as const;

/** The formats that are stored in parquet. */
export type ParquetFormat = keyof typeof FORMATS;

/** Most bytes of decoded row groups that are kept; the last one always is. */
const CACHE_BYTES = 256 * 2 ** 20;

/** A row group with its place among all records. */
interface Group {
  file: ParquetFile;
  /** Its number in the file. */
  group: number;
  /** Its first row in the file. */
  row: number;
}

/**
 * The format that the columns of a file are of, or undefined.
 *
 * @throws {InputError} If it cannot be read
 */
export async function detectParquet(path: string): Promise<ParquetFormat | undefined> {
  const reader = new ParquetReader();
  try {
    const { columns } = await reader.open(path);
    const formats = Object.keys(FORMATS) as ParquetFormat[];
    return formats.find((f) => FORMATS[f].columns.needed.every((c) => columns.includes(c)));
  } finally {
    reader.close();
  }
}

/**
 * Opens parquet files.
 *
 * @param files in the order of their records
 * @throws {InputError} If one cannot be read, lacks a column, or there is no row
 */
export async function openParquet(
  path: string,
  format: ParquetFormat,
  files: readonly string[],
  options: SourceOptions & { deadlineMs?: number },
): Promise<RecordSource> {
  const { deadlineMs } = options;
  const reader = new ParquetReader(deadlineMs === undefined ? {} : { deadlineMs });
  try {
    const hash = createHash("sha256");
    const groups: Group[] = [];
    const blocks: number[] = [];
    let count = 0;
    for (const file of files) {
      const split = splitOfName(baseName(file));
      if (options.split !== undefined && split !== undefined && split !== options.split) continue;
      const opened = await reader.open(file);
      checkColumns(opened, format);
      hash.update(`${baseName(file)}\0${opened.sizeBytes}\0${await footerHash(opened)}\n`);
      let row = 0;
      for (const [group, rows] of opened.groupRows.entries()) {
        if (rows === 0) continue;
        groups.push({ file: opened, group, row });
        blocks.push(count);
        row += rows;
        count += rows;
      }
    }
    if (count === 0) {
      throw emptySource(path, "row", options, "Give a parquet file with rows");
    }
    const parts = { path, format, groups, blocks, count, fingerprint: hash.digest("hex") };
    return new ParquetSource(parts, reader, options);
  } catch (error) {
    reader.close();
    throw error;
  }
}

function checkColumns({ path, columns }: ParquetFile, format: ParquetFormat) {
  const { needed } = FORMATS[format].columns;
  const missing = needed.filter((column) => !columns.includes(column));
  if (missing.length === 0) return;
  throw new InputError(
    `Cannot read ${path} as ${format}: it has no column ${missing.join(", ")} ` +
      `(it has ${columns.join(", ")})`,
    { help: `The format ${format} has the columns ${needed.join(", ")}` },
  );
}

/** The footer knows where all data is and how large, so it tells files apart without reading them whole. */
async function footerHash({ path, sizeBytes }: ParquetFile): Promise<string> {
  const tail = new DataView(await readRange(path, sizeBytes - 8, sizeBytes));
  const start = sizeBytes - 8 - tail.getUint32(0, true);
  const footer = await readRange(path, start, sizeBytes);
  return createHash("sha256").update(new Uint8Array(footer)).digest("hex");
}

/** What is known of the files. */
interface Parts {
  path: string;
  format: ParquetFormat;
  groups: readonly Group[];
  blocks: readonly number[];
  count: number;
  fingerprint: string;
}

class ParquetSource implements RecordSource {
  readonly name: string;
  readonly path: string;
  readonly format: ParquetFormat;
  readonly count: number;
  readonly tasks: Uint8Array;
  readonly blocks: readonly number[];
  readonly fingerprint: string;
  readonly bad = { count: 0, listed: [] };
  readonly #groups: readonly Group[];
  readonly #reader: ParquetReader;
  /** Decoded row groups by number, the one used longest ago first. */
  readonly #cache = new Map<number, { rows: Promise<Row[]>; sizeBytes: number }>();

  constructor(parts: Parts, reader: ParquetReader, private readonly options: SourceOptions) {
    this.path = parts.path;
    this.name = options.name ?? baseName(parts.path);
    this.format = parts.format;
    this.count = parts.count;
    this.tasks = new Uint8Array(parts.count).fill(TASKS.indexOf(FORMATS[parts.format].task));
    this.blocks = parts.blocks;
    this.fingerprint = parts.fingerprint;
    this.#groups = parts.groups;
    this.#reader = reader;
  }

  where(index: number): string {
    checkIndex(index, this);
    const block = this.#blockOf(index);
    const { file, row } = this.#groups[block];
    return `${file.path} row ${row + index - this.blocks[block]}`;
  }

  async read(index: number, draws: Draws): Promise<TrainingRecord> {
    const { row, where, split } = await this.#row(index);
    const record = FORMATS[this.format].parse(row, where, draws);
    return split === undefined ? record : { ...record, split };
  }

  async inspect(index: number): Promise<InspectedRecord> {
    const { row, where, split } = await this.#row(index);
    const record = FORMATS[this.format].inspect(row, where);
    return split === undefined ? record : { ...record, split };
  }

  close() {
    this.#reader.close();
    this.#cache.clear();
  }

  async #row(index: number) {
    checkIndex(index, this);
    const block = this.#blockOf(index);
    const { file } = this.#groups[block];
    const at = index - this.blocks[block];
    const rows = await this.#rowsOf(block);
    return {
      row: rows[at],
      where: this.where(index),
      split: splitOfName(baseName(file.path)) ?? this.options.split,
    };
  }

  /** By bisection: a large data set has many row groups. */
  #blockOf(index: number): number {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.blocks[middle] <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #rowsOf(block: number): Promise<Row[]> {
    const known = this.#cache.get(block);
    if (known) {
      this.#cache.delete(block);
      this.#cache.set(block, known);
      return known.rows;
    }
    const { file, group } = this.#groups[block];
    const { needed, optional } = FORMATS[this.format].columns;
    const columns = [...needed, ...optional.filter((column) => file.columns.includes(column))];
    const entry = { rows: this.#reader.rows(file, group, columns), sizeBytes: 0 };
    this.#cache.set(block, entry);
    entry.rows.then(
      (rows) => {
        for (const row of rows) entry.sizeBytes += sizeOf(row);
        this.#shrink();
      },
      () => this.#cache.delete(block), // whoever asked hears of the error
    );
    return entry.rows;
  }

  #shrink() {
    let total = 0;
    for (const { sizeBytes } of this.#cache.values()) total += sizeBytes;
    for (const [block, { sizeBytes }] of this.#cache) {
      if (total <= CACHE_BYTES || this.#cache.size === 1) return;
      this.#cache.delete(block);
      total -= sizeBytes;
    }
  }
}

function sizeOf(cell: Cell): number {
  if (cell instanceof Uint8Array) return cell.length;
  if (typeof cell !== "object" || cell === null) return 8;
  return Object.values(cell).reduce<number>((sum, part) => sum + sizeOf(part), 16);
}
