// Rows of BAGEL's edit parquet: `image_list`, n pictures each made from the one before, and
// `instruction_list`, n - 1 lists of wordings, entry i leading from picture i to i + 1.

import { InputError } from "../../errors.ts";
import type { Draws } from "../draws.ts";
import { cellBytes, cellList, cellText, factsOf } from "./cells.ts";
import type { Row } from "./parquet_messages.ts";
import {
  imageParts,
  type ImageRef,
  type InspectedRecord,
  type Part,
  type TrainingRecord,
} from "./record.ts";

/** Columns that must be there, and those that are used where they are. */
export const EDIT_COLUMNS = {
  needed: ["image_list", "instruction_list"],
  optional: ["modality", "dataset", "sub_task_type"],
};

/** Most pictures of a row. */
const MAX_IMAGES = 100;

/**
 * A row as one or two edits in sequence, chosen at random: a first picture [clean] [ViT], then
 * instructions and the pictures they lead to, [noisy] and, in between, [clean] [ViT] too. Two edits are
 * joined to one instruction half of the time.
 *
 * @throws {InputError} Naming the column
 */
export function parseEdit(row: Row, where: string, draws: Draws): TrainingRecord {
  const { images, instructions, ...facts } = readEdit(row, where);
  const start = draws.below(images.length - 1);
  let end = start + 1 + draws.below(Math.min(start + 3, images.length) - (start + 1));
  const parts = imageParts(images[start], false, true);
  const instruct = (text: string): Part => ({ type: "text", text, loss: false, dropout: true });
  if (end - start > 1 && draws.uniform() < 0.5) {
    // The reference steps back from the last picture here, to a single edit; weights were trained so.
    if (end === images.length - 1) end--;
    const texts = instructions.slice(start, end).map((wordings) => `${draws.pick(wordings)}.`);
    parts.push(instruct(texts.join(" ")), ...imageParts(images[end], true, false));
  } else {
    for (let i = start + 1; i <= end; i++) {
      parts.push(instruct(draws.pick(instructions[i - 1])));
      parts.push(...imageParts(images[i], true, i < end));
    }
  }
  return { ...facts, parts };
}

/** All pictures and wordings of a row. @throws As {@link parseEdit} */
export function inspectEdit(row: Row, where: string): InspectedRecord {
  const { images, instructions, ...facts } = readEdit(row, where);
  return {
    ...facts,
    texts: instructions.flat().map((text) => ({ role: "input", text })),
    images: images.map((image, i) => ({ role: i === 0 ? "input" : "output", image })),
  };
}

function readEdit(row: Row, where: string) {
  const images = cellList(row.image_list, '"image_list"', where).map((cell, i): ImageRef => {
    const field = `"image_list" ${i + 1}`;
    return { name: `${where}, ${field}`, bytes: cellBytes(cell, field, where) };
  });
  const instructions = cellList(row.instruction_list, '"instruction_list"', where)
    .map((list, i) => {
      const field = `"instruction_list" ${i + 1}`;
      return cellList(list, field, where).map((cell) => cellText(cell, field, where));
    });
  const fail = (what: string, help: string) => {
    throw new InputError(`Cannot read ${where}: ${what}`, { help });
  };
  if (images.length < 2 || images.length > MAX_IMAGES) {
    fail(
      `"image_list" has ${images.length} images, expected 2 to ${MAX_IMAGES}`,
      "Give the picture before and the one after each edit",
    );
  }
  if (instructions.length !== images.length - 1) {
    fail(
      `"image_list" has ${images.length} images and "instruction_list" ${instructions.length} ` +
        `entries, expected ${images.length - 1}`,
      "Give one list of wordings for each picture but the first",
    );
  }
  const empty = instructions.findIndex((wordings) => wordings.length === 0);
  if (empty >= 0) {
    fail(`"instruction_list" ${empty + 1} is empty`, "Give at least one wording of each edit");
  }
  return { where, task: "interleaved" as const, ...factsOf(row, where), images, instructions };
}
