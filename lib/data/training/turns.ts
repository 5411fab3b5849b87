// Conversations in JSON, as both JSONL formats have them: turns of two sides, with `<image>` where an
// image stands in a text.

import { InputError } from "../../errors.ts";
import { objectAt, textField } from "../records.ts";
import type { Split } from "./record.ts";

/** Stands for an image in a text. */
export const IMAGE_MARKER = "<image>";

/** Most images of one record. */
const MAX_IMAGES = 100;

/** One turn: what the model is given, or what it is to say. */
export interface Turn {
  role: "input" | "output";
  value: string;
  /** Place for errors, `… line 3, "conversations" 2`. */
  where: string;
}

/**
 * The turns in `object[field]`, a list of `{from, value}`.
 *
 * @param roles which side a `from` is
 * @throws {InputError} If it is no list, is empty, or a turn lacks a known `from` or a text
 */
export function readTurns(
  object: Record<string, unknown>,
  field: string,
  where: string,
  roles: Readonly<Record<string, Turn["role"]>>,
): Turn[] {
  const list = object[field];
  if (!Array.isArray(list) || list.length === 0) {
    const what = Array.isArray(list) ? "an empty list" : list === undefined ? "missing" : "no list";
    throw new InputError(`Cannot read ${where}: "${field}" is ${what}`, {
      help: `Set "${field}" to a list of {"from": "human", "value": "…"}`,
    });
  }
  return list.map((entry, i) => {
    const place = `${where}, "${field}" ${i + 1}`;
    const turn = objectAt(entry, place);
    const from = textField(turn, "from", place);
    if (!Object.hasOwn(roles, from)) {
      const known = Object.keys(roles).join(", ");
      throw new InputError(
        `Cannot read ${place}: "from" is ${JSON.stringify(from)}, expected one of ${known}`,
        { help: 'Set "from" to human for what is given, to gpt for what is learned' },
      );
    }
    if (typeof turn.value !== "string") {
      throw new InputError(`Cannot read ${place}: "value" is no text`, {
        help: 'Set "value" to a text in quotes; it may be empty',
      });
    }
    return { role: roles[from], value: turn.value, where: place };
  });
}

/** How often a text has the marker. */
export function countMarkers(text: string): number {
  return text.split(IMAGE_MARKER).length - 1;
}

/**
 * A text cut at its markers: trimmed pieces that are not blank, and `null` where an image stands.
 * A text without markers stays as it is; a blank one is nothing.
 */
export function splitAtMarkers(text: string): (string | null)[] {
  const pieces = text.split(IMAGE_MARKER);
  if (pieces.length === 1) return text.trim() === "" ? [] : [text];
  const parts: (string | null)[] = [];
  pieces.forEach((piece, i) => {
    if (i > 0) parts.push(null);
    if (piece.trim() !== "") parts.push(piece.trim());
  });
  return parts;
}

/** A list of images in a field that may be absent, null, one image or a list of them. */
export function imageList(
  object: Record<string, unknown>,
  field: string,
  where: string,
): unknown[] {
  const value = object[field];
  if (value === undefined || value === null) return [];
  const list = Array.isArray(value) ? value : [value];
  if (list.length > MAX_IMAGES) {
    throw new InputError(
      `Cannot read ${where}: "${field}" has ${list.length} images, more than ${MAX_IMAGES}`,
      { help: "Split the record" },
    );
  }
  return list;
}

/** The record's own "split", if it has one. */
export function splitField(object: Record<string, unknown>, where: string): Split | undefined {
  const { split } = object;
  if (split === undefined || split === null) return undefined;
  if (split !== "train" && split !== "val" && split !== "test") {
    throw new InputError(
      `Cannot read ${where}: "split" is ${JSON.stringify(split)}, expected train, val or test`,
      { help: 'Set "split" to train, val or test, or leave it out' },
    );
  }
  return split;
}
