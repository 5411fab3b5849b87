// JSONL files as a source: indexed in one pass, in which every line is parsed and checked, and read line
// by line afterwards. Whether images exist is looked at when a record is read.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { fileReason } from "../jsonl.ts";
import { resolveImages } from "./image_field.ts";
import { indexLines, type LineIndex, readLine } from "./line_index.ts";
import { type InspectedRecord, inspectParts, TASKS, type TrainingRecord } from "./record.ts";
import {
  BadRecords,
  baseName,
  checkIndex,
  emptySource,
  folderOf,
  type RecordSource,
  type SourceOptions,
  splitOfName,
} from "./source.ts";
import { parseUnimedvl } from "./unimedvl.ts";
import { parseVlm } from "./vlm.ts";

const PARSERS = { unimedvl: parseUnimedvl, vlm: parseVlm } as const;

/** A line that cannot be parsed counts among these, so that it is met, and said, in training. */
const BAD_TASK = TASKS.indexOf("i2t");

/**
 * Opens JSONL files.
 *
 * @param path what the user named, for the source's name
 * @param files in the order of their records
 * @throws {InputError} If a file cannot be read, no record is left, or more than `skipBad` are unusable
 */
export async function openJsonl(
  path: string,
  format: keyof typeof PARSERS,
  files: readonly string[],
  options: SourceOptions,
): Promise<RecordSource> {
  const bad = new BadRecords(options);
  const indexes: LineIndex[] = [];
  let count = 0;
  for (const file of files) {
    const fileSplit = splitOfName(baseName(file));
    const isOther = (split = fileSplit) =>
      options.split !== undefined && split !== undefined && split !== options.split;
    indexes.push(
      await indexLines(file, (line, parse) => {
        const where = `${file} line ${line}`;
        let task = BAD_TASK;
        try {
          const record = PARSERS[format](parse(), where);
          if (isOther(record.split)) return undefined;
          task = TASKS.indexOf(record.task);
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          if (isOther()) return undefined;
          bad.add(count, where, error);
        }
        count++;
        return task;
      }),
    );
  }
  if (count === 0) {
    throw emptySource(path, "record", options, "Give a file with one JSON object per line");
  }
  const root = await realFolder(options.images ?? folderOf(files[0]));
  return new JsonlSource(path, format, root, indexes, bad, options);
}

async function realFolder(dir: string): Promise<string> {
  try {
    return await Deno.realPath(dir);
  } catch (cause) {
    throw new InputError(`Cannot read images of ${dir}: ${fileReason(cause)}`, {
      cause,
      help: "Give the folder that image paths start from",
    });
  }
}

class JsonlSource implements RecordSource {
  readonly name: string;
  readonly count: number;
  readonly tasks: Uint8Array;
  readonly blocks = [0];
  readonly fingerprint: string;
  /** Number of the first record of each file. */
  readonly #first: number[] = [];

  constructor(
    readonly path: string,
    readonly format: keyof typeof PARSERS,
    private readonly root: string,
    private readonly indexes: readonly LineIndex[],
    readonly bad: RecordSource["bad"],
    private readonly options: SourceOptions,
  ) {
    this.name = options.name ?? baseName(path);
    this.count = indexes.reduce((sum, { tags }) => sum + tags.length, 0);
    this.tasks = new Uint8Array(this.count);
    const hash = createHash("sha256");
    let first = 0;
    for (const { path, sizeBytes, sha256, tags } of indexes) {
      hash.update(`${baseName(path)}\0${sizeBytes}\0${sha256}\n`);
      this.tasks.set(tags, first);
      this.#first.push(first);
      first += tags.length;
    }
    this.fingerprint = hash.digest("hex");
  }

  where(index: number): string {
    const { lines, at } = this.#lineOf(index);
    return `${lines.path} line ${lines.lines[at]}`;
  }

  async read(index: number, _draws?: Draws): Promise<TrainingRecord> {
    const { lines, at } = this.#lineOf(index);
    const where = this.where(index);
    const record = PARSERS[this.format](await readLine(lines, at), where);
    await resolveImages(record, this.root);
    const split = record.split ?? splitOfName(baseName(lines.path)) ?? this.options.split;
    return split === undefined ? record : { ...record, split };
  }

  async inspect(index: number): Promise<InspectedRecord> {
    return inspectParts(await this.read(index));
  }

  #lineOf(index: number): { lines: LineIndex; at: number } {
    checkIndex(index, this);
    const file = this.#first.findLastIndex((first) => first <= index);
    return { lines: this.indexes[file], at: index - this.#first[file] };
  }

  close() {}
}
