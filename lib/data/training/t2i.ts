// Rows of BAGEL's text-to-image parquet: `image`, an encoded picture, and `captions`, a JSON object of
// name → caption of which one is chosen at random.

import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { jsonReason } from "../jsonl.ts";
import { objectAt } from "../records.ts";
import { cellBytes, cellText, factsOf } from "./cells.ts";
import type { Row } from "./parquet_messages.ts";
import type { ImageRef, InspectedRecord, TrainingRecord } from "./record.ts";

/** Columns that must be there, and those that are used where they are. */
export const T2I_COLUMNS = {
  needed: ["image", "captions"],
  optional: ["modality", "dataset", "sub_task_type"],
};

/**
 * A row as text with dropout and a picture to be made. A row without any caption gets a single space,
 * as in the reference.
 *
 * @throws {InputError} Naming the column
 */
export function parseT2i(row: Row, where: string, draws: Draws): TrainingRecord {
  const { captions, image, ...facts } = readT2i(row, where);
  return {
    ...facts,
    parts: [
      { type: "text", text: draws.pick(captions), loss: false, dropout: true },
      { type: "image", image, use: "noisy", dropout: false },
    ],
  };
}

/** All captions of a row and its picture. @throws As {@link parseT2i} */
export function inspectT2i(row: Row, where: string): InspectedRecord {
  const { captions, image, ...facts } = readT2i(row, where);
  return {
    ...facts,
    texts: captions.map((text) => ({ role: "input", text })),
    images: [{ role: "output", image }],
  };
}

function readT2i(row: Row, where: string) {
  const image: ImageRef = {
    name: `${where}, "image"`,
    bytes: cellBytes(row.image, '"image"', where),
  };
  const captions = readCaptions(cellText(row.captions, '"captions"', where), where);
  return { where, task: "t2i" as const, ...factsOf(row, where), image, captions };
}

const HELP = `Write captions as JSON text: {"short": "…", "long": "…"}`;

function readCaptions(text: string, where: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(
      `Cannot read ${where}: "captions" is not JSON: ${jsonReason(cause, false)}`,
      { cause, help: HELP },
    );
  }
  const entries = Object.entries(objectAt(value, `${where}, "captions"`));
  for (const [name, caption] of entries) {
    if (typeof caption !== "string" || caption.trim() === "") {
      throw new InputError(
        `Cannot read ${where}: caption ${JSON.stringify(name)} is not a text with content`,
        { help: HELP },
      );
    }
  }
  return entries.length === 0 ? [" "] : entries.map(([, caption]) => caption as string);
}
