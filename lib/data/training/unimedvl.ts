// Records of UniMedVL-5M, one JSON object per line: main_task_type, sub_task_type, modality, dataset,
// input_img, output_img, message. What a record teaches follows from where its images stand; the main
// task type must not say the opposite.
//
//   images in      images out     task
//   none           none           text
//   some           none           i2t            [ViT] texts, answers with loss
//   none           some           t2i            texts (dropout), [noisy]
//   some           some           interleaved    [clean] [ViT] per input, texts (dropout), [noisy] and,
//                                                if more is learned after it, [clean] [ViT] per target

import { InputError } from "../../errors.ts";
import { objectAt, optionalTextField, textField } from "../records.ts";
import { imageRef } from "./image_field.ts";
import { imageParts, type ImageRef, type Part, type Task, type TrainingRecord } from "./record.ts";
import {
  countMarkers,
  IMAGE_MARKER,
  imageList,
  readTurns,
  splitAtMarkers,
  splitField,
  type Turn,
} from "./turns.ts";

const ROLES = {
  human: "input",
  user: "input",
  system: "input",
  gpt: "output",
  assistant: "output",
} as const;

/** A text or an image of the conversation, in order. */
type Item = { role: Turn["role"]; text: string } | { role: Turn["role"]; image: ImageRef };

/**
 * A record of UniMedVL JSONL; images are named, not looked for.
 *
 * @throws {InputError} Naming the field
 */
export function parseUnimedvl(value: unknown, where: string): TrainingRecord {
  const fields = objectAt(value, where);
  const mainType = textField(fields, "main_task_type", where);
  const images = (field: string) =>
    imageList(fields, field, where).map((v, i) => imageRef(v, `"${field}" ${i + 1}`, where));
  const [input, output] = [images("input_img"), images("output_img")];
  const turns = readTurns(fields, "message", where, ROLES);
  const task: Task = output.length > 0
    ? input.length > 0 ? "interleaved" : "t2i"
    : input.length > 0
    ? "i2t"
    : "text";
  checkMainType(mainType, output.length, where);
  const items = placeImages(turns, { input, output }, where);
  if (!items.some((item) => item.role === "output")) {
    throw new InputError(`Cannot read ${where}: "message" has no answer to learn`, {
      help: 'Add {"from": "gpt", "value": "…"} with a text, or an image in "output_img"',
    });
  }
  const subTask = optionalTextField(fields, "sub_task_type", where);
  const modality = optionalTextField(fields, "modality", where);
  const dataset = optionalTextField(fields, "dataset", where);
  const split = splitField(fields, where);
  return {
    where,
    task,
    ...(modality === undefined ? {} : { modality }),
    ...(dataset === undefined ? {} : { dataset }),
    ...(subTask === undefined ? {} : { subTask }),
    ...(split === undefined ? {} : { split }),
    parts: partsOf(items, output.length > 0),
  };
}

const READS = /understand|vqa|question|caption|report|classif|diagnos|i2t/;
const DRAWS = /generat|synthes|t2i|interleav|edit|translat|i2i/;

/** Refuses a main task type that says the opposite of where images stand; unknown ones pass. */
function checkMainType(mainType: string, outputs: number, where: string) {
  const type = mainType.toLowerCase();
  const reads = READS.test(type);
  if (reads ? outputs === 0 : outputs > 0 || !DRAWS.test(type)) return;
  throw new InputError(
    `Cannot read ${where}: "main_task_type" is ${JSON.stringify(mainType)}, but "output_img" ` +
      (reads ? `has ${outputs} images` : "is empty"),
    {
      help: reads
        ? 'Move images that are only read to "input_img", or correct "main_task_type"'
        : 'Name the images that are to be made in "output_img", or correct "main_task_type"',
    },
  );
}

/**
 * Texts and images in order: an image stands at its marker. Without any marker on their side, input
 * images come before the first input text and output images after the last output text.
 */
function placeImages(
  turns: Turn[],
  images: Record<Turn["role"], ImageRef[]>,
  where: string,
): Item[] {
  const markers = { input: 0, output: 0 };
  for (const { role, value } of turns) markers[role] += countMarkers(value);
  for (const role of ["input", "output"] as const) {
    const count = images[role].length;
    if (markers[role] !== 0 && markers[role] !== count) {
      throw new InputError(
        `Cannot read ${where}: "${role}_img" has ${count} images, the ${role} texts of "message" ` +
          `${markers[role]} ${IMAGE_MARKER}`,
        { help: `Write ${IMAGE_MARKER} once for every image, or nowhere` },
      );
    }
  }
  const next = { input: 0, output: 0 };
  const items = turns.flatMap(({ role, value }) =>
    splitAtMarkers(value).map((text): Item =>
      text === null ? { role, image: images[role][next[role]++] } : { role, text }
    )
  );
  const left = (role: Turn["role"]) =>
    images[role].slice(next[role]).map((image): Item => ({ role, image }));
  const firstInput = items.findIndex(({ role }) => role === "input");
  items.splice(Math.max(firstInput, 0), 0, ...left("input"));
  const lastOutput = items.findLastIndex(({ role }) => role === "output");
  items.splice(lastOutput < 0 ? items.length : lastOutput + 1, 0, ...left("output"));
  return items;
}

/** @param makes whether there are images to be made, so that what is given is a condition */
function partsOf(items: Item[], makes: boolean): Part[] {
  const lastLoss = items.findLastIndex(({ role }) => role === "output");
  return items.flatMap((item, i): Part[] => {
    const isTarget = item.role === "output";
    if ("text" in item) {
      return [{ type: "text", text: item.text, loss: isTarget, dropout: makes && !isTarget }];
    }
    if (!makes) return [{ type: "image", image: item.image, use: "vit", dropout: false }];
    return imageParts(item.image, isTarget, !isTarget || i < lastLoss);
  });
}
