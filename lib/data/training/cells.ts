// Cells of parquet rows as what they must be. Texts arrive as bytes, so that bad UTF-8 is an error that
// names its row.

import { InputError } from "../../errors.ts";
import type { Cell, Row } from "./parquet_messages.ts";
import type { RecordFacts } from "./record.ts";

/** Most bytes of one text. */
const MAX_TEXT_BYTES = 1_000_000;

function wrong(where: string, field: string, what: string, help: string, cause?: unknown) {
  return new InputError(`Cannot read ${where}: ${field} ${what}`, {
    help,
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * An encoded picture: bytes, or a struct with `bytes` as some data sets have it. A copy, so that whoever
 * gets it may hand its buffer to another thread.
 */
export function cellBytes(cell: Cell | undefined, field: string, where: string): Uint8Array {
  const isStruct = typeof cell === "object" && cell !== null && !Array.isArray(cell);
  const bytes = isStruct && !(cell instanceof Uint8Array) ? cell.bytes : cell;
  if (!(bytes instanceof Uint8Array) || bytes.length === 0) {
    const what = bytes instanceof Uint8Array ? "is empty" : "is no bytes";
    throw wrong(where, field, what, "Store the picture's file there, as a byte array");
  }
  return bytes.slice();
}

/** A text with content, trimmed. */
export function cellText(cell: Cell | undefined, field: string, where: string): string {
  if (!(cell instanceof Uint8Array)) {
    throw wrong(where, field, "is no text", "Store a text there");
  }
  if (cell.length > MAX_TEXT_BYTES) {
    throw wrong(where, field, `has more than ${MAX_TEXT_BYTES} bytes`, "Shorten the text");
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(cell);
  } catch (cause) {
    throw wrong(where, field, "is not UTF-8", "Store texts as UTF-8", cause);
  }
  if (text.trim() === "") throw wrong(where, field, "is empty", "Store a text there");
  return text.trim();
}

/** A list. */
export function cellList(cell: Cell | undefined, field: string, where: string): Cell[] {
  if (!Array.isArray(cell)) throw wrong(where, field, "is no list", "Store a list there");
  return cell;
}

/** What is known of a row besides its contents; empty columns are left out. */
export function factsOf(
  row: Row,
  where: string,
): Pick<RecordFacts, "modality" | "dataset" | "subTask"> {
  const facts: Pick<RecordFacts, "modality" | "dataset" | "subTask"> = {};
  const names = { modality: "modality", dataset: "dataset", sub_task_type: "subTask" } as const;
  for (const column of ["modality", "dataset", "sub_task_type"] as const) {
    const cell = row[column];
    if (cell === undefined || cell === null) continue;
    facts[names[column]] = cellText(cell, `"${column}"`, where);
  }
  return facts;
}
