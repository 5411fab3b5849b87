// A source whose records are listed in memory: small data sets, whose files were all looked at when they
// were opened.

import type { Draws } from "../draws.ts";
import { type InspectedRecord, inspectParts, type TrainingRecord } from "./record.ts";
import { baseName, checkIndex, type RecordSource, type SourceOptions } from "./source.ts";

/** What a list is made of. */
export interface ListParts {
  path: string;
  format: string;
  fingerprint: string;
  tasks: Uint8Array;
  bad: RecordSource["bad"];
  /** The record at an index, or its InputError thrown. */
  readAt: (index: number) => Promise<TrainingRecord>;
  /** Its place, without reading it. */
  whereAt: (index: number) => string;
}

/** Records without anything drawn at random, from a list. */
export class ListSource implements RecordSource {
  readonly name: string;
  readonly path: string;
  readonly format: string;
  readonly count: number;
  readonly tasks: Uint8Array;
  readonly blocks = [0];
  readonly fingerprint: string;
  readonly bad: RecordSource["bad"];
  readonly #readAt: ListParts["readAt"];
  readonly #whereAt: ListParts["whereAt"];

  constructor(
    { path, format, fingerprint, tasks, bad, readAt, whereAt }: ListParts,
    options: SourceOptions,
  ) {
    this.name = options.name ?? baseName(path);
    this.path = path;
    this.format = format;
    this.fingerprint = fingerprint;
    this.tasks = tasks;
    this.count = tasks.length;
    this.bad = bad;
    this.#readAt = readAt;
    this.#whereAt = whereAt;
  }

  /** See {@link RecordSource.where}. */
  where(index: number): string {
    checkIndex(index, this);
    return this.#whereAt(index);
  }

  /** See {@link RecordSource.read}. */
  async read(index: number, _draws?: Draws): Promise<TrainingRecord> {
    checkIndex(index, this);
    return await this.#readAt(index);
  }

  /** See {@link RecordSource.inspect}. */
  async inspect(index: number): Promise<InspectedRecord> {
    return inspectParts(await this.read(index));
  }

  /** Nothing is held. */
  close() {}
}
