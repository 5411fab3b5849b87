// The two data sets that have readers of their own, as training data: one i2t record per question, and
// for medpack one t2i record per caption. Records that the readers leave out come last, as bad ones.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import { type Dataset, type DatasetRecord, openDataset } from "../dataset.ts";
import { ListSource } from "./list_source.ts";
import { type ImageRef, type Part, TASKS, type TrainingRecord } from "./record.ts";
import { BadRecords, emptySource, type SourceOptions } from "./source.ts";

/** A question of a record by its position, or its caption. */
interface Entry {
  record: DatasetRecord;
  question?: number;
}

/**
 * Opens a medpack or VQA-RAD folder.
 *
 * @throws {InputError} If it is neither, or has more than `skipBad` unusable records
 */
export async function openDatasetSource(
  path: string,
  options: SourceOptions,
): Promise<ListSource> {
  const set = await openDataset(path, { skipBad: options.skipBad ?? Infinity });
  const root = await Deno.realPath(path);
  const hash = createHash("sha256");
  const entries: Entry[] = [];
  for (const record of set.records) {
    if (options.split !== undefined && record.split !== options.split) continue;
    record.questions.forEach((_, question) => entries.push({ record, question }));
    if (record.caption !== undefined) entries.push({ record });
    const { size } = await Deno.stat(record.imagePath);
    hash.update(
      JSON.stringify({ ...record, imagePath: record.imagePath.slice(root.length), size }),
    );
  }
  if (entries.length === 0 && set.skipped.length === 0) {
    throw emptySource(path, "record", options, "Give a folder with records");
  }
  const bad = new BadRecords({});
  const whereAt = (index: number) =>
    index < entries.length
      ? placeOf(entries[index], set)
      : set.skipped[index - entries.length].replace(/^Cannot read (.+?): .*$/s, "$1");
  set.skipped.forEach((message, i) => {
    bad.add(entries.length + i, whereAt(entries.length + i), new InputError(message));
    hash.update(message.replaceAll(path, ""));
  });
  const i2t = TASKS.indexOf("i2t");
  const tasks = Uint8Array.from(
    { length: entries.length + set.skipped.length },
    (_, i) => entries[i] && entries[i].question === undefined ? TASKS.indexOf("t2i") : i2t,
  );
  const readAt = (index: number) => {
    if (index < entries.length) return Promise.resolve(toRecord(entries[index], set, root));
    return Promise.reject(
      new InputError(set.skipped[index - entries.length], { help: "Correct or remove the record" }),
    );
  };
  return new ListSource(
    { path, format: set.kind, fingerprint: hash.digest("hex"), tasks, bad, readAt, whereAt },
    options,
  );
}

function placeOf({ record: { split, id }, question }: Entry, set: Dataset): string {
  const file = set.kind === "medpack"
    ? "manifest.jsonl"
    : split === "train"
    ? "trainset.json"
    : "testset.json";
  const what = question === undefined ? "caption" : `question ${question + 1}`;
  return `${set.dir}/${file} ${id}, ${what}`;
}

function toRecord(entry: Entry, set: Dataset, root: string): TrainingRecord {
  const { record, question } = entry;
  const { imagePath, modality, split } = record;
  const image: ImageRef = { name: imagePath.slice(root.length + 1), path: imagePath };
  const text = (value: string, loss: boolean, dropout = false): Part => (
    { type: "text", text: value, loss, dropout }
  );
  return {
    where: placeOf(entry, set),
    task: question === undefined ? "t2i" : "i2t",
    ...(modality === undefined ? {} : { modality }),
    dataset: set.kind,
    ...(question === undefined ? {} : { subTask: record.questions[question].kind }),
    split,
    parts: question === undefined
      ? [text(record.caption!, false, true), { type: "image", image, use: "noisy", dropout: false }]
      : [
        { type: "image", image, use: "vit", dropout: false },
        text(record.questions[question].question, false),
        text(record.questions[question].answer, true),
      ],
  };
}
