// A folder of images with questions and answers: the record every reader returns, and openDataset,
// which finds out which kind of folder it is given.

import { InputError } from "../errors.ts";
import { fileReason } from "./jsonl.ts";
import { readMedpack } from "./medpack.ts";
import { readVqaRad } from "./vqa_rad.ts";

/** One question about one image; both texts are trimmed, answers in lower case. */
export interface Question {
  question: string;
  answer: string;
  /** What is asked: modality and label (medpack), open and closed (VQA-RAD). */
  kind: string;
}

/** One image and what is known about it. */
export interface DatasetRecord {
  /** Unique in the data set. */
  id: string;
  split: "train" | "val" | "test";
  /** A real path under the data set's folder. */
  imagePath: string;
  modality?: string;
  label?: string;
  /** Patient, case or block; records of one group are in one split. */
  group?: string;
  caption?: string;
  questions: Question[];
}

/** What was read. */
export interface Dataset {
  kind: "medpack" | "vqa-rad";
  dir: string;
  records: DatasetRecord[];
  /** Bad records that `skipBad` allowed to leave out, in words. */
  skipped: string[];
}

/** Options of the readers. */
export interface ReadOptions {
  /** How many bad records may be left out (default 0: the first is an error). */
  skipBad?: number;
}

/**
 * Reads the data set in a folder: medpack (it has manifest.jsonl) or VQA-RAD (trainset.json or
 * testset.json). All records and the presence of all images are checked; images are not decoded.
 *
 * @throws {InputError} If the folder is missing, unreadable, of neither kind or has a bad record;
 * the message names the file and the line or record
 */
export async function openDataset(dir: string, options: ReadOptions = {}): Promise<Dataset> {
  const names = new Set(await list(dir));
  if (names.has("manifest.jsonl")) {
    return { kind: "medpack", dir, ...await readMedpack(dir, options) };
  }
  if (names.has("trainset.json") || names.has("testset.json")) {
    return { kind: "vqa-rad", dir, ...await readVqaRad(dir, options) };
  }
  throw new InputError(
    `Cannot read data folder ${dir}: it has neither manifest.jsonl (medpack) nor trainset.json ` +
      `or testset.json (VQA-RAD)`,
    { help: "Give the folder that holds one of these files" },
  );
}

async function list(dir: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(dir), (entry) => entry.name);
  } catch (cause) {
    throw new InputError(`Cannot read data folder ${dir}: ${fileReason(cause)}`, {
      cause,
      help: "Check the path and its permissions",
    });
  }
}
