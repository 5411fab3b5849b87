// What the data set readers share: checked fields, paths that stay inside the folder, and counting
// of records that may be left out.

import { InputError } from "../errors.ts";
import type { DatasetRecord, ReadOptions } from "./dataset.ts";
import { fileReason } from "./jsonl.ts";

/** A JSON object as read, before its fields are checked. */
export type JsonObject = Record<string, unknown>;

/** `value` if it is an object. @throws {InputError} `Cannot read <where>: …` */
export function objectAt(value: unknown, where: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InputError(`Cannot read ${where}: expected an object`, {
      help: 'Write a JSON object there, {"field": value}',
    });
  }
  return value as JsonObject;
}

/** A field that must be a text with content. */
export function textField(object: JsonObject, field: string, where: string): string {
  const value = object[field];
  if (typeof value !== "string" || value.trim() === "") {
    throw new InputError(`Cannot read ${where}: "${field}" is ${show(value)}, expected a text`, {
      help: `Set "${field}" to a text in quotes that is not empty`,
    });
  }
  return value.trim();
}

/** A field that may be absent, null or empty. */
export function optionalTextField(
  object: JsonObject,
  field: string,
  where: string,
): string | undefined {
  const value = object[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") {
    throw new InputError(
      `Cannot read ${where}: "${field}" is ${show(value)}, expected a text or null`,
      { help: `Set "${field}" to a text in quotes, or leave it out` },
    );
  }
  return value.trim() || undefined;
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "missing").slice(0, 60);
}

/**
 * The real path of a file that a record names, which must lie under the data folder: a record is
 * written by a stranger, and must not make us read elsewhere.
 *
 * @param root real path of the data folder
 * @throws {InputError} If the name is absolute, a URL, has a backslash, NUL or `..`, leads out of
 * the folder by a symbolic link, or names no file
 */
export async function resolveInside(root: string, name: string, where: string): Promise<string> {
  const parts = name.split("/");
  const fail = (what: string, cause?: unknown) =>
    new InputError(`Cannot read ${where}: ${JSON.stringify(name)} ${what}`, {
      help: "Give the path of an image file, relative to the data folder",
      ...(cause === undefined ? {} : { cause }),
    });
  if (name.includes("\0") || name.includes("\\")) throw fail("has a NUL or a backslash");
  if (/^[a-zA-Z][a-zA-Z0-9+.-]*:/.test(name)) throw fail("is a URL or a drive");
  if (name.startsWith("/") || parts.includes("..")) throw fail("leads out of the data folder");
  let path: string;
  try {
    path = await Deno.realPath(`${root}/${name}`);
    if (!(await Deno.stat(path)).isFile) throw new Error("it is not a file");
  } catch (cause) {
    const missing = cause instanceof Deno.errors.NotFound;
    throw fail(missing ? "does not exist" : `cannot be read: ${fileReason(cause)}`, cause);
  }
  const inside = Deno.build.os === "windows" ? `${root}\\` : `${root}/`;
  if (!path.startsWith(inside)) throw fail("leads out of the data folder");
  return path;
}

/** Gathers records; bad ones count against `skipBad`. */
export class RecordList {
  readonly records: DatasetRecord[] = [];
  readonly skipped: string[] = [];
  readonly #ids = new Map<string, string>();
  readonly #skipBad: number;

  constructor({ skipBad = 0 }: ReadOptions) {
    this.#skipBad = skipBad;
  }

  /**
   * Runs `read`, which gives one record. @param where the record's place, for errors
   * @throws {InputError} What `read` threw, once more than `skipBad` records are bad
   */
  async add(where: string, read: () => Promise<DatasetRecord>): Promise<void> {
    try {
      const record = await read();
      const before = this.#ids.get(record.id);
      if (before !== undefined) {
        throw new InputError(
          `Cannot read ${where}: id ${JSON.stringify(record.id)} is used by ${before}`,
          { help: "Give every record an id of its own" },
        );
      }
      this.#ids.set(record.id, where);
      this.records.push(record);
    } catch (error) {
      this.skip(error);
    }
  }

  /** Counts a bad record. @throws The error, if it is one too many or no InputError */
  skip(error: unknown) {
    if (!(error instanceof InputError) || this.skipped.length >= this.#skipBad) throw error;
    this.skipped.push(error.message);
  }
}
