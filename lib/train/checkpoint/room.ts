// Whether a run will be able to save at all, asked before its first step.

import { ResourceError } from "../../errors.ts";
import { DigestedFile } from "./digested_file.ts";
import { DISK, FileFault, type Files, tellingFiles } from "./files.ts";
import { checkpointsOf } from "./names.ts";

/**
 * Makes sure that checkpoints can be written: makes their folder, tries a file in it and looks for space.
 *
 * @param bytes of one checkpoint
 * @throws {ResourceError} If the folder cannot be written, or the disk has not the space for one
 */
export async function checkRoom(
  runDir: string,
  bytes: number,
  files: Files = DISK,
): Promise<void> {
  const [folder, disk] = [checkpointsOf(runDir), tellingFiles(files)];
  let free: number | undefined;
  try {
    await disk.makeFolder(folder);
    await DigestedFile.write(disk, folder, "trial.tmp", (file) => file.append(new Uint8Array(1)));
    await disk.remove(`${folder}/trial.tmp`);
    free = await disk.freeBytes(folder);
  } catch (cause) {
    if (!(cause instanceof FileFault)) throw cause;
    throw new ResourceError(
      `Cannot save checkpoints in ${folder}: cannot ${cause.action} ${cause.path}: ${cause.reason}`,
      { cause, help: "give a folder that may be written by --run" },
    );
  }
  if (free === undefined || free >= bytes) return;
  throw new ResourceError(
    `Cannot save checkpoints in ${folder}: one needs ${bytes} bytes, ${free} are free`,
    { help: "free space, or give a folder on another disk by --run" },
  );
}
