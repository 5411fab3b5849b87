// What the checks by test vectors share: a JSON file with a list of cases, and the verdict on each.

import { fileReason, jsonReason } from "../data/jsonl.ts";
import { InputError } from "../errors.ts";

/** The verdict on one case of a file. */
export interface CheckedCase {
  name: string;
  /** Totals are counted by this: `plain`, `special`, `accept`, `reject`. */
  kind: string;
  /** What is wrong, one line each; empty when all is as expected. */
  misses: string[];
}

/** How one file format is named in errors. */
export interface ListFormat {
  /** A case in short: `{text, ids, mode, source}`. */
  shape: string;
  help: string;
}

/**
 * The cases of a JSON file, one object each.
 *
 * @throws {InputError} If the file cannot be read, is not JSON, or is not a list of at least one object
 */
export async function readVectorList(
  path: string,
  { shape, help }: ListFormat,
): Promise<Record<string, unknown>[]> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    const reason = cause instanceof SyntaxError
      ? `it is not JSON: ${jsonReason(cause)}`
      : fileReason(cause);
    throw new InputError(`Cannot read ${path}: ${reason}`, { cause, help });
  }
  if (!Array.isArray(value) || value.length === 0) {
    throw new InputError(`Cannot read ${path}: expected a list of ${shape}`, { help });
  }
  value.forEach((entry, i) => {
    if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
      throw new InputError(`Cannot read ${path}: case ${i} is no object, expected ${shape}`, {
        help,
      });
    }
  });
  return value;
}
