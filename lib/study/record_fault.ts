// What the disk says against a run record: an error of the disk (exit 4) that names the run, not one of ours.

import { fileReason } from "../data/jsonl.ts";
import { ResourceError } from "../errors.ts";

/** SQLite's words for a disk that refuses; what `exec` throws in Deno has no code. */
const SQLITE = /disk is full|disk I\/O error|readonly database/;
const SYSTEM = ["ENOSPC", "EDQUOT", "EIO", "EROFS"];

/** Whether an error says that the disk refused to write. */
export function isRefusal(error: unknown): error is Error {
  if (!(error instanceof Error) || error instanceof ResourceError) return false;
  return SQLITE.test(error.message) || SYSTEM.includes((error as { code?: string }).code ?? "");
}

/** A disk's refusal to write to a run, as a {@link ResourceError}; other errors as they are. */
export function recordFault(dir: string, error: unknown): unknown {
  if (!isRefusal(error)) return error;
  const reason = SQLITE.test(error.message) ? error.message : fileReason(error);
  return new ResourceError(`Cannot write the record of ${dir}: ${reason}`, {
    cause: error,
    help: "free space on the disk, then go on by --resume; the last checkpoint stands",
  });
}

/**
 * Runs what writes to a run's folder.
 *
 * @throws {ResourceError} If the disk refuses; other errors come as they are
 */
export function writingRecord<T>(dir: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw recordFault(dir, cause);
  }
}
