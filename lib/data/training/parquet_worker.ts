// Parses parquet, in a worker that may touch nothing: bytes come from its owner, who also ends it when a
// damaged file keeps it busy. hyparquet trusts lengths in a file, so those are checked here first.

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
import {
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { allowTime, installGuards, Stopped } from "./parquet_guards.ts";
import {
  type Cell,
  PARQUET_LIMITS,
  type ParquetMessage,
  type ParquetRequest,
  type ParquetShape,
  type Row,
} from "./parquet_messages.ts";
import { checkPages } from "./parquet_pages.ts";

/** A file that is refused for a reason of ours; other errors are those of a parser that stumbled. */
class Refused extends Error {}

/** Bytes of the file from `start` on. */
interface Held {
  start: number;
  bytes: ArrayBuffer;
}

/** Who waits for which range of bytes. */
const waiting = new Map<number, (bytes: ArrayBuffer) => void>();
let ranges = 0;

function say(message: ParquetMessage, transfer: ArrayBuffer[] = []) {
  self.postMessage(message, transfer);
}

/**
 * The file of one question. Ranges are asked for one after another, though hyparquet wants several at
 * once; what is in `held` is not asked for again.
 */
function fileOf(ask: number, sizeBytes: number, held: readonly Held[] = []) {
  let last: Promise<unknown> = Promise.resolve();
  const slice = (start: number, end = sizeBytes): Promise<ArrayBuffer> => {
    const has = held.find((h) => h.start <= start && end <= h.start + h.bytes.byteLength);
    if (has) return Promise.resolve(has.bytes.slice(start - has.start, end - has.start));
    if (!(Number.isSafeInteger(start) && start >= 0 && start <= end && end <= sizeBytes)) {
      throw new Refused(`it would go on at bytes ${start} to ${end} of ${sizeBytes}`);
    }
    const bytes = last.then(() =>
      new Promise<ArrayBuffer>((resolve) => {
        waiting.set(++ranges, resolve);
        say({ kind: "need", ask, range: ranges, start, end });
      })
    );
    last = bytes;
    return bytes;
  };
  return { byteLength: sizeBytes, slice };
}

async function metadataOf(ask: number, sizeBytes: number): Promise<FileMetaData> {
  if (sizeBytes < 12) throw new Refused("it is too short");
  const file = fileOf(ask, sizeBytes);
  const tail = new DataView(await file.slice(sizeBytes - 8));
  if (tail.getUint32(4, true) !== 0x31524150) throw new Refused('it does not end in "PAR1"');
  const footerBytes = tail.getUint32(0, true);
  if (footerBytes > Math.min(sizeBytes - 12, PARQUET_LIMITS.footerBytes)) {
    throw new Refused(`its footer would have ${footerBytes} bytes`);
  }
  return await parquetMetadataAsync(file, { initialFetchSize: footerBytes + 8, geoparquet: false });
}

function shapeOf(metadata: FileMetaData): ParquetShape {
  const groupRows = metadata.row_groups.map(({ num_rows }, i) => {
    const rows = Number(num_rows);
    if (!(rows >= 0 && rows <= PARQUET_LIMITS.groupRows)) {
      throw new Refused(
        `row group ${i} would have ${rows} rows; at most ${PARQUET_LIMITS.groupRows} are read`,
      );
    }
    return rows;
  });
  const sum = groupRows.reduce((a, b) => a + b, 0);
  if (sum !== Number(metadata.num_rows)) {
    throw new Refused(`its row groups have ${sum} rows, its footer says ${metadata.num_rows}`);
  }
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  return { columns, groupRows };
}

async function rowsOf(
  { ask, sizeBytes, group, columns }: Extract<ParquetRequest, { kind: "rows" }>,
): Promise<{ rows: Row[]; transfer: ArrayBuffer[] }> {
  const metadata = await metadataOf(ask, sizeBytes);
  const { groupRows } = shapeOf(metadata);
  checkColumns(metadata, group, columns);
  const held = await readChunks(fileOf(ask, sizeBytes), metadata, group, columns);
  const rowStart = groupRows.slice(0, group).reduce((a, b) => a + b, 0);
  let bytesLeft = PARQUET_LIMITS.groupBytes;
  const spend = (bytes: number) => {
    if (!(bytes >= 0 && (bytesLeft -= bytes) >= 0)) {
      throw new Refused(`it unpacks to more than ${PARQUET_LIMITS.groupBytes} bytes`);
    }
  };
  const guarded = Object.entries(compressors).map(([codec, unpack]) => [
    codec,
    (input: Uint8Array, outputLength: number) => {
      spend(outputLength);
      return unpack!(input, outputLength);
    },
  ]);
  const rows = await parquetReadObjects({
    file: fileOf(ask, sizeBytes, held),
    metadata,
    columns,
    rowStart,
    rowEnd: rowStart + groupRows[group],
    compressors: Object.fromEntries(guarded),
    utf8: false,
    geoparquet: false,
    // Texts stay bytes: whether they are UTF-8 is decided where there is a row to name.
    parsers: { stringFromBytes: (bytes) => bytes, jsonFromBytes: (bytes) => bytes },
  });
  if (rows.length !== groupRows[group]) {
    throw new Refused(
      `row group ${group} has ${rows.length} rows, its footer says ${groupRows[group]}`,
    );
  }
  bytesLeft = PARQUET_LIMITS.groupBytes;
  const transfer: ArrayBuffer[] = [];
  return { rows: rows.map((row) => own(row, transfer, spend) as Row), transfer };
}

function checkColumns(metadata: FileMetaData, group: number, columns: string[]) {
  let [stored, unpacked] = [0, 0];
  for (const { meta_data } of metadata.row_groups[group].columns) {
    if (!meta_data) throw new Refused("a column has no description");
    if (!columns.includes(meta_data.path_in_schema[0])) continue;
    if (Number(meta_data.num_values) > PARQUET_LIMITS.values) {
      throw new Refused(
        `column ${meta_data.path_in_schema[0]} would have ${meta_data.num_values} values in row ` +
          `group ${group}; at most ${PARQUET_LIMITS.values} are read`,
      );
    }
    stored += Number(meta_data.total_compressed_size);
    unpacked += Number(meta_data.total_uncompressed_size);
  }
  const bytes = Math.max(stored, unpacked);
  if (!(bytes <= PARQUET_LIMITS.groupBytes)) {
    throw new Refused(
      `row group ${group} has ${bytes} bytes; at most ${PARQUET_LIMITS.groupBytes} are read: ` +
        `write smaller row groups`,
    );
  }
}

/** The wanted columns as they are stored, their pages checked. */
async function readChunks(
  file: ReturnType<typeof fileOf>,
  metadata: FileMetaData,
  group: number,
  columns: string[],
): Promise<Held[]> {
  const held: Held[] = [];
  let unpacked = 0;
  for (const { meta_data, file_path } of metadata.row_groups[group].columns) {
    if (!meta_data || !columns.includes(meta_data.path_in_schema[0])) continue;
    if (file_path) throw new Refused("a column is in another file");
    const start = Number(meta_data.dictionary_page_offset || meta_data.data_page_offset);
    const bytes = await file.slice(start, start + Number(meta_data.total_compressed_size));
    unpacked += checkPages(bytes);
    held.push({ start, bytes });
  }
  if (unpacked > PARQUET_LIMITS.groupBytes) {
    throw new Refused(`row group ${group} unpacks to ${unpacked} bytes`);
  }
  return held;
}

/** A value whose bytes lie in buffers of their own, so that none is sent with its whole page. */
function own(value: unknown, transfer: ArrayBuffer[], spend: (bytes: number) => void): Cell {
  if (value instanceof Uint8Array) {
    spend(value.length);
    const copy = value.slice();
    transfer.push(copy.buffer);
    return copy;
  }
  if (Array.isArray(value)) return value.map((v) => own(v, transfer, spend));
  if (value instanceof Date || value === undefined) return null;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(([k, v]) => [k, own(v, transfer, spend)]);
    return Object.fromEntries(entries);
  }
  return value as Cell;
}

self.onmessage = async ({ data }: MessageEvent<ParquetRequest>) => {
  if (data.kind === "bytes") {
    const resolve = waiting.get(data.range);
    waiting.delete(data.range);
    resolve?.(data.bytes);
    return;
  }
  const { ask } = data;
  waiting.clear(); // a question that failed may have left some
  allowTime(data.limitMs);
  try {
    if (data.kind === "shape") {
      const shape = shapeOf(await metadataOf(ask, data.sizeBytes));
      say({ kind: "shape", ask, shape });
    } else {
      const { rows, transfer } = await rowsOf(data);
      say({ kind: "rows", ask, rows }, transfer);
    }
  } catch (error) {
    const { message } = error as Error;
    say({
      kind: "failed",
      ask,
      message: error instanceof Refused || error instanceof Stopped
        ? message
        : `it is damaged: ${message}`,
    });
  }
};
installGuards();
say({ kind: "ready" });
