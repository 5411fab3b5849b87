// Whether a run holds anything, or may be begun again as if it were new.

import { readHeader } from "./run_folder.ts";
import { readRunDatabase } from "./run_schema.ts";

/** Tables whose rows another beginning would lose. */
const KEPT = ["metric", "evaluation", "probe", "artifact", "checkpoint"];

/**
 * Whether a run ended well, or holds numbers or checkpoints; only reads.
 *
 * @throws {InputError} If the folder's record is damaged or of a newer format
 */
export function hasBegun(dir: string): boolean {
  return readHeader(dir) !== null && (holdsFiles(`${dir}/checkpoints`) || holdsRows(dir));
}

function holdsRows(dir: string): boolean {
  const path = `${dir}/run.sqlite`;
  if (!exists(path)) return false;
  const db = readRunDatabase(path);
  try {
    const any = (rows: string) => db.prepare(`SELECT 1 FROM ${rows} LIMIT 1`).get() !== undefined;
    return any("session WHERE exit_code = 0") || KEPT.some(any);
  } finally {
    db.close();
  }
}

function holdsFiles(folder: string): boolean {
  return exists(folder) && Deno.readDirSync(folder).next().done === false;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
