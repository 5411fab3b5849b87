// The data of a part's training: one source by its path, the words of its texts, checks of settings that both parts
// have.

import { Draws } from "../data/draws.ts";
import { openSource } from "../data/training/open_source.ts";
import { openPhantoms } from "../data/training/phantom_source.ts";
import type { ImageSplit } from "../data/training/image_stream.ts";
import type { RecordSource } from "../data/training/source.ts";
import { PHANTOM_WORDS } from "../data/phantoms/factors.ts";
import { WordTokenizer } from "../data/words.ts";
import { InputError, UsageError } from "../errors.ts";
import type { PartSettings } from "./part_training.ts";

/**
 * Opens the records of the training split at a path, or phantoms.
 *
 * @param textless only images are wanted: those of a plain folder need no text beside them
 * @throws {InputError} If nothing there can be read
 */
export async function openPartSource(path: string, textless: boolean): Promise<RecordSource> {
  if (/^phantoms($|\?)/.test(path)) return openPhantoms(path, { split: "train" });
  const source = await openSource(path, { split: "train", textless });
  const { count, bad } = source;
  if (count === 0 || bad.count < count) return source;
  source.close();
  throw new InputError(
    `Cannot use ${path}: none of its ${count} records can be read; the first: ${
      bad.listed[0].message
    }`,
    source.format === "folder" && !textless
      ? { help: "Put a text beside each image, of the same name but ending in .txt" }
      : {},
  );
}

/** `images: 27 to train on, 3 held out`; of large data, which is not counted, only how many are looked at. */
export function splitText({ unit, given, heldOut, looked }: ImageSplit): string {
  if (given === null || heldOut === null) {
    return `${unit}: one in 8 is held out, ${looked} of these are looked at`;
  }
  const some = looked < heldOut ? `, ${looked} of these are looked at` : "";
  return `${unit}: ${given} to train on, ${heldOut} held out${some}`;
}

/** Records whose texts make a vocabulary. */
const MOST_RECORDS = 20_000;

/**
 * A vocabulary of a source's texts: the phantoms' language, or the most frequent words of its first records. Records
 * that cannot be read add none; training on one says so.
 */
export async function vocabularyOf(source: RecordSource, most: number): Promise<WordTokenizer> {
  if (source.format === "phantoms") return new WordTokenizer(PHANTOM_WORDS);
  const texts: string[] = [];
  for (let i = 0; i < Math.min(source.count, MOST_RECORDS); i++) {
    texts.push(...await textsOf(source, i));
  }
  return WordTokenizer.fromTexts(texts, most);
}

async function textsOf(source: RecordSource, index: number): Promise<string[]> {
  try {
    const { parts } = await source.read(index, new Draws("vocabulary", index));
    return parts.flatMap((part) => part.type === "text" ? [part.text] : []);
  } catch (error) {
    if (error instanceof InputError) return [];
    throw error;
  }
}

/**
 * Checks what settings of both parts must satisfy.
 *
 * @throws {UsageError} Naming the field and its repair
 */
export function checkPartSettings(
  settings: PartSettings & { size: number; batch: number; heldOut: number },
): void {
  const whole: [keyof typeof settings, number][] = [
    ["seed", 0],
    ["steps", 1],
    ["warmup", 0],
    ["lookEvery", 0],
    ["saveEvery", 1],
    ["keep", 1],
    ["size", 1],
    ["batch", 1],
    ["heldOut", 1],
  ];
  for (const [field, least] of whole) {
    const value = settings[field];
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw refused(field, value, `set it to a whole number of at least ${least}`);
  }
  const { learningRate, weightDecay, clip, mostBad } = settings;
  if (!(learningRate > 0)) throw refused("learningRate", learningRate, "set it above 0");
  if (!(weightDecay >= 0)) throw refused("weightDecay", weightDecay, "set it to 0 or more");
  if (!(mostBad >= 0 && mostBad <= 1)) throw refused("mostBad", mostBad, "set it from 0 to 1");
  if (!(clip >= 0)) throw refused("clip", clip, "set it to 0 (no limit) or more");
}

/** The error for a setting. */
export function refused(field: string, value: unknown, help: string): UsageError {
  return new UsageError(`Cannot train with ${field} ${JSON.stringify(value)}`, { help });
}
