// The pages of a column as their headers describe them, checked before they are decoded: hyparquet takes
// missing and impossible numbers as they come.

import { parquetHeader } from "hyparquet/src/column.js";
import { PARQUET_LIMITS } from "./parquet_messages.ts";

/**
 * Walks the pages of a column chunk.
 *
 * @returns bytes they unpack to
 * @throws {RangeError} If a size or a number is missing, negative or beyond the chunk or PARQUET_LIMITS
 */
export function checkPages(chunk: ArrayBuffer): number {
  const reader = { view: new DataView(chunk), offset: 0 };
  let [values, unpacked] = [0, 0];
  // As hyparquet does: a single byte at the end is no page.
  while (reader.offset < chunk.byteLength - 1) {
    const header = parquetHeader(reader);
    const stored = within(header.compressed_page_size, chunk.byteLength - reader.offset, "a page");
    const whole = within(header.uncompressed_page_size, PARQUET_LIMITS.groupBytes, "a page");
    const { data_page_header: v1, data_page_header_v2: v2, dictionary_page_header: words } = header;
    const page = v1 ?? v2 ?? words;
    if (!page) throw new RangeError(`a page is of type ${header.type}`);
    const count = within(page.num_values, PARQUET_LIMITS.values, "values of a page");
    if (v2) {
      const levels = within(v2.definition_levels_byte_length, stored, "levels") +
        within(v2.repetition_levels_byte_length, stored, "levels");
      within(levels, Math.min(stored, whole), "levels");
      within(v2.num_nulls, count, "nulls");
      within(v2.num_rows, count, "rows of a page");
    }
    if (page !== words) values += count;
    within(values, PARQUET_LIMITS.values, "values of a column");
    unpacked += whole;
    reader.offset += stored;
  }
  return unpacked;
}

function within(value: number | undefined, most: number, what: string): number {
  if (!Number.isInteger(value) || value! < 0 || value! > most) {
    throw new RangeError(`${what} would be ${value}, beyond ${most}`);
  }
  return value!;
}
