// A result as a file: whole or not at all, and what the system says when it cannot be written.

import { fileReason } from "../data/jsonl.ts";
import { ResourceError } from "../errors.ts";
import { writeWhole } from "../write_whole.ts";

/**
 * Writes a file whose folder exists.
 *
 * @throws {ResourceError} If it cannot be written
 */
export async function writeResult(path: string, content: string | Uint8Array): Promise<void> {
  try {
    await writeWhole(path, content);
  } catch (cause) {
    throw new ResourceError(`Cannot write ${path}: ${fileReason(cause)}`, {
      cause,
      help: "give a file in a folder that exists and can be written",
    });
  }
}
