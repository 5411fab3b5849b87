// An image as a JSON record names it: a path, or the file itself as base64. And finding the files of a
// record, which must lie under its data folder.

import { InputError } from "../../errors.ts";
import { resolveInside } from "../records.ts";
import type { ImageRef, TrainingRecord } from "./record.ts";

/**
 * The image of a field: `"images/a.png"`, `"data:image/png;base64,…"`, `{"path": …}` or
 * `{"bytes": <base64>}`. The file is not looked for.
 *
 * @param field for errors, such as `"input_img" 2`
 * @throws {InputError} If it is none of these
 */
export function imageRef(value: unknown, field: string, where: string): ImageRef {
  const fail = (what: string, cause?: unknown) =>
    new InputError(`Cannot read ${where}: ${field} ${what}`, {
      help: "Give the path of an image file, relative to the data folder, or its bytes as base64",
      ...(cause === undefined ? {} : { cause }),
    });
  const decode = (base64: string): ImageRef => {
    try {
      return { name: `${where}, ${field}`, bytes: Uint8Array.fromBase64(base64) };
    } catch (cause) {
      throw fail("is not base64", cause);
    }
  };
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const { path, bytes } = value as { path?: unknown; bytes?: unknown };
    if (typeof bytes === "string" && bytes !== "") return decode(bytes);
    value = path;
  }
  if (typeof value !== "string" || value.trim() === "") {
    throw fail(`is ${(JSON.stringify(value) ?? "missing").slice(0, 60)}, expected a path`);
  }
  if (!value.startsWith("data:")) return { name: value, field };
  const [head, base64] = value.split(",", 2);
  if (!/^data:image\/[a-z+.-]+;base64$/.test(head) || base64 === undefined) {
    throw fail("is a data URL, but not data:image/…;base64,…");
  }
  return decode(base64);
}

/** Where an image is named: the record's place and, if it is known, the field. */
export function imagePlace({ field }: Pick<ImageRef, "field">, where: string): string {
  return field === undefined ? where : `${where}, ${field}`;
}

/**
 * Gives the images of a record their real paths, each file once.
 *
 * @param root real path of the data folder
 * @throws {InputError} As {@link resolveInside}
 */
export async function resolveImages(record: TrainingRecord, root: string): Promise<void> {
  const done = new Set<ImageRef>();
  for (const part of record.parts) {
    if (part.type === "text" || done.has(part.image)) continue;
    const { image } = part;
    done.add(image);
    if (image.bytes === undefined && image.pixels === undefined) {
      image.path = await resolveInside(root, image.name, imagePlace(image, record.where));
    }
  }
}
