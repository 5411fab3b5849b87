// VQA-RAD in its original JSON: trainset.json and testset.json, each a list of questions that name
// an image in images/. Questions about one image become one record per split (the two splits share
// images in the original). A record's label is the organ: chest, head, abd.

import { InputError } from "../errors.ts";
import type { DatasetRecord, Question, ReadOptions } from "./dataset.ts";
import { fileReason, jsonReason } from "./jsonl.ts";
import { type JsonObject, objectAt, RecordList, resolveInside, textField } from "./records.ts";

/** Largest JSON file read, in bytes. */
const MAX_FILE_BYTES = 64 * 2 ** 20;

const FILES = { train: "trainset.json", test: "testset.json" } as const;

/**
 * Reads a VQA-RAD folder; one of the two files may be absent.
 *
 * @throws {InputError} Naming the file and the question (counted from 1), on the first bad question
 * beyond `skipBad`
 */
export async function readVqaRad(
  dir: string,
  options: ReadOptions = {},
): Promise<{ records: DatasetRecord[]; skipped: string[] }> {
  const root = await Deno.realPath(dir);
  const list = new RecordList(options);
  for (const split of ["train", "test"] as const) {
    const path = `${dir}/${FILES[split]}`;
    const byImage = new Map<string, DatasetRecord>();
    for (const [i, value] of (await readList(path) ?? []).entries()) {
      const where = `${path} question ${i + 1}`;
      try {
        const { name, organ, question } = readQuestion(value, where);
        const known = byImage.get(name);
        if (known) {
          known.questions.push(question);
          continue;
        }
        const record: DatasetRecord = {
          id: `${split}/${name}`,
          split,
          imagePath: await resolveInside(root, `images/${name}`, where),
          ...(organ === undefined ? {} : { label: organ }),
          group: name,
          questions: [question],
        };
        byImage.set(name, record);
        await list.add(where, () => Promise.resolve(record));
      } catch (error) {
        list.skip(error);
      }
    }
  }
  if (list.records.length === 0) {
    throw new InputError(`Cannot use ${dir}: ${FILES.train} and ${FILES.test} have no question`, {
      help: "Put the original files there: each is a list of questions",
    });
  }
  return { records: list.records, skipped: list.skipped };
}

function readQuestion(value: unknown, where: string) {
  const fields = objectAt(value, where);
  const kind = textField(fields, "answer_type", where).toLowerCase();
  if (kind !== "open" && kind !== "closed") {
    throw new InputError(
      `Cannot read ${where}: "answer_type" is ${JSON.stringify(kind)}, expected open or closed`,
      { help: 'Set "answer_type" to OPEN or CLOSED' },
    );
  }
  const question: Question = {
    question: textField(fields, "question", where).toLowerCase(),
    answer: readAnswer(fields, where),
    kind,
  };
  const organ = fields.image_organ === undefined
    ? undefined
    : textField(fields, "image_organ", where).toLowerCase();
  return { name: textField(fields, "image_name", where), organ, question };
}

/** Answers are texts or numbers: "how many?" has 3 as often as "3". */
function readAnswer(fields: JsonObject, where: string): string {
  const { answer } = fields;
  if (typeof answer === "number") return String(answer);
  return textField(fields, "answer", where).toLowerCase();
}

/** The list in a file, or undefined if there is no such file. */
async function readList(path: string): Promise<unknown[] | undefined> {
  let text: string;
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_FILE_BYTES) {
      throw new InputError(`Cannot read ${path}: it has more than ${MAX_FILE_BYTES} bytes`, {
        help: "Split the data set into smaller folders",
      });
    }
    text = new TextDecoder("utf-8", { fatal: true }).decode(await Deno.readFile(path));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    if (cause instanceof InputError) throw cause;
    const reason = cause instanceof TypeError ? "it is not UTF-8" : fileReason(cause);
    throw new InputError(`Cannot read ${path}: ${reason}`, {
      cause,
      help: "Put a readable JSON file there: a list of questions, in UTF-8",
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: it is not JSON: ${jsonReason(cause)}`, {
      cause,
      help: "Get the file again or correct the line",
    });
  }
  if (!Array.isArray(value)) {
    throw new InputError(`Cannot read ${path}: expected a list`, {
      help: "Put the questions in brackets: [{…}, {…}]",
    });
  }
  return value;
}
