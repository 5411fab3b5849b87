// Finds out which kind of training data a path is, and opens it.

import { InputError } from "../../errors.ts";
import { openPhantoms } from "./phantom_source.ts";
import { fileReason, readJsonLines } from "../jsonl.ts";
import { openDatasetSource } from "./dataset_source.ts";
import { isFolderFile, openFolder } from "./folder.ts";
import { openJsonl } from "./jsonl_source.ts";
import { detectParquet, openParquet } from "./parquet_source.ts";
import type { RecordSource, SourceFormat, SourceOptions } from "./source.ts";

/** What stands at a path. */
interface Found {
  path: string;
  isFile: boolean;
  /** Files by extension, sorted; a path that is a file is the only one. */
  jsonl: string[];
  parquet: string[];
  /** Names in the folder. */
  names: Set<string>;
}

/**
 * Opens training data.
 *
 * @param path a file or a folder, or `phantoms` with settings behind it (phantom_source.ts)
 * @throws {InputError} If nothing readable is there, the format cannot be told or is not the one asked
 * for, or more than `skipBad` records are unusable
 */
export async function openSource(
  path: string,
  options: SourceOptions = {},
): Promise<RecordSource> {
  const { format = "auto", name, split } = options;
  if (format === "phantoms" || format === "auto" && /^phantoms(\?|$)/.test(path)) {
    return openPhantoms(path, { ...(name ? { name } : {}), ...(split ? { split } : {}) });
  }
  const found = await look(path);
  const actual = format === "auto" ? await detect(found) : format;
  switch (actual) {
    case "unimedvl":
    case "vlm":
      return await openJsonl(path, actual, need(found.jsonl, ".jsonl", found), options);
    case "t2i":
    case "edit":
      return await openParquet(path, actual, need(found.parquet, ".parquet", found), options);
    case "folder":
      return await openFolder(needFolder(found, actual), options);
    case "medpack":
    case "vqa-rad":
      return await openDatasetSource(needFolder(found, actual), options);
  }
}

async function look(path: string): Promise<Found> {
  const found: Found = { path, isFile: false, jsonl: [], parquet: [], names: new Set() };
  const add = (name: string, file: string) => {
    const extension = /\.(jsonl|parquet)$/i.exec(name)?.[1].toLowerCase();
    if (extension && !name.startsWith(".")) found[extension as "jsonl" | "parquet"].push(file);
    found.names.add(name);
  };
  try {
    found.isFile = (await Deno.stat(path)).isFile;
    if (found.isFile) add(path, path);
    else for await (const { name } of Deno.readDir(path)) add(name, `${path}/${name}`);
  } catch (cause) {
    throw new InputError(`Cannot read training data ${path}: ${fileReason(cause)}`, {
      cause,
      help: "Check the path and its permissions",
    });
  }
  // By code units, so that the order is the same wherever it runs.
  found.jsonl.sort();
  found.parquet.sort();
  return found;
}

function need(files: string[], extension: string, { path }: Found): string[] {
  if (files.length > 0) return files;
  throw unknown(path, `it has no ${extension} file`);
}

function needFolder({ path, isFile }: Found, format: string): string {
  if (!isFile) return path;
  throw new InputError(`Cannot read training data ${path} as ${format}: it is not a folder`, {
    help: "Give the folder that holds the file",
  });
}

function unknown(path: string, why: string): InputError {
  return new InputError(`Cannot read training data ${path}: ${why}`, {
    help: "Give a .jsonl or .parquet file, or a folder of them, of images with texts, of medpack " +
      "or of VQA-RAD; experiments/formats/ has a page and a sample of each",
  });
}

async function detect(found: Found): Promise<SourceFormat> {
  const { names, jsonl, parquet, path } = found;
  if (names.has("manifest.jsonl")) return "medpack";
  if (names.has("trainset.json") || names.has("testset.json")) return "vqa-rad";
  if (jsonl.length > 0 && parquet.length > 0) {
    throw unknown(path, "it has both .jsonl and .parquet files");
  }
  if (jsonl.length > 0) return await detectJsonl(jsonl[0]);
  if (parquet.length > 0) {
    const format = await detectParquet(parquet[0]);
    if (format) return format;
    throw unknown(
      parquet[0],
      "it has neither the columns image and captions (t2i) nor image_list and instruction_list (edit)",
    );
  }
  if (!found.isFile && await hasFolderFile(path)) return "folder";
  if (found.isFile && isFolderFile(path)) {
    throw new InputError(`Cannot read training data ${path}: it is a single image or text`, {
      help: "Give the folder that holds it",
    });
  }
  throw unknown(
    path,
    found.isFile ? "it is none of the known files" : "it has none of the known files",
  );
}

/** Whether a folder or one in it has an image or a text. */
async function hasFolderFile(path: string, depth = 0): Promise<boolean> {
  const folders: string[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(path)) {
    if (isFile && isFolderFile(name)) return true;
    if (isDirectory && !name.startsWith(".")) folders.push(`${path}/${name}`);
  }
  for (const folder of folders.sort()) {
    if (depth < 2 && await hasFolderFile(folder, depth + 1)) return true;
  }
  return false;
}

/** Lines of JSONL that are looked at to tell its format. */
const MOST_LINES = 100;

async function detectJsonl(file: string): Promise<SourceFormat> {
  let looked = 0;
  for await (const entry of readJsonLines(file)) {
    const value = entry.error ? undefined : entry.value;
    if (typeof value === "object" && value !== null) {
      if ("conversations" in value) return "vlm";
      if ("message" in value || "main_task_type" in value) return "unimedvl";
    }
    if (++looked === MOST_LINES) break;
  }
  throw unknown(
    file,
    `its first lines have neither "conversations" (vlm) nor "message" (unimedvl)`,
  );
}
