// medpack: manifest.jsonl with one image per line, its modality, label and sometimes a caption. The
// questions are made here, from the modality and the label; lines may bring their own in `qa`.

import { InputError } from "../errors.ts";
import type { DatasetRecord, Question, ReadOptions } from "./dataset.ts";
import { readJsonLines } from "./jsonl.ts";
import { objectAt, optionalTextField, RecordList, resolveInside, textField } from "./records.ts";

/** Answers to the modality question, by the manifest's code; another code is its own answer. */
export const MODALITY_NAMES: Readonly<Record<string, string>> = {
  cfp: "fundus photograph",
  cxr: "chest x-ray",
  ct: "ct",
  his: "histopathology",
  mri: "mri",
  oct: "oct",
  us: "ultrasound",
  endo: "endoscopy",
};

/** The two questions asked about every image of the folder. */
export const MODALITY_QUESTION = "what is the imaging modality?";
export const LABEL_QUESTION = "what does the image show?";

/**
 * Reads a medpack folder.
 *
 * @throws {InputError} Naming the manifest's line, on the first bad line beyond `skipBad`
 */
export async function readMedpack(
  dir: string,
  options: ReadOptions = {},
): Promise<{ records: DatasetRecord[]; skipped: string[] }> {
  const manifest = `${dir}/manifest.jsonl`;
  const list = new RecordList(options);
  const root = await Deno.realPath(dir);
  for await (const entry of readJsonLines(manifest)) {
    if (entry.error) list.skip(entry.error);
    else {
      const where = `${manifest} line ${entry.line}`;
      await list.add(where, () => readRecord(entry.value, root, where));
    }
  }
  if (list.records.length === 0) {
    throw new InputError(`Cannot use ${manifest}: it has no usable line`, {
      help: "Give a manifest with one JSON object per line",
    });
  }
  return { records: list.records, skipped: list.skipped };
}

async function readRecord(value: unknown, root: string, where: string): Promise<DatasetRecord> {
  const line = objectAt(value, where);
  const id = textField(line, "id", where);
  const split = textField(line, "split", where);
  if (split !== "train" && split !== "val" && split !== "test") {
    throw new InputError(
      `Cannot read ${where}: "split" is ${JSON.stringify(split)}, expected train, val or test`,
      { help: 'Set "split" to train, val or test' },
    );
  }
  if (Array.isArray(line.file)) {
    throw new InputError(
      `Cannot read ${where}: "file" lists ${line.file.length} images, expected one path`,
      { help: 'Set "file" to one path in quotes, and give every image a line of its own' },
    );
  }
  const file = textField(line, "file", where);
  const modality = textField(line, "modality", where);
  const label = optionalTextField(line, "label", where);
  const group = optionalTextField(line, "group", where);
  const caption = optionalTextField(line, "caption", where);
  const own = readQuestions(line.qa, where);
  return {
    id,
    split,
    imagePath: await resolveInside(root, file, where),
    modality,
    ...(label === undefined ? {} : { label }),
    ...(group === undefined ? {} : { group }),
    ...(caption === undefined ? {} : { caption }),
    questions: [...makeQuestions(modality, label), ...own],
  };
}

function makeQuestions(modality: string, label: string | undefined): Question[] {
  const name = Object.hasOwn(MODALITY_NAMES, modality) ? MODALITY_NAMES[modality] : modality;
  const questions = [{ question: MODALITY_QUESTION, answer: name, kind: "modality" }];
  // Remarks in brackets are about the record, not about the image: "(class not given)".
  const answer = label?.replace(/\s*\([^)]*\)/g, "").trim().toLowerCase();
  if (answer) questions.push({ question: LABEL_QUESTION, answer, kind: "label" });
  return questions;
}

function readQuestions(qa: unknown, where: string): Question[] {
  if (qa === undefined || qa === null) return [];
  if (!Array.isArray(qa)) {
    throw new InputError(`Cannot read ${where}: "qa" is not a list`, {
      help: 'Set "qa" to a list of {"question": "…", "answer": "…"}, or leave it out',
    });
  }
  return qa.map((entry, i) => {
    const place = `${where}, "qa" ${i + 1}`;
    const pair = objectAt(entry, place);
    return {
      question: textField(pair, "question", place),
      answer: textField(pair, "answer", place).toLowerCase(),
      kind: optionalTextField(pair, "kind", place) ?? "own",
    };
  });
}
