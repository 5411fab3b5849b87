// The folder of a run: its name, its lock, and run.json, which says what the run is.

import { EXIT, InputError, LabError, ResourceError, UsageError } from "../errors.ts";
import type { Json } from "./config.ts";

/** Another process is writing this run (exit 6). */
export class BusyError extends LabError {
  override readonly exitCode = EXIT.busy;
}

/** Settings that a resumed run may change: they do not alter what a step computes. */
const FREE = ["steps", "saveEvery", "keep", "logEvery"];

/** What run.json holds. */
export interface RunHeader {
  format: 1;
  study: string;
  arm: string;
  seed: number;
  config: Json;
  /** Dotted path of each setting → where its value came from. */
  origins: Record<string, string>;
  configSha256: string;
  sourcesSha256: string;
  commit: string | null;
  dataSha256: string | null;
}

/**
 * The folder of a run, `<root>/<study>/<arm>/seed-<seed>`.
 *
 * @throws {UsageError} If a name has other characters than `[a-z0-9-]`, or the seed is no integer ≥ 0
 */
export function runFolder(root: string, study: string, arm: string, seed: number): string {
  checkName("study", study);
  checkName("arm", arm);
  if (!(Number.isSafeInteger(seed) && seed >= 0)) {
    throw new UsageError(`Cannot name a run: seed ${seed} is not an integer ≥ 0`);
  }
  return `${root}/${study}/${arm}/seed-${seed}`;
}

/** run.json of a folder, or null if there is none. */
export function readHeader(dir: string): RunHeader | null {
  let text: string;
  try {
    text = Deno.readTextFileSync(`${dir}/run.json`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  let header: RunHeader;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw new InputError(`Cannot read ${dir}/run.json: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (header?.format !== 1 || typeof header.configSha256 !== "string") {
    throw new InputError(`Cannot read ${dir}/run.json: its format is ${header?.format}, not 1`);
  }
  return header;
}

/** Makes the folder and locks it; the lock file names its holder. */
export function takeLock(dir: string, now: () => Date): Deno.FsFile {
  let file: Deno.FsFile;
  try {
    Deno.mkdirSync(dir, { recursive: true });
    file = Deno.openSync(`${dir}/lock`, { read: true, write: true, create: true });
  } catch (error) {
    // Folders of the system (/proc, /dev) ask for all permissions: they are no place for a run.
    if (error instanceof Deno.errors.NotCapable && !/all access/.test(error.message)) throw error;
    throw new ResourceError(`Cannot write to ${dir}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!file.tryLockSync(true)) {
    file.close();
    const holder = Deno.readTextFileSync(`${dir}/lock`).trim() || "another process";
    throw new BusyError(`Cannot open ${dir}: ${holder} is writing it`, {
      help: "Wait until it ends, or use another folder",
    });
  }
  file.truncateSync(0);
  file.writeSync(new TextEncoder().encode(`process ${Deno.pid} since ${now().toISOString()}\n`));
  return file;
}

/**
 * What a resume would change, one line each, such as `optimizer.lr 0.001 → 0.01`; lists are compared item by item, data
 * by the starts of its hashes.
 *
 * @param free settings that may differ: whole dotted paths or their ends, as in `save.every`; none within a list,
 *   where they decide when something else begins
 */
export function headerChanges(
  old: RunHeader,
  header: RunHeader,
  free: readonly string[] = FREE,
): string[] {
  const [before, after] = [leaves(old.config), leaves(header.config)];
  const show = (value: Json | undefined) => value === undefined ? "absent" : JSON.stringify(value);
  const changes = [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => !isFree(path, free))
    .filter((path) => show(before.get(path)) !== show(after.get(path)))
    .map((path) => `${path} ${show(before.get(path))} → ${show(after.get(path))}`);
  const short = (sha256: string | null) => sha256?.slice(0, 12) ?? "none";
  if (old.dataSha256 !== header.dataSha256) {
    changes.push(`the data ${short(old.dataSha256)} → ${short(header.dataSha256)}`);
  }
  return changes;
}

function isFree(path: string, free: readonly string[]): boolean {
  const inList = path.split(".").some((key) => /^\d+$/.test(key));
  return !inList && free.some((end) => path === end || path.endsWith(`.${end}`));
}

/** Dotted path → value of everything that has no fields or items. */
function leaves(value: Json, at = ""): Map<string, Json> {
  const inner = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (inner.length === 0) return new Map([[at, value]]);
  return new Map(
    inner.flatMap(([key, item]) => [...leaves(item, at === "" ? key : `${at}.${key}`)]),
  );
}

/** Refuses a resume under other settings. @throws {UsageError} Listing the changes, if there are any */
export function checkNoChanges(dir: string, changes: readonly string[], help: string): void {
  if (changes.length === 0) return;
  throw new UsageError(`Cannot resume ${dir}: settings differ: ${changes.join(", ")}`, { help });
}

/** Study, arm and seed of a path `…/STUDY/ARM/seed-N`. @throws {UsageError} If it is none */
export function parseFolder(dir: string): { study: string; arm: string; seed: number } {
  const match = /(?:^|\/)([^/]+)\/([^/]+)\/seed-(0|[1-9]\d*)$/.exec(dir);
  if (match === null) {
    throw new UsageError(`Cannot open run ${dir}: its path does not end in study/arm/seed-0`);
  }
  const [, study, arm, seed] = match;
  runFolder("", study, arm, Number(seed)); // checks the names
  return { study, arm, seed: Number(seed) };
}

/** @throws {UsageError} If the name is not made of a-z, 0-9 and inner hyphens */
export function checkName(what: string, name: string): void {
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name)) {
    throw new UsageError(
      `Cannot name a ${what} ${JSON.stringify(name)}: only a-z, 0-9 and inner hyphens`,
    );
  }
}

/** Writes a file under another name, syncs it and renames: under `path` there is never half of it. */
export function writeWhole(path: string, text: string): void {
  const file = Deno.openSync(`${path}.tmp`, { write: true, create: true, truncate: true });
  try {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    file.syncSync();
  } finally {
    file.close();
  }
  Deno.renameSync(`${path}.tmp`, path);
}
