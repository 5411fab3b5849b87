// Questions and answers about images as LLaVA and BAGEL write them, one JSON object per line: "image" is
// a path or a list of paths, "conversations" a list of turns of a human and of gpt. The reference reads
// past images without a marker and markers without an image; here both are errors, as is video.

import { InputError } from "../../errors.ts";
import { objectAt, optionalTextField } from "../records.ts";
import { imageRef } from "./image_field.ts";
import type { Part, TrainingRecord } from "./record.ts";
import {
  countMarkers,
  IMAGE_MARKER,
  imageList,
  readTurns,
  splitAtMarkers,
  splitField,
  type Turn,
} from "./turns.ts";

const ROLES = { human: "input", gpt: "output" } as const;

/**
 * A record of VLM JSONL; images are named, not looked for. What gpt says has a loss, images go to the
 * ViT, in the order of their markers; nothing is left out by dropout.
 *
 * @throws {InputError} Naming the field
 */
export function parseVlm(value: unknown, where: string): TrainingRecord {
  const fields = objectAt(value, where);
  const images = imageList(fields, "image", where)
    .map((image, i) => imageRef(image, `"image" ${i + 1}`, where));
  const turns = readTurns(fields, "conversations", where, ROLES);
  refuseVideo(fields, turns, where);
  checkMarkers(turns, images.length, where);
  let used = 0;
  const parts: Part[] = turns.flatMap(({ role, value }) => {
    const pieces = role === "input" ? splitAtMarkers(value) : [value].filter((t) => t.trim());
    return pieces.map((text): Part =>
      text === null
        ? { type: "image", image: images[used++], use: "vit", dropout: false }
        : { type: "text", text, loss: role === "output", dropout: false }
    );
  });
  if (!parts.some((part) => part.type === "text" && part.loss)) {
    const what = turns.some(({ role }) => role === "output")
      ? "only empty answers"
      : "no answer to learn";
    throw new InputError(`Cannot read ${where}: "conversations" has ${what}`, {
      help: 'Add a turn {"from": "gpt", "value": "…"} with a text',
    });
  }
  const modality = optionalTextField(fields, "modality", where);
  const dataset = optionalTextField(fields, "dataset", where);
  const split = splitField(fields, where);
  return {
    where,
    task: images.length > 0 ? "i2t" : "text",
    ...(modality === undefined ? {} : { modality }),
    ...(dataset === undefined ? {} : { dataset }),
    ...(split === undefined ? {} : { split }),
    parts,
  };
}

function refuseVideo(fields: Record<string, unknown>, turns: Turn[], where: string) {
  const help = "Write some of its frames as images, each with an <image> in the text";
  if (fields.video !== undefined && fields.video !== null) {
    throw new InputError(`Cannot read ${where}: "video" is not supported`, { help });
  }
  const turn = turns.find((t) => t.value.includes("<video>"));
  if (turn) throw new InputError(`Cannot read ${turn.where}: <video> is not supported`, { help });
}

function checkMarkers(turns: Turn[], images: number, where: string) {
  const stray = turns.find(({ role, value }) => role === "output" && countMarkers(value) > 0);
  if (stray) {
    throw new InputError(`Cannot read ${stray.where}: an answer has ${IMAGE_MARKER}`, {
      help: "Put images into turns of the human; pictures that are to be made need another format",
    });
  }
  const markers = turns.reduce((sum, { value }) => sum + countMarkers(value), 0);
  if (markers !== images) {
    throw new InputError(
      `Cannot read ${where}: "image" has ${images} images, "conversations" ${markers} ` +
        `${IMAGE_MARKER}`,
      { help: `Write ${IMAGE_MARKER} once for every image, where it stands in the text` },
    );
  }
}
