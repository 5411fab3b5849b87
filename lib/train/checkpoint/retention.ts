// Which checkpoints stay: the newest few and all that have a name. A folder leaves under a temporary name, so that
// nothing half removed ever stands under a final one.

import { InputError } from "../../errors.ts";
import { DISK, type Files, tellingFiles } from "./files.ts";
import { candidates } from "./find.ts";
import { verifyFolder } from "./manifest.ts";
import { checkpointsOf, givenNames, LATEST, leftover, temporaryName } from "./names.ts";

/**
 * Removes checkpoints after a save.
 *
 * @param saved the step just saved: never removed
 * @param keep how many of the newest stay, that one included; those with a name stay besides
 * @returns the removed folders, relative to the run
 * @throws {FileFault} If one cannot be removed; it may be left under its temporary name
 */
export async function retire(
  runDir: string,
  saved: number,
  { keep, session, files = DISK }: { keep: number; session: number; files?: Files },
): Promise<string[]> {
  const kept = await namedFolders(runDir);
  const free = (await candidates(runDir)).filter(({ name, step }) =>
    step !== saved && !kept.has(name)
  );
  return await removeSteps(runDir, free.slice(keep - 1), session, files);
}

/**
 * Removes all checkpoints older than the newest one that is whole, but for those with a name: room for one that does
 * not fit. Nothing is removed where none is whole.
 *
 * @returns the removed folders, relative to the run
 */
export async function makeRoom(
  runDir: string,
  { session, files = DISK }: { session: number; files?: Files },
): Promise<string[]> {
  const all = await candidates(runDir);
  let whole = 0;
  while (whole < all.length && !await isWhole(all[whole].path)) whole++;
  const kept = await namedFolders(runDir);
  const free = all.slice(whole + 1).filter(({ name }) => !kept.has(name));
  return await removeSteps(runDir, free, session, files);
}

/**
 * Clears away what dead sessions left: folders half written or half removed go; one that had made way for another that
 * never came is put back. The caller holds the run's lock, so whoever made them is dead.
 *
 * @returns names of what was removed or put back
 * @throws {FileFault} If the system refuses
 */
export async function cleanUp(runDir: string, files: Files = DISK): Promise<string[]> {
  const [folder, disk] = [checkpointsOf(runDir), tellingFiles(files)];
  const names = await disk.list(folder) ?? [];
  const done: string[] = [];
  for (const name of names) {
    const left = leftover(name);
    if (!left) continue;
    if (left.kind === "old" && !names.includes(left.step)) {
      await disk.rename(`${folder}/${name}`, `${folder}/${left.step}`);
    } else await disk.remove(`${folder}/${name}`);
    done.push(name);
  }
  if (done.length > 0) await disk.syncFolder(folder);
  return done;
}

/** Removes one folder in two moves: out of the way, then away. */
export async function removeFolder(
  folder: string,
  name: string,
  temporary: string,
  files: Files,
): Promise<void> {
  await files.remove(`${folder}/${temporary}`);
  await files.rename(`${folder}/${name}`, `${folder}/${temporary}`);
  await files.remove(`${folder}/${temporary}`);
}

/** Removes folders, given newest first, from the oldest on: whenever it ends, the newer ones are there. */
async function removeSteps(
  runDir: string,
  steps: readonly { name: string; step: number }[],
  session: number,
  files: Files,
): Promise<string[]> {
  const [folder, disk] = [checkpointsOf(runDir), tellingFiles(files)];
  const removed: string[] = [];
  for (const { name, step } of steps.toReversed()) {
    await removeFolder(folder, name, temporaryName(step, session), disk);
    removed.push(`checkpoints/${name}`);
  }
  if (removed.length > 0) await disk.syncFolder(folder);
  return removed;
}

/** Folders that a name other than `latest` protects. */
async function namedFolders(runDir: string): Promise<Set<string>> {
  const given = await givenNames(runDir);
  given.delete(LATEST);
  return new Set(given.values());
}

async function isWhole(path: string): Promise<boolean> {
  try {
    await verifyFolder(path);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}
