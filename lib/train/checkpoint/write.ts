// Saves a checkpoint so that a crash at any moment leaves either the old state or the new one: everything is written
// and synced under a temporary name, renamed, and only then pointed to; old ones go last.

import { LabError, ResourceError } from "../../errors.ts";
import { DigestedFile, writeWholeText } from "./digested_file.ts";
import { DISK, FileFault, type Files, tellingFiles } from "./files.ts";
import {
  type FileEntry,
  FORMAT,
  MANIFEST,
  type Manifest,
  manifestBytes,
  manifestDigest,
  manifestText,
} from "./manifest.ts";
import { checkpointsOf, LATEST, replacedName, stepFolder, temporaryName } from "./names.ts";
import { makeRoom, retire } from "./retention.ts";
import {
  type PlannedSnapshot,
  type PlannedTensors,
  planSnapshot,
  type Snapshot,
  STATE,
} from "./snapshot.ts";

/** How a checkpoint is saved. */
export interface SaveOptions {
  /** How many of the newest stay, this one included, at least 1. */
  keep: number;
  /** Number of the session that saves. */
  session: number;
  /** The disk, or what a test puts in its place. */
  files?: Files;
  /** Aborting stops before the next tensor and leaves no trace. */
  signal?: AbortSignal;
}

/** What was saved and what was removed for it. */
export interface Saved {
  /** For the run's record. */
  row: { step: number; path: string; bytes: number; sha256: string };
  /** Folders of older checkpoints that are gone, relative to the run. */
  removed: string[];
}

/**
 * Saves a checkpoint as `checkpoints/step-0001200` and moves `latest` to it. If the disk is full, older checkpoints but
 * the newest whole one are removed and it is tried once more. Host memory: one tensor. The snapshot is only read: after
 * an error training can go on, and the same call may be made again.
 *
 * @param runDir folder of a run that this process has locked
 * @throws {ResourceError} If the disk is full or refuses; the newest older checkpoint is as it was
 * @throws {TypeError} If the snapshot cannot be written as it is
 */
export async function writeCheckpoint(
  runDir: string,
  snapshot: Snapshot,
  options: SaveOptions,
): Promise<Saved> {
  const { keep, session, signal } = options;
  if (!(Number.isSafeInteger(keep) && keep >= 1)) {
    throw new RangeError(`Cannot keep ${keep} checkpoints: at least 1 stays`);
  }
  const plan = planSnapshot(snapshot);
  const save = new Save(runDir, snapshot.step, session, tellingFiles(options.files ?? DISK));
  const manifest = await save.run(plan, signal);
  const removed = [...save.removed, ...await save.retire(keep)];
  return {
    row: {
      step: snapshot.step,
      path: `checkpoints/${stepFolder(snapshot.step)}`,
      bytes: manifestBytes(manifest),
      sha256: manifestDigest(manifest),
    },
    removed,
  };
}

/** One save, its names and its one chance to make room. */
class Save {
  readonly removed: string[] = [];
  readonly #folder: string;
  readonly #name: string;
  readonly #temporary: string;
  readonly #aside: string;
  #madeRoom = false;

  constructor(
    private readonly runDir: string,
    private readonly step: number,
    private readonly session: number,
    private readonly files: Files,
  ) {
    this.#folder = checkpointsOf(runDir);
    this.#name = stepFolder(step);
    this.#temporary = temporaryName(step, session);
    this.#aside = replacedName(step, session);
  }

  async run(plan: PlannedSnapshot, signal: AbortSignal | undefined): Promise<Manifest> {
    try {
      const manifest = await this.#withRoom(
        () => this.#fill(plan, signal),
        () => this.files.remove(`${this.#folder}/${this.#temporary}`),
      );
      await this.#withRoom(() => this.#publish());
      await this.#withRoom(() =>
        writeWholeText(this.files, this.#folder, LATEST, `${this.#name}\n`)
      );
      return manifest;
    } catch (error) {
      const left = await this.#withdraw();
      throw error instanceof FileFault ? await this.#refusal(error, plan.bytes, left) : error;
    }
  }

  /** Removes what this one replaces and what is too old. */
  async retire(keep: number): Promise<string[]> {
    const { runDir, step, session, files } = this;
    try {
      await files.remove(`${this.#folder}/${this.#aside}`);
      return await retire(runDir, step, { keep, session, files });
    } catch (error) {
      if (!(error instanceof FileFault)) throw error;
      throw new ResourceError(
        `Cannot remove old checkpoints after saving step ${step}: ${error.path}: ${error.reason}`,
        { cause: error, help: "check the rights of the disk; the new checkpoint stands" },
      );
    }
  }

  /** Writes and syncs everything under the temporary name. */
  async #fill(plan: PlannedSnapshot, signal: AbortSignal | undefined): Promise<Manifest> {
    const { files } = this;
    const temporary = `${this.#folder}/${this.#temporary}`;
    const isNew = await files.list(this.#folder) === null;
    await files.remove(temporary);
    await files.makeFolder(temporary);
    if (isNew) await files.syncFolder(this.runDir);
    const free = await files.freeBytes(this.#folder);
    if (free !== undefined && free < plan.bytes) {
      throw new FileFault("write", temporary, "too little space", true);
    }
    const entries: FileEntry[] = [];
    for (const file of plan.files) entries.push(await writeTensors(files, temporary, file, signal));
    for (const { name, content } of [...plan.texts, { name: STATE, content: plan.state }]) {
      entries.push(await DigestedFile.write(files, temporary, name, (to) => to.append(content)));
    }
    const { step, session } = this;
    const manifest: Manifest = { format: FORMAT, step, session, files: entries };
    await DigestedFile.write(files, temporary, MANIFEST, async (to) => {
      await to.append(new TextEncoder().encode(manifestText(manifest)));
    });
    await files.syncFolder(temporary);
    signal?.throwIfAborted();
    return manifest;
  }

  /** Gives the folder its name; one that has it makes way first. */
  async #publish(): Promise<void> {
    const { files } = this;
    const names = await files.list(this.#folder) ?? [];
    if (names.includes(this.#temporary)) { // not so on another try after the renaming
      if (names.includes(this.#name)) {
        await files.remove(`${this.#folder}/${this.#aside}`);
        await files.rename(`${this.#folder}/${this.#name}`, `${this.#folder}/${this.#aside}`);
      }
      await files.rename(`${this.#folder}/${this.#temporary}`, `${this.#folder}/${this.#name}`);
    }
    await files.syncFolder(this.#folder);
  }

  /** Tries again, once per save, after older checkpoints made room. */
  async #withRoom<T>(work: () => Promise<T>, takeBack?: () => Promise<void>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof FileFault && error.full) || this.#madeRoom) throw error;
      this.#madeRoom = true;
      const { runDir, session, files } = this;
      await takeBack?.();
      this.removed.push(...await makeRoom(runDir, { session, files }));
      return await work();
    }
  }

  /** Takes back what is unfinished. @returns what the system said against it, if it did */
  async #withdraw(): Promise<string | undefined> {
    const { files } = this;
    try {
      for (const name of [this.#temporary, `${LATEST}.tmp`]) {
        await files.remove(`${this.#folder}/${name}`);
      }
      const names = await files.list(this.#folder) ?? [];
      if (names.includes(this.#aside) && !names.includes(this.#name)) {
        await files.rename(`${this.#folder}/${this.#aside}`, `${this.#folder}/${this.#name}`);
      }
      return undefined;
    } catch (error) {
      if (error instanceof FileFault) return `${error.path} is left behind: ${error.reason}`;
      throw error;
    }
  }

  async #refusal(fault: FileFault, needed: number, left?: string): Promise<LabError> {
    const free = await this.#freeBytes();
    const space = free === undefined ? "" : `, ${free} are free`;
    const path = fault.path.startsWith(`${this.#folder}/`)
      ? fault.path.slice(this.#folder.length + 1)
      : fault.path;
    return new ResourceError(
      `Cannot save step ${this.step} in ${this.#folder}: cannot ${fault.action} ${path}: ` +
        `${fault.reason} (a checkpoint needs ${needed} bytes${space}${left ? `; ${left}` : ""})`,
      {
        cause: fault,
        help: fault.full
          ? "free space on the disk, or keep fewer checkpoints; the last one stands"
          : "check that the folder is there and may be written; the last checkpoint stands",
      },
    );
  }

  async #freeBytes(): Promise<number | undefined> {
    try {
      return await this.files.freeBytes(this.#folder);
    } catch (error) {
      if (error instanceof FileFault) return undefined; // it is only for the message
      throw error;
    }
  }
}

function writeTensors(
  files: Files,
  folder: string,
  { name, tensors, header, offsets }: PlannedTensors,
  signal: AbortSignal | undefined,
): Promise<FileEntry> {
  return DigestedFile.write(files, folder, name, async (file) => {
    await file.append(header);
    for (const [i, tensor] of tensors.entries()) {
      signal?.throwIfAborted();
      const bytes = await tensor.read();
      const expected = offsets[i + 1] - offsets[i];
      if (bytes.length !== expected) {
        throw new TypeError(
          `Cannot save ${tensor.name}: (${tensor.shape}) of ${tensor.dtype} has ${expected} ` +
            `bytes, ${bytes.length} came`,
        );
      }
      await file.append(bytes);
      // Left to the collector, several tensors would be in memory at a time.
      (bytes.buffer as ArrayBuffer).transfer(0);
    }
  });
}
