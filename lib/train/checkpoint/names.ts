// Names in the `checkpoints` folder of a run: one folder per saved step, and small text files that name one of them
// (`latest`, `best`, or whatever a user pins).

import { InputError, UsageError } from "../../errors.ts";
import { writeWholeText } from "./digested_file.ts";
import { DISK, type Files, tellingFiles, told } from "./files.ts";

/** The name that moves with every save. It protects nothing: all others do. */
export const LATEST = "latest";

/** Where a run keeps its checkpoints. */
export function checkpointsOf(runDir: string): string {
  return `${runDir}/checkpoints`;
}

/** The folder of a step: `step-0001200`. @throws {RangeError} If the step is no integer ≥ 0 */
export function stepFolder(step: number): string {
  if (Number.isSafeInteger(step) && step >= 0) return `step-${String(step).padStart(7, "0")}`;
  throw new RangeError(`Cannot name a checkpoint of step ${step}: not an integer ≥ 0`);
}

/** The step of a folder's name, or undefined if it is no step's. */
export function stepOf(name: string): number | undefined {
  const step = Number(/^step-(\d{7,})$/.exec(name)?.[1]);
  return Number.isSafeInteger(step) && stepFolder(step) === name ? step : undefined;
}

/** A folder being filled or removed: worth nothing once its session is dead. */
export function temporaryName(step: number, session: number): string {
  return `${stepFolder(step)}.tmp-${session}`;
}

/** A whole folder that makes way for another one of the same step. */
export function replacedName(step: number, session: number): string {
  return `${stepFolder(step)}.old-${session}`;
}

/** What a name means that is neither a step's nor a text file's: undefined if it is not one of ours. */
export function leftover(name: string): { kind: "tmp" | "old"; step: string } | undefined {
  const match = /^(step-\d{7,})\.(tmp|old)-\d+$/.exec(name);
  if (match) return { kind: match[2] as "tmp" | "old", step: match[1] };
  return /^[a-z0-9-]+\.tmp$/.test(name) ? { kind: "tmp", step: "" } : undefined;
}

/** Names given to checkpoints, `latest` among them, and the folders they stand for. */
export async function givenNames(runDir: string): Promise<Map<string, string>> {
  const given = new Map<string, string>();
  const folder = checkpointsOf(runDir);
  for (const name of await tellingFiles(DISK).list(folder) ?? []) {
    const path = `${folder}/${name}`;
    if (stepOf(name) !== undefined || !isName(name)) continue;
    if (!(await told("look at", path, () => Deno.lstat(path))).isFile) continue;
    given.set(name, (await told("read", path, () => Deno.readTextFile(path))).trim());
  }
  return given;
}

/**
 * Gives a checkpoint a name, such as `best`; the name moves if another one has it. A named checkpoint is kept until the
 * name goes.
 *
 * @param name of a-z, 0-9 and inner hyphens; not `latest`
 * @throws {UsageError} If the name cannot be used
 * @throws {InputError} If the step has no checkpoint
 * @throws {ResourceError} If it cannot be written
 */
export async function nameCheckpoint(
  runDir: string,
  name: string,
  step: number,
  files: Files = DISK,
): Promise<void> {
  checkFree(name);
  const folder = checkpointsOf(runDir);
  const names = await tellingFiles(DISK).list(folder) ?? [];
  if (!names.includes(stepFolder(step))) {
    throw new InputError(`Cannot name step ${step} ${name}: ${folder} has no ${stepFolder(step)}`);
  }
  await writeWholeText(tellingFiles(files), folder, name, `${stepFolder(step)}\n`);
}

/** Takes a name away; its checkpoint is kept no longer than others. */
export async function forgetName(
  runDir: string,
  name: string,
  files: Files = DISK,
): Promise<void> {
  checkFree(name);
  const [folder, disk] = [checkpointsOf(runDir), tellingFiles(files)];
  await disk.remove(`${folder}/${name}`);
  await disk.syncFolder(folder);
}

const isName = (name: string) => /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name);

function checkFree(name: string): void {
  if (isName(name) && name !== LATEST && !name.startsWith("step-")) return;
  throw new UsageError(`Cannot name a checkpoint ${JSON.stringify(name)}`, {
    help: `use a-z, 0-9 and inner hyphens; ${LATEST} and step-… are taken`,
  });
}
