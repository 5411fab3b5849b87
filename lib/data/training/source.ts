// What every reader of training data gives: records by number, in any order, read when asked for.

import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import type { InspectedRecord, Split, TrainingRecord } from "./record.ts";

/** The kinds of training data; experiments/formats/ has a page and a sample for each of the first five. */
export const SOURCE_FORMATS = [
  "unimedvl",
  "vlm",
  "t2i",
  "edit",
  "folder",
  "vqa-rad",
  "medpack",
] as const;
/** One of {@link SOURCE_FORMATS}. */
export type SourceFormat = typeof SOURCE_FORMATS[number];

/** A record that is known to be unusable since the source was opened; reading it throws the message. */
export interface BadRecord {
  index: number;
  where: string;
  message: string;
}

/** Records by number, from 0; random access. */
export interface RecordSource {
  readonly name: string;
  readonly format: string;
  readonly path: string;
  /** Records, the bad ones among them. */
  readonly count: number;
  /** Task of each record, as a position in TASKS. */
  readonly tasks: Uint8Array;
  /** First records of the groups that are cheap to read together (row groups of parquet); [0] if all are. */
  readonly blocks: readonly number[];
  /** sha256 over the files' names, sizes and contents, as far as opening reads them; in hex. */
  readonly fingerprint: string;
  /** What opening found unusable: how many, and the first {@link MAX_LISTED} of them. */
  readonly bad: { readonly count: number; readonly listed: readonly BadRecord[] };
  /**
   * One record for training. Its images exist but are not decoded.
   *
   * @param draws decides on captions and hops; a fresh stream gives the same record again
   * @throws {InputError} Naming the file, the line or row, and the field
   * @throws {RangeError} If there is no such record
   */
  read(index: number, draws: Draws): Promise<TrainingRecord>;
  /** Where a record lies, as `TrainingRecord.where` says it, without reading it. @throws {RangeError} If there is none */
  where(index: number): string;
  /** Everything a record can give. @throws As {@link RecordSource.read} */
  inspect(index: number): Promise<InspectedRecord>;
  /** Ends workers and forgets what was read. */
  close(): void;
}

/** How a source is opened. */
export interface SourceOptions {
  /** Name in logs, and part of what random draws are keyed by. Default: the last part of the path. */
  name?: string;
  /** Default "auto": found by what is in the folder or file. */
  format?: SourceFormat | "phantoms" | "auto";
  /** Take only the records of this split, and those of files that tell no split. Default: all. */
  split?: Split;
  /** Most records that may be unusable; more end the opening. Default: no limit, since reading one throws. */
  skipBad?: number;
  /** The folder that image paths of JSONL start from. Default: the one with the file. */
  images?: string;
  /** What a plain folder teaches. Default: its folder.json, else "t2i". */
  task?: "t2i" | "i2t";
  /** Only images are wanted: those of a plain folder need no text beside them. Default: false. */
  textless?: boolean;
}

/** Most bad records that a source lists; all are counted. */
export const MAX_LISTED = 100;

/** Gathers bad records while a source is opened. */
export class BadRecords {
  count = 0;
  readonly listed: BadRecord[] = [];
  readonly #most: number;

  constructor({ skipBad = Infinity }: SourceOptions) {
    this.#most = skipBad;
  }

  /** @throws {InputError} `error`, if it is one too many */
  add(index: number, where: string, error: InputError) {
    if (++this.count > this.#most) throw error;
    if (this.listed.length < MAX_LISTED) {
      this.listed.push({ index, where, message: error.message });
    }
  }
}

/**
 * That a source has nothing to read.
 *
 * @param what its records are called
 * @param help for a source that would be read whole
 */
export function emptySource(
  path: string,
  what: string,
  { split }: Pick<SourceOptions, "split">,
  help: string,
): InputError {
  return split === undefined
    ? new InputError(`Cannot use ${path}: it has no ${what}`, { help })
    : new InputError(`Cannot use ${path}: it has no ${what} of split ${split}`, {
      help: "Set its split to one that it has, or to null for all of it",
    });
}

/** @throws {RangeError} If a source has no record of this number */
export function checkIndex(index: number, { count, path }: Pick<RecordSource, "count" | "path">) {
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new RangeError(`Cannot read record ${index} of ${path}: it has ${count}, from 0`);
  }
}

/** The last part of a path. */
export function baseName(path: string): string {
  return path.replace(/[/\\]+$/, "").split(/[/\\]/).at(-1) || path;
}

/** The folder of a file. */
export function folderOf(file: string): string {
  return file.replace(/[^/\\]*$/, "") || ".";
}

/** The split that a file or folder is named for (train.jsonl, part-03-val.jsonl), if any. */
export function splitOfName(name: string): Split | undefined {
  const words = name.toLowerCase().split(/[^a-z]+/);
  const has = (...known: string[]) => known.some((word) => words.includes(word));
  if (has("train", "training")) return "train";
  if (has("val", "valid", "validation", "dev")) return "val";
  return has("test", "testing") ? "test" : undefined;
}
