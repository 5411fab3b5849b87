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
import {
  type Cell,
  PARQUET_LIMITS,
  type ParquetReply,
  type ParquetRequest,
  type ParquetShape,
  type Row,
} from "./parquet_messages.ts";

let answerBytes: ((bytes: ArrayBuffer) => void) | undefined;

/** Ranges are asked for one after another, though hyparquet asks for several at once. */
let lastRange: Promise<unknown> = Promise.resolve();

function say(reply: ParquetReply, transfer: ArrayBuffer[] = []) {
  self.postMessage(reply, transfer);
}

function fileOf(sizeBytes: number) {
  const slice = (start: number, end = sizeBytes): Promise<ArrayBuffer> => {
    if (!(Number.isSafeInteger(start) && start >= 0 && start <= end && end <= sizeBytes)) {
      throw new Error(`bytes ${start} to ${end} of ${sizeBytes} are asked for`);
    }
    const range = lastRange.then(() =>
      new Promise<ArrayBuffer>((resolve) => {
        answerBytes = resolve;
        say({ kind: "need", start, end });
      })
    );
    lastRange = range;
    return range;
  };
  return { byteLength: sizeBytes, slice };
}

async function metadataOf(sizeBytes: number): Promise<FileMetaData> {
  if (sizeBytes < 12) throw new Error("it is too short");
  const file = fileOf(sizeBytes);
  const tail = new DataView(await file.slice(sizeBytes - 8));
  if (tail.getUint32(4, true) !== 0x31524150) throw new Error('it does not end in "PAR1"');
  const footerBytes = tail.getUint32(0, true);
  if (footerBytes > Math.min(sizeBytes - 12, PARQUET_LIMITS.footerBytes)) {
    throw new Error(`its footer would have ${footerBytes} bytes`);
  }
  return await parquetMetadataAsync(file, { initialFetchSize: footerBytes + 8, geoparquet: false });
}

function shapeOf(metadata: FileMetaData): ParquetShape {
  const groupRows = metadata.row_groups.map(({ num_rows }, i) => {
    const rows = Number(num_rows);
    if (!(rows >= 0 && rows <= PARQUET_LIMITS.groupRows)) {
      throw new Error(
        `row group ${i} would have ${rows} rows; at most ${PARQUET_LIMITS.groupRows} are read`,
      );
    }
    return rows;
  });
  const sum = groupRows.reduce((a, b) => a + b, 0);
  if (sum !== Number(metadata.num_rows)) {
    throw new Error(`its row groups have ${sum} rows, its footer says ${metadata.num_rows}`);
  }
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  return { columns, groupRows };
}

async function rowsOf(
  { sizeBytes, group, columns }: Extract<ParquetRequest, { kind: "rows" }>,
): Promise<{ rows: Row[]; transfer: ArrayBuffer[] }> {
  const metadata = await metadataOf(sizeBytes);
  const { groupRows } = shapeOf(metadata);
  checkColumns(metadata, group, columns);
  const rowStart = groupRows.slice(0, group).reduce((a, b) => a + b, 0);
  let bytesLeft = PARQUET_LIMITS.groupBytes;
  const spend = (bytes: number) => {
    if (!(bytes >= 0 && (bytesLeft -= bytes) >= 0)) {
      throw new Error(`it unpacks to more than ${PARQUET_LIMITS.groupBytes} bytes`);
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
    file: fileOf(sizeBytes),
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
    throw new Error(
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
    if (!meta_data) throw new Error("a column has no description");
    if (!columns.includes(meta_data.path_in_schema[0])) continue;
    if (Number(meta_data.num_values) > PARQUET_LIMITS.values) {
      throw new Error(
        `column ${meta_data.path_in_schema[0]} would have ${meta_data.num_values} values in row ` +
          `group ${group}; at most ${PARQUET_LIMITS.values} are read`,
      );
    }
    stored += Number(meta_data.total_compressed_size);
    unpacked += Number(meta_data.total_uncompressed_size);
  }
  const bytes = Math.max(stored, unpacked);
  if (!(bytes <= PARQUET_LIMITS.groupBytes)) {
    throw new Error(
      `row group ${group} has ${bytes} bytes; at most ${PARQUET_LIMITS.groupBytes} are read: ` +
        `write smaller row groups`,
    );
  }
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
    answerBytes?.(data.bytes);
    return;
  }
  try {
    if (data.kind === "shape") {
      say({ kind: "shape", shape: shapeOf(await metadataOf(data.sizeBytes)) });
    } else {
      const { rows, transfer } = await rowsOf(data);
      say({ kind: "rows", rows }, transfer);
    }
  } catch (error) {
    say({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};
say({ kind: "ready" });
