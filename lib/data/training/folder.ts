// A plain folder: each image has a text of the same stem beside it (scan.png, scan.txt), or may have one where only
// images are wanted. Subfolders count; those named train, val or test are splits. folder.json, if there, says what is taught:
// {"task": "t2i" or "i2t", "prompt": the question of i2t, "modality": …, "dataset": …}.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import { fileReason, jsonReason } from "../jsonl.ts";
import { objectAt, optionalTextField, resolveInside } from "../records.ts";
import { ListSource } from "./list_source.ts";
import { type ImageRef, type Part, type Split, TASKS, type TrainingRecord } from "./record.ts";
import { BadRecords, type SourceOptions, splitOfName } from "./source.ts";

const SETTINGS = "folder.json";

const IMAGE = /\.(png|jpe?g|webp|tiff?|dcm|nii(\.gz)?)$/i;
const TEXT = /\.txt$/i;

/** Most bytes of one text. */
const MAX_TEXT_BYTES = 1_000_000;

/** Folders within folders that are looked into. */
const MAX_DEPTH = 8;

/** Files of one stem; a usable record has one of each. */
interface Entry {
  /** Path without extension, relative to the folder. */
  stem: string;
  images: string[];
  text?: string;
}

/** What folder.json says. */
interface Settings {
  task: "t2i" | "i2t";
  prompt?: string;
  modality?: string;
  dataset?: string;
}

/** Whether a name is that of an image or of its text. */
export function isFolderFile(name: string): boolean {
  return IMAGE.test(name) || TEXT.test(name);
}

/**
 * Opens a folder of images with texts. With `textless`, every image is a record, its text a part of it if there is one,
 * and texts alone are passed over.
 *
 * @throws {InputError} If it has no image with a text, folder.json is wrong, or more than `skipBad`
 * images or texts stand alone
 */
export async function openFolder(path: string, options: SourceOptions): Promise<ListSource> {
  const settings = await readSettings(path, options);
  const root = await Deno.realPath(path);
  const byStem = new Map<string, Entry>();
  await walk(path, "", 0, byStem);
  const entries = [...byStem.values()]
    .filter(({ stem }) => {
      const split = splitOf(stem);
      return options.split === undefined || split === undefined || split === options.split;
    })
    .sort((a, b) => a.stem < b.stem ? -1 : 1)
    .flatMap((entry) => options.textless ? eachImage(entry) : [entry]);
  const whereAt = (index: number) => {
    const { text, images: [image] } = entries[index];
    return `${path}/${options.textless ? image : text ?? image}`;
  };
  const textOf = (entry: Entry) => {
    if (!options.textless) checkEntry(entry, path);
    return entry.text === undefined ? "" : readText(path, entry.text, options.textless);
  };
  const bad = new BadRecords(options);
  const hash = createHash("sha256").update(JSON.stringify(settings));
  for (const [i, entry] of entries.entries()) {
    try {
      const text = await textOf(entry);
      const { size } = await Deno.stat(`${path}/${entry.images[0]}`);
      hash.update(`${entry.images[0]}\0${size}\0${text}\0`);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      bad.add(i, whereAt(i), error);
      hash.update(`${entry.stem}\0bad\0`);
    }
  }
  if (entries.length === 0) {
    const [what, help] = options.textless
      ? ["image", "Put images there: PNG, JPEG, WebP, TIFF, DICOM or NIfTI"]
      : ["image with a text", "Put a text beside each image, of the same name but ending in .txt"];
    throw new InputError(`Cannot use ${path}: it has no ${what}`, { help });
  }
  const readAt = async (index: number) => {
    const entry = entries[index];
    const text = await textOf(entry);
    const where = whereAt(index);
    const [name] = entry.images;
    const image = { name, path: await resolveInside(root, name, where) };
    const split = splitOf(entry.stem) ?? options.split;
    return toRecord(where, image, text, settings, split);
  };
  const tasks = new Uint8Array(entries.length).fill(TASKS.indexOf(settings.task));
  return new ListSource(
    { path, format: "folder", fingerprint: hash.digest("hex"), tasks, bad, readAt, whereAt },
    options,
  );
}

function toRecord(
  where: string,
  image: ImageRef,
  text: string,
  { task, prompt, modality, dataset }: Settings,
  split: Split | undefined,
): TrainingRecord {
  const parts: Part[] = text === ""
    ? [{ type: "image", image, use: task === "t2i" ? "noisy" : "vit", dropout: false }]
    : task === "t2i"
    ? [
      { type: "text", text, loss: false, dropout: true },
      { type: "image", image, use: "noisy", dropout: false },
    ]
    : [
      { type: "image", image, use: "vit", dropout: false },
      ...(prompt === undefined
        ? []
        : [{ type: "text", text: prompt, loss: false, dropout: false } as const]),
      { type: "text", text, loss: true, dropout: false },
    ];
  return {
    where,
    task,
    ...(modality === undefined ? {} : { modality }),
    ...(dataset === undefined ? {} : { dataset }),
    ...(split === undefined ? {} : { split }),
    parts,
  };
}

/** The split whose name a folder on the way to a file has. */
function splitOf(stem: string): Split | undefined {
  const folders = stem.split("/").slice(0, -1);
  return folders.map(splitOfName).find((split) => split !== undefined);
}

/** Symbolic links to folders are not followed: they may lead back. */
async function walk(root: string, inside: string, depth: number, found: Map<string, Entry>) {
  for await (const { name, isDirectory } of Deno.readDir(`${root}/${inside}`)) {
    const file = inside + name;
    if (name.startsWith(".")) continue;
    if (isDirectory) {
      if (depth < MAX_DEPTH) await walk(root, `${file}/`, depth + 1, found);
    } else if (isFolderFile(name)) {
      const stem = file.replace(IMAGE, "").replace(TEXT, "");
      const entry = found.get(stem) ?? { stem, images: [] };
      if (TEXT.test(name)) entry.text = file;
      else entry.images.push(file);
      found.set(stem, entry);
    }
  }
}

function checkEntry({ stem, images, text }: Entry, root: string) {
  if (images.length === 0) {
    throw new InputError(`Cannot read ${root}/${text}: it has no image beside it`, {
      help: `Put an image of the same name there, such as ${stem}.png, or remove the text`,
    });
  }
  if (text === undefined) {
    throw new InputError(`Cannot read ${root}/${images[0]}: it has no text beside it`, {
      help: `Write its text to ${stem}.txt, or remove the image`,
    });
  }
  if (images.length > 1) {
    const names = images.toSorted().join(" and ");
    throw new InputError(`Cannot read ${root}/${text}: it has several images, ${names}`, {
      help: "Give every image a name and a text of its own",
    });
  }
}

/** One entry for each image of a stem. */
function eachImage({ images, ...entry }: Entry): Entry[] {
  return images.toSorted().map((image) => ({ ...entry, images: [image] }));
}

async function readText(root: string, name: string, mayBeEmpty = false): Promise<string> {
  const path = `${root}/${name}`;
  const fail = (what: string, cause?: unknown) =>
    new InputError(`Cannot read ${path}: ${what}`, {
      help: "Write the image's text there, in UTF-8",
      ...(cause === undefined ? {} : { cause }),
    });
  let text: string;
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_TEXT_BYTES) throw fail(`it has more than ${MAX_TEXT_BYTES} bytes`);
    text = new TextDecoder("utf-8", { fatal: true }).decode(await Deno.readFile(path));
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw fail(cause instanceof TypeError ? "it is not UTF-8" : fileReason(cause), cause);
  }
  if (text.trim() === "" && !mayBeEmpty) throw fail("it is empty");
  return text.trim();
}

const FIELDS = ["task", "prompt", "modality", "dataset"];

async function readSettings(root: string, options: SourceOptions): Promise<Settings> {
  const path = `${root}/${SETTINGS}`;
  const help = `Write for example {"task": "i2t", "prompt": "Describe the image."}`;
  let value: unknown = {};
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) {
      const reason = cause instanceof SyntaxError ? jsonReason(cause) : fileReason(cause);
      throw new InputError(`Cannot read ${path}: ${reason}`, { cause, help });
    }
  }
  const fields = objectAt(value, path);
  const strange = Object.keys(fields).find((field) => !FIELDS.includes(field));
  if (strange !== undefined) {
    throw new InputError(`Cannot read ${path}: ${JSON.stringify(strange)} is no known field`, {
      help: `It may have ${FIELDS.join(", ")}`,
    });
  }
  const task = options.task ?? fields.task ?? "t2i";
  if (task !== "t2i" && task !== "i2t") {
    throw new InputError(
      `Cannot read ${path}: "task" is ${JSON.stringify(task)}, expected t2i or i2t`,
      { help },
    );
  }
  const settings: Settings = { task };
  for (const field of ["prompt", "modality", "dataset"] as const) {
    const text = optionalTextField(fields, field, path);
    if (text !== undefined) settings[field] = text;
  }
  return settings;
}
