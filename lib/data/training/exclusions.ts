// Lists of records to leave out, as `deno task data check --fix` writes them: one JSON object per line. A
// record is known by its place, the file and the line or row, so that a list made of a whole data set also
// serves where only a split of it is opened.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { readJsonLines } from "../jsonl.ts";
import { objectAt, textField } from "../records.ts";
import { checkIndex, folderOf, type RecordSource } from "./source.ts";

/** One record to leave out. */
export interface Exclusion {
  /** Its place below the data's folder: `train.jsonl line 12`. */
  record: string;
  /** What was found, as `data check` names it. */
  kind: string;
  /** The same for people. */
  why: string;
  /** Its number among `records` records of data with this fingerprint. */
  index: number;
  records: number;
  fingerprint: string;
}

/**
 * Reads a list.
 *
 * @throws {InputError} Naming the line and the field
 */
export async function readExclusions(path: string): Promise<Exclusion[]> {
  const list: Exclusion[] = [];
  for await (const entry of readJsonLines(path)) {
    if (entry.error) throw entry.error;
    const where = `${path} line ${entry.line}`;
    const fields = objectAt(entry.value, where);
    const text = (field: string) => textField(fields, field, where);
    const whole = (field: string) => {
      const value = fields[field];
      if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
      throw new InputError(`Cannot read ${where}: "${field}" is no whole number`, {
        help: "Use the list as deno task data check --fix wrote it",
      });
    };
    list.push({
      record: text("record"),
      kind: text("kind"),
      why: text("why"),
      index: whole("index"),
      records: whole("records"),
      fingerprint: text("fingerprint"),
    });
  }
  return list;
}

/** A record's place without the folder of its data, which may have moved since. */
export function placeOf(source: Pick<RecordSource, "path" | "where">, index: number): string {
  const where = source.where(index);
  const root = source.path.replace(/[/\\]+$/, "");
  const folder = where.startsWith(`${root}/`) ? `${root}/` : folderOf(root);
  return where.startsWith(folder) ? where.slice(folder.length).replace(/^\/+/, "") : where;
}

/**
 * The same records without those of a list. Closing it closes `source`.
 *
 * @throws {InputError} If the data changed since the list was made, or no record is left
 */
export function excludeRecords(source: RecordSource, list: readonly Exclusion[]): RecordSource {
  const stale = list.some(({ record, index, records, fingerprint }) =>
    records === source.count && fingerprint !== source.fingerprint &&
    placeOf(source, index) === record
  );
  if (stale) {
    throw new InputError(
      `Cannot leave records out of ${source.path}: it changed since the list of them was made`,
      { help: `Make the list again: deno task data check ${source.path} --fix` },
    );
  }
  const places = new Set(list.map(({ record }) => record));
  const kept: number[] = [];
  for (let i = 0; i < source.count; i++) if (!places.has(placeOf(source, i))) kept.push(i);
  if (kept.length === source.count) return source;
  if (kept.length === 0) {
    throw new InputError(`Cannot use ${source.path}: all its records are on the list of bad ones`, {
      help: "Correct the data",
    });
  }
  return new ExcludingSource(source, Uint32Array.from(kept));
}

class ExcludingSource implements RecordSource {
  readonly name: string;
  readonly format: string;
  readonly path: string;
  readonly count: number;
  readonly tasks: Uint8Array;
  readonly blocks: readonly number[];
  readonly fingerprint: string;
  readonly bad: RecordSource["bad"];

  constructor(private readonly source: RecordSource, private readonly kept: Uint32Array) {
    const { name, format, path, tasks, blocks, fingerprint, bad } = source;
    this.name = name;
    this.format = format;
    this.path = path;
    this.count = kept.length;
    this.tasks = Uint8Array.from(kept, (index) => tasks[index]);
    this.blocks = firstOfEach(blocks, kept);
    const keptBytes = new Uint8Array(kept.buffer);
    this.fingerprint = createHash("sha256").update(fingerprint).update(keptBytes).digest("hex");
    const listed = bad.listed.flatMap((record) => {
      const index = kept.indexOf(record.index);
      return index < 0 ? [] : [{ ...record, index }];
    });
    this.bad = { count: Math.max(listed.length, bad.count - (source.count - kept.length)), listed };
  }

  where(index: number) {
    return this.source.where(this.#at(index));
  }

  async read(index: number, draws: Draws) {
    return await this.source.read(this.#at(index), draws);
  }

  async inspect(index: number) {
    return await this.source.inspect(this.#at(index));
  }

  close() {
    this.source.close();
  }

  #at(index: number): number {
    checkIndex(index, this);
    return this.kept[index];
  }
}

/** Where in `kept` each block begins that has any of it left. */
function firstOfEach(blocks: readonly number[], kept: Uint32Array): number[] {
  const starts: number[] = [];
  let at = 0;
  blocks.forEach((start, b) => {
    while (at < kept.length && kept[at] < start) at++;
    if (at < kept.length && kept[at] < (blocks[b + 1] ?? Infinity)) starts.push(at);
  });
  return starts;
}
